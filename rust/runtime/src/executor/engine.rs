//! The executor and what it keeps between runs.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Device;
use parking_lot::RwLock;
use rushlight_graph::{DynamicPrompt, NodeId};

use super::walk::Walk;
use crate::cache::{CachePolicy, OutputCache};
use crate::class_table::ClassTable;
use crate::context::{RunContext, StateSlot};
use crate::host::Host;
use crate::job::{Job, Outcome};

/// How an executor works.
#[derive(Debug, Clone, Default)]
pub struct ExecutorOptions {
    /// What is kept between runs.
    pub cache: CachePolicy,
}

/// The prompt as it stands, for nodes that ask for `DYNPROMPT`: an object value of kind `DYNPROMPT`.
#[derive(Debug, Clone)]
pub struct DynPrompt(pub Arc<RwLock<DynamicPrompt>>);

/// State that a node keeps between runs.
struct Slot {
    state: StateSlot,
    /// The outermost node: the state lives as long as prompts have it.
    root: NodeId,
}

/// Runs prompts on one device. Owned by that device's compute thread.
pub struct Executor {
    pub(super) classes: Arc<ClassTable>,
    host: Arc<dyn Host>,
    device: Device,
    pub(super) cache: OutputCache,
    slots: HashMap<(NodeId, Arc<str>), Slot>,
}

impl Executor {
    /// An executor with an empty cache.
    pub fn new(
        classes: Arc<ClassTable>,
        host: Arc<dyn Host>,
        device: Device,
        options: ExecutorOptions,
    ) -> Self {
        Self { classes, host, device, cache: OutputCache::new(options.cache), slots: HashMap::new() }
    }

    /// The node classes.
    pub fn classes(&self) -> &Arc<ClassTable> {
        &self.classes
    }

    /// Files and models.
    pub fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// Where tensors live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Runs a prompt to its end. Events go to `run` as they happen, except the one that ends it: that is in the
    /// outcome, to be sent when history is written.
    pub fn run(&mut self, job: &Job, run: Arc<RunContext>) -> Outcome {
        Walk::new(self, job, run).finish()
    }

    /// Gives memory back: loaded models, and with `free_memory` also every cached output and node state.
    pub fn free(&mut self, unload_models: bool, free_memory: bool) {
        if free_memory {
            self.cache.clear();
            self.slots.clear();
        }
        if unload_models {
            for (_, node) in self.classes.registry().iter() {
                node.release();
            }
        }
    }

    /// The state of a node, made when it is first asked for.
    pub(super) fn slot(&mut self, node: &NodeId, class: &Arc<str>, root: NodeId) -> StateSlot {
        let slot = self.slots.entry((node.clone(), class.clone()));
        slot.or_insert_with(|| Slot { state: StateSlot::default(), root }).state.clone()
    }

    /// Drops the states of nodes that the prompt does not have.
    pub(super) fn retain_slots(&mut self, job: &Job) {
        self.slots.retain(|(node, class), slot| match job.prompt.nodes.get(&slot.root) {
            Some(root) => slot.root != *node || root.class_type == *class,
            None => false,
        });
    }
}
