//! The prompt as a graph: pure and synchronous, no I/O, no tensors.
//!
//! - [`schema`]: what a node class takes and gives, and its `/object_info` form.
//! - [`prompt`]: the API-format prompt, parsed.
//!
//! States are types: [`prompt::Prompt`] (parsed) becomes a validated prompt with its outputs, which is what can
//! be queued and run.

pub mod prompt;
pub mod schema;

pub use prompt::{Input, Link, NodeId, Prompt, PromptNode};
pub use schema::{InputSpec, InputType, NodeSchema, OutputSpec, Presence};
