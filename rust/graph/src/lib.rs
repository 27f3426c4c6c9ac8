//! The prompt as a graph: pure and synchronous, no I/O, no tensors.
//!
//! - [`schema`]: what a node class takes and gives, and its `/object_info` form.
//! - [`prompt`]: the API-format prompt, parsed; [`parse`] reads it from JSON.
//! - [`classes`]: what validation and planning ask of whoever knows the node classes.
//! - [`python`]: Python's conversions and number printing, which the protocol's messages are made of.
//! - [`validate`](mod@validate): `POST /prompt`'s checks.
//! - [`dynamic`]: the prompt while it runs, with the nodes that expansion added.
//! - [`plan`]: in which order nodes run.
//! - [`cache_key`]: what makes two nodes give the same outputs.
//!
//! States are types: [`prompt::Prompt`] (parsed) becomes a [`ValidPrompt`] with its outputs, which is what can
//! be queued and run. Nothing here recurses over a prompt: chains of any length are walked with explicit stacks.

pub mod cache_key;
pub mod classes;
pub mod dynamic;
pub mod parse;
pub mod plan;
pub mod prompt;
pub mod python;
pub mod schema;
pub mod validate;

pub use cache_key::{CacheKey, KeyTable};
pub use classes::{Classes, CustomValidation, LinkedOutput};
pub use dynamic::DynamicPrompt;
pub use plan::{ExecutionList, GraphView};
pub use prompt::{Input, Link, NodeId, Prompt, PromptNode};
pub use schema::{InputSpec, InputType, NodeSchema, OutputSpec, Presence};
pub use validate::{ValidPrompt, validate};
