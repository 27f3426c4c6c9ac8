//! How long a run holds on to results that the cache does not keep.
//!
//! Under the classic cache every result of the prompt is kept anyway. Under the others a result is let go as soon as
//! every node that links to it has ended, so that a long chain of pictures needs memory for a few, not for all.

use std::collections::HashMap;

use rushlight_graph::{Input, Link, NodeId, Prompt, PromptNode};

/// Links of unfinished nodes to each node; empty and idle when results are kept.
#[derive(Default)]
pub(super) struct Uses {
    counts: Option<HashMap<NodeId, usize>>,
}

impl Uses {
    /// Counts the links of every node that the outputs reach, through lazy inputs too: those that are never asked
    /// for keep their sources until the run ends.
    pub(super) fn count(prompt: &Prompt, outputs: &[NodeId]) -> Self {
        let mut uses = Self { counts: Some(HashMap::new()) };
        let mut stack: Vec<&NodeId> = outputs.iter().collect();
        let mut seen: std::collections::HashSet<&NodeId> = stack.iter().copied().collect();
        while let Some(node) = stack.pop().and_then(|id| prompt.nodes.get(id)) {
            uses.add_node(node);
            stack.extend(links(node).map(|link| &link.node).filter(|id| seen.insert(id)));
        }
        uses
    }

    /// An expansion added a node.
    pub(super) fn add_node(&mut self, node: &PromptNode) {
        links(node).for_each(|link| self.add(link));
    }

    /// Something waits for a link's value.
    pub(super) fn add(&mut self, link: &Link) {
        if let Some(counts) = &mut self.counts {
            *counts.entry(link.node.clone()).or_default() += 1;
        }
    }

    /// A link is not needed any more. Returns whether it was the last one to its node.
    pub(super) fn release(&mut self, link: &Link) -> bool {
        let Some(count) = self.counts.as_mut().and_then(|counts| counts.get_mut(&link.node)) else {
            return false;
        };
        *count = count.saturating_sub(1);
        *count == 0
    }
}

/// The links of a node's inputs.
pub(super) fn links(node: &PromptNode) -> impl Iterator<Item = &Link> {
    node.inputs.values().filter_map(Input::as_link)
}
