//! The prompt while it runs: the submitted nodes and those that expansion added.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::prompt::{NodeId, Prompt, PromptNode};

/// A node that expansion added.
#[derive(Debug, Clone)]
struct Ephemeral {
    node: PromptNode,
    parent: NodeId,
    /// The outermost node; kept so that no lookup walks a chain of parents.
    real: NodeId,
    /// What a frontend shows it as.
    display: NodeId,
}

/// A prompt and the nodes added to it during the run. Cloning copies only the added nodes' table.
#[derive(Debug, Clone)]
pub struct DynamicPrompt {
    original: Arc<Prompt>,
    added: IndexMap<NodeId, Ephemeral>,
}

impl DynamicPrompt {
    /// A prompt with nothing added yet.
    pub fn new(original: Arc<Prompt>) -> Self {
        Self { original, added: IndexMap::new() }
    }

    /// The node of that id.
    pub fn get(&self, id: &str) -> Option<&PromptNode> {
        self.original.nodes.get(id).or_else(|| self.added.get(id).map(|added| &added.node))
    }

    /// The submitted prompt.
    pub fn original(&self) -> &Arc<Prompt> {
        &self.original
    }

    /// Whether the node was made by expansion.
    pub fn is_ephemeral(&self, id: &str) -> bool {
        self.added.contains_key(id)
    }

    /// Every id: the submitted ones, then the added ones.
    pub fn ids(&self) -> impl Iterator<Item = &NodeId> {
        self.original.nodes.keys().chain(self.added.keys())
    }

    /// Adds a node under `parent`. Returns false, and adds nothing, when the id is taken.
    pub fn add(&mut self, id: NodeId, node: PromptNode, parent: &NodeId) -> bool {
        if self.get(&id).is_some() {
            return false;
        }
        let display = node.override_display_id.clone().unwrap_or_else(|| self.display_id(parent));
        let added = Ephemeral { node, parent: parent.clone(), real: self.real_id(parent), display };
        self.added.insert(id, added);
        true
    }

    /// The node that expanded into this one.
    pub fn parent_id(&self, id: &str) -> Option<NodeId> {
        self.added.get(id).map(|added| added.parent.clone())
    }

    /// The outermost node: the id itself for a submitted node.
    pub fn real_id(&self, id: &NodeId) -> NodeId {
        self.added.get(id).map_or_else(|| id.clone(), |added| added.real.clone())
    }

    /// The id that a frontend shows: an override, else the parent's.
    pub fn display_id(&self, id: &NodeId) -> NodeId {
        if let Some(added) = self.added.get(id) {
            return added.display.clone();
        }
        let shown_as = self.original.nodes.get(id).and_then(|node| node.override_display_id.clone());
        shown_as.unwrap_or_else(|| id.clone())
    }
}
