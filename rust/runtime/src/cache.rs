//! Outputs of earlier calls, by content key.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use candle_core::Tensor;
use rushlight_graph::{CacheKey, NodeId};
use rushlight_protocol::NodeMeta;
use serde_json::Value as Json;

use crate::value::Value;

/// What a node gave: one list of values an output, and what it showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeResult {
    /// Values by output slot; usually one each.
    pub(crate) slots: Vec<Arc<Vec<Value>>>,
    /// The UI output and whose it was.
    pub(crate) ui: Option<UiOutput>,
}

/// A UI output with its origin.
#[derive(Debug, Clone)]
pub(crate) struct UiOutput {
    pub(crate) output: Arc<Json>,
    pub(crate) meta: NodeMeta,
}

/// What an executor keeps between runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CachePolicy {
    /// What the newest prompt uses.
    #[default]
    Classic,
    /// The results used last, at most this many; 0 is [`CachePolicy::Classic`].
    Lru(usize),
    /// The results used last that fit in this many bytes.
    Ram(u64),
    /// Nothing.
    None,
}

impl CachePolicy {
    /// The policy with `--cache-lru 0` read as the classic cache.
    fn effective(self) -> Self {
        if self == CachePolicy::Lru(0) { CachePolicy::Classic } else { self }
    }
}

struct Entry {
    result: Arc<NodeResult>,
    bytes: u64,
    /// When it was last used, in uses of the whole cache.
    stamp: u64,
    /// The run that last used it.
    run: u64,
    /// For nodes made by expansion: the outermost node.
    root: Option<NodeId>,
}

/// Results by key, kept by a [`CachePolicy`].
pub(crate) struct OutputCache {
    policy: CachePolicy,
    entries: HashMap<CacheKey, Entry>,
    /// Keys by the time of their last use, oldest first.
    by_use: BTreeMap<u64, CacheKey>,
    bytes: u64,
    clock: u64,
    run: u64,
    /// The last run in which a node of the submitted prompt expanded: what its expansions left before is stale.
    expanded: HashMap<NodeId, u64>,
}

impl OutputCache {
    pub(crate) fn new(policy: CachePolicy) -> Self {
        Self {
            policy: policy.effective(),
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
            bytes: 0,
            clock: 0,
            run: 0,
            expanded: HashMap::new(),
        }
    }

    pub(crate) fn policy(&self) -> CachePolicy {
        self.policy
    }

    /// A run begins whose prompt has these keys and nodes. The classic cache drops what it does not use.
    pub(crate) fn begin_run(&mut self, keys: &HashSet<CacheKey>, has_node: impl Fn(&str) -> bool) {
        self.run += 1;
        self.expanded.retain(|root, _| has_node(root));
        if self.policy != CachePolicy::Classic {
            return;
        }
        let expanded = &self.expanded;
        let used = |key: &CacheKey, entry: &Entry| {
            let fresh = |root: &NodeId| expanded.get(root).is_some_and(|&run| entry.run >= run);
            keys.contains(key) || entry.root.as_ref().is_some_and(fresh)
        };
        let stale: Vec<_> =
            self.entries.iter().filter(|(key, entry)| !used(key, entry)).map(|(key, _)| *key).collect();
        for key in stale {
            self.remove(&key);
        }
    }

    /// A node of the submitted prompt expands in this run.
    pub(crate) fn note_expansion(&mut self, root: NodeId) {
        self.expanded.insert(root, self.run);
    }

    pub(crate) fn get(&mut self, key: &CacheKey) -> Option<Arc<NodeResult>> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        self.by_use.remove(&entry.stamp);
        entry.stamp = self.clock;
        entry.run = self.run;
        self.by_use.insert(entry.stamp, *key);
        Some(entry.result.clone())
    }

    pub(crate) fn put(&mut self, key: CacheKey, result: Arc<NodeResult>, root: Option<NodeId>) {
        if self.policy == CachePolicy::None {
            return;
        }
        self.remove(&key);
        self.clock += 1;
        let bytes = result_bytes(&result);
        self.bytes += bytes;
        self.by_use.insert(self.clock, key);
        self.entries.insert(key, Entry { result, bytes, stamp: self.clock, run: self.run, root });
        while self.is_over() {
            let Some((_, oldest)) = self.by_use.first_key_value().map(|(stamp, key)| (*stamp, *key)) else {
                break;
            };
            self.remove(&oldest);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.by_use.clear();
        self.expanded.clear();
        self.bytes = 0;
    }

    fn is_over(&self) -> bool {
        match self.policy {
            CachePolicy::Lru(count) => self.entries.len() > count,
            CachePolicy::Ram(bytes) => self.bytes > bytes,
            CachePolicy::Classic | CachePolicy::None => false,
        }
    }

    fn remove(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.stamp);
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }
}

/// Bytes that a result holds on to, as far as they can be seen: objects such as models count little, because their
/// loaders own them.
fn result_bytes(result: &NodeResult) -> u64 {
    let ui = result.ui.as_ref().map_or(0, |ui| ui.output.to_string().len() as u64);
    let values = result.slots.iter().flat_map(|slot| slot.iter());
    64 + ui + values.map(value_bytes).sum::<u64>()
}

fn value_bytes(value: &Value) -> u64 {
    // Lists within lists come from nodes, not from prompts, and are walked without recursion all the same.
    let mut stack = vec![value];
    let mut bytes = 0;
    while let Some(value) = stack.pop() {
        bytes += 32
            + match value {
                Value::Image(tensor) | Value::Mask(tensor) | Value::Sigmas(tensor) => tensor_bytes(tensor),
                Value::Latent(latent) => {
                    tensor_bytes(&latent.samples) + latent.noise_mask.as_ref().map_or(0, tensor_bytes)
                }
                Value::Audio(audio) => tensor_bytes(&audio.waveform),
                Value::String(text) => text.len() as u64,
                Value::List(items) => {
                    stack.extend(items.iter());
                    0
                }
                _ => 0,
            };
    }
    bytes
}

fn tensor_bytes(tensor: &Tensor) -> u64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
}
