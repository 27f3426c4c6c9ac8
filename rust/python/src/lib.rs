//! The PyO3 extension module `rushlight._rushlight`: the Python side of nodes, of the dispatcher and of tensors.
//!
//! - [`bridge`]: the Python side as an extension of the server.
//! - [`command`]: the command line in this process.
//! - [`app`]: the server, as the package sees it.
//! - [`node`]: a Python class as a node.
//! - [`dynprompt`]: the running prompt, as Python sees it.
//! - [`context`]: the running node, as Python sees it.
//! - [`follow`]: which node runs, and bars for the handlers of packs.
//! - [`value`], [`conditioning`], [`json`], [`dlpack`]: what crosses the border.
//! - [`foreign`]: memory of other libraries inside candle's tensors.
//! - [`schema`]: class descriptions.
//! - [`watch`]: ends nodes that ignore interrupts.
//! - [`thread`]: Python's state of the server's threads.
//! - [`error`]: exceptions as node errors and back.
//! - [`module`]: what the module exports.

pub mod app;
pub mod bridge;
pub mod command;
pub mod conditioning;
pub mod context;
pub mod dlpack;
pub mod dynprompt;
pub mod error;
pub mod follow;
pub mod foreign;
pub mod json;
pub mod module;
pub mod node;
pub mod schema;
pub mod thread;
pub mod value;
pub mod watch;
