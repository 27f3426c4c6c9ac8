//! What makes two nodes give the same outputs.
//!
//! A node's key is a hash of its class, its change fingerprint, its constant inputs, and for each link the key of
//! the node at the other end and the slot. Each node is hashed once, whatever its depth: the keys of its ancestors
//! stand for all that lies behind them. Node ids are left out, so a prompt with renumbered nodes finds its outputs.

use std::collections::HashMap;

use serde_json::Value;

use crate::dynamic::DynamicPrompt;
use crate::prompt::{Input, NodeId, PromptNode};

/// Equal keys mean equal outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey([u8; 32]);

/// What the key of a node depends on beside its inputs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeyFacts {
    /// The change fingerprint, if the class has one.
    pub fingerprint: Option<Value>,
    /// The fingerprint is not equal to itself: the node always runs, and so does what depends on it.
    pub always_changed: bool,
    /// The node id is part of the key: the class is not idempotent, or sees its id.
    pub uses_id: bool,
    /// The class sees ids of linked nodes (raw links).
    pub sees_links: bool,
}

/// Keys of the nodes of a prompt; `None` for a node that must run whatever the cache holds.
#[derive(Debug, Default)]
pub struct KeyTable(HashMap<NodeId, Option<CacheKey>>);

impl KeyTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The key of a node, if it has one.
    pub fn get(&self, node: &str) -> Option<CacheKey> {
        self.0.get(node).copied().flatten()
    }

    /// Computes the keys of `nodes` and of all they depend on, each once.
    ///
    /// A node has no key when it is [`KeyFacts::always_changed`], lies on a cycle, links to nothing, or depends on
    /// one without a key.
    pub fn extend(
        &mut self,
        prompt: &DynamicPrompt,
        nodes: impl IntoIterator<Item = NodeId>,
        mut facts: impl FnMut(&NodeId, &PromptNode) -> KeyFacts,
    ) {
        let mut stack: Vec<(NodeId, bool)> = nodes.into_iter().map(|id| (id, false)).collect();
        while let Some((id, sources_known)) = stack.pop() {
            let Some(node) = prompt.get(&id) else { continue };
            if sources_known {
                let key = self.hash(&id, node, &facts(&id, node));
                self.0.insert(id, key);
            } else if !self.0.contains_key(&id) {
                // Stands for the key until it is known; a cycle that comes back here finds no key.
                self.0.insert(id.clone(), None);
                stack.push((id, true));
                let links = node.inputs.values().filter_map(Input::as_link);
                stack.extend(links.map(|link| (link.node.clone(), false)));
            }
        }
    }

    fn hash(&self, id: &NodeId, node: &PromptNode, facts: &KeyFacts) -> Option<CacheKey> {
        if facts.always_changed {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        put(&mut hasher, b'c', node.class_type.as_bytes());
        if let Some(fingerprint) = &facts.fingerprint {
            put(&mut hasher, b'f', &serde_json::to_vec(fingerprint).ok()?);
        }
        if facts.uses_id {
            put(&mut hasher, b'i', id.as_bytes());
        }
        let mut inputs: Vec<_> = node.inputs.iter().collect();
        inputs.sort_unstable_by(|a, b| a.0.cmp(b.0));
        for (name, input) in inputs {
            put(&mut hasher, b'n', name.as_bytes());
            match input {
                Input::Link(link) => {
                    put(&mut hasher, b'k', &self.get(&link.node)?.0);
                    put(&mut hasher, b's', &link.slot.to_le_bytes());
                    if facts.sees_links {
                        put(&mut hasher, b'l', link.node.as_bytes());
                    }
                }
                Input::Constant(value) => put(&mut hasher, b'v', &serde_json::to_vec(value).ok()?),
                // Nodes, unlike fingerprints, are equal when both were given NaN.
                Input::NonFinite(value) => put(&mut hasher, b'x', &value.to_bits().to_le_bytes()),
            }
        }
        Some(CacheKey(*hasher.finalize().as_bytes()))
    }
}

/// A tagged, length-prefixed field, so that no two sequences of fields hash the same bytes.
fn put(hasher: &mut blake3::Hasher, tag: u8, bytes: &[u8]) {
    hasher.update(&[tag]);
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::prompt::Prompt;

    fn keys(json: Value, facts: impl FnMut(&NodeId, &PromptNode) -> KeyFacts) -> KeyTable {
        let prompt = Prompt::from_json(&json).unwrap_or_default();
        let ids: Vec<_> = prompt.nodes.keys().cloned().collect();
        let mut table = KeyTable::new();
        table.extend(&DynamicPrompt::new(Arc::new(prompt)), ids, facts);
        table
    }

    fn node(class: &str, inputs: Value) -> Value {
        json!({ "class_type": class, "inputs": inputs })
    }

    #[test]
    fn ids_and_the_order_of_inputs_do_not_matter_but_content_does() {
        let table = keys(
            json!({
                "1": node("A", json!({"x": 1, "y": "t"})), "2": node("A", json!({"y": "t", "x": 1})),
                "3": node("A", json!({"x": 2, "y": "t"})), "4": node("B", json!({"in": ["1", 0]})),
                "5": node("B", json!({"in": ["2", 0]})), "6": node("B", json!({"in": ["2", 1]})),
                "7": node("B", json!({"in": ["3", 0]})),
            }),
            |_, _| KeyFacts::default(),
        );
        assert_eq!(table.get("1"), table.get("2"));
        assert_eq!(table.get("4"), table.get("5"));
        assert!(table.get("4").is_some());
        for other in ["3", "6", "7"] {
            assert_ne!(table.get("4"), table.get(other));
            assert_ne!(table.get("1"), table.get(other));
        }
    }

    #[test]
    fn what_always_changes_and_what_loops_has_no_key_and_spoils_what_follows() {
        let table = keys(
            json!({
                "1": node("Random", json!({})), "2": node("B", json!({"in": ["1", 0]})),
                "3": node("B", json!({"in": ["4", 0]})), "4": node("B", json!({"in": ["3", 0]})),
                "5": node("B", json!({"in": ["3", 0]})), "6": node("B", json!({"in": ["99", 0]})),
                "7": node("A", json!({})),
            }),
            |_, node| KeyFacts {
                always_changed: node.class_type.as_ref() == "Random",
                ..KeyFacts::default()
            },
        );
        for id in ["1", "2", "3", "4", "5", "6"] {
            assert_eq!(table.get(id), None, "{id}");
        }
        assert!(table.get("7").is_some());
    }

    #[test]
    fn each_node_is_asked_once_in_a_long_chain() {
        let mut json = serde_json::Map::new();
        for i in 0..100_000 {
            let inputs = if i == 0 { json!({}) } else { json!({"in": [(i - 1).to_string(), 0]}) };
            json.insert(i.to_string(), node("B", inputs));
        }
        let mut asked = 0;
        let table = keys(Value::Object(json), |_, _| {
            asked += 1;
            KeyFacts::default()
        });
        assert_eq!(asked, 100_000);
        assert!(table.get("99999").is_some());
    }

    #[test]
    fn the_id_counts_where_the_class_sees_it() {
        let uses_id = |_: &NodeId, _: &PromptNode| KeyFacts { uses_id: true, ..KeyFacts::default() };
        let table = keys(json!({"1": node("A", json!({})), "2": node("A", json!({}))}), uses_id);
        assert_ne!(table.get("1"), table.get("2"));
    }
}
