//! The API-format prompt: node id → class and inputs.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

/// Id of a node in a prompt, such as `"3"`, or `"3.0.7"` for one made by expansion.
pub type NodeId = Arc<str>;

/// A link to an output of another node: `["3", 0]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    /// The node that gives the value.
    pub node: NodeId,
    /// Its output; negative slots count from the end, as Python indexes do.
    pub slot: i64,
}

impl Link {
    /// The slot as an index into `len` outputs, or `None` if there is no such output.
    pub fn index(&self, len: usize) -> Option<usize> {
        let len = i64::try_from(len).ok()?;
        let index = if self.slot < 0 { self.slot.checked_add(len)? } else { self.slot };
        (0..len).contains(&index).then(|| usize::try_from(index).ok()).flatten()
    }
}

/// One input as written in the prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The value comes from another node.
    Link(Link),
    /// The value stands in the prompt (`{"__value__": […]}` already unwrapped).
    Constant(Value),
    /// A FLOAT that JSON cannot hold: `nan` or an infinity, converted from text.
    NonFinite(f64),
}

impl Input {
    /// The link, if it is one.
    pub fn as_link(&self) -> Option<&Link> {
        match self {
            Input::Link(link) => Some(link),
            Input::Constant(_) | Input::NonFinite(_) => None,
        }
    }
}

/// One node of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptNode {
    /// Class name.
    pub class_type: Arc<str>,
    /// Inputs in the order they were written.
    pub inputs: IndexMap<Arc<str>, Input>,
    /// `_meta.title`, for messages.
    pub title: Option<Arc<str>>,
    /// Set on nodes made by expansion that are shown as another node.
    pub override_display_id: Option<NodeId>,
}

/// A parsed prompt; nothing is known yet of whether it can run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prompt {
    /// Nodes in the order they were written.
    pub nodes: IndexMap<NodeId, PromptNode>,
}
