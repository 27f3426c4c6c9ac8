//! Runs one prompt on one device.
//!
//! - [`value`]: what flows along links.
//! - [`node`]: the [`Node`] trait, its inputs and outputs.
//! - [`context`]: what a running node sees of its run: identity, progress, interrupt, files.
//! - [`host`]: files and models, as the rest of the program offers them.
//! - [`registry`]: class name → node.
//! - [`error`]: how a node fails.

pub mod context;
pub mod error;
pub mod host;
pub mod node;
pub mod registry;
pub mod value;

pub use context::{CancelToken, EventSink, NodeContext, NodeIdentity, RunContext};
pub use error::NodeError;
pub use host::Host;
pub use node::{Execution, Expansion, ExpansionResult, Fingerprint, Inputs, Node, NodeOutput, Validation};
pub use registry::Registry;
pub use value::{Audio, Blocker, Latent, Object, Value};
