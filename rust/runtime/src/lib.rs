//! Runs one prompt on one device.
//!
//! - [`value`]: what flows along links.
//! - [`node`]: the [`Node`] trait, its inputs and outputs.
//! - [`context`]: what a running node sees of its run: identity, progress, interrupt, files.
//! - [`follower`]: who hears of a run beside its clients.
//! - [`host`]: files and models, as the rest of the program offers them.
//! - [`placement`]: which engine runs which node.
//! - [`registry`]: class name → node.
//! - [`error`]: how a node fails.
//! - [`class_table`]: the registry's schemas, each made once.
//! - [`job`]: what an executor is given and gives back.
//! - [`executor`]: the walk over a prompt's nodes.
//! - [`cache`]: outputs kept between runs.
//! - [`secret`]: keeps access tokens out of what is told.

pub mod cache;
pub mod class_table;
pub mod context;
pub mod error;
pub mod executor;
pub mod follower;
pub mod host;
pub mod job;
pub mod node;
pub mod placement;
pub mod registry;
pub mod secret;
pub mod value;

pub use cache::CachePolicy;
pub use class_table::ClassTable;
pub use context::{CancelToken, EventSink, NodeContext, NodeIdentity, RunContext};
pub use error::NodeError;
pub use executor::{DynPrompt, Executor, ExecutorOptions};
pub use follower::RunFollower;
pub use host::Host;
pub use job::{Job, Outcome};
pub use node::{Execution, Expansion, ExpansionResult, Fingerprint, Inputs, Node, NodeOutput, Validation};
pub use placement::{Engines, Placement};
pub use registry::Registry;
pub use value::{Audio, Blocker, Foreign, Latent, Object, Value};
