//! Runs prompts, one after the other, on the thread that owns it.
//!
//! - `engine`: the [`Executor`] and what it keeps between runs.
//! - `walk`: one run, from `execution_start` to its [`Outcome`](crate::Outcome).
//! - `step`: one node: cached, asked for lazy inputs, called, finished.
//! - `inputs`: the lists that a node is called with.
//! - `call`: calls over those lists; panics are caught here.
//! - `merge`: results of several calls as one.
//! - `expand`: graphs that nodes put in their own place.
//! - `uses`: how long results are held.
//! - `view`: what planning and cache keys ask of the run.
//! - `report`: errors as clients see them.
//!
//! Nothing here waits for a socket, a file or a client; only nodes take time.

mod call;
mod engine;
mod expand;
mod inputs;
mod merge;
mod report;
mod step;
mod uses;
mod view;
mod walk;

pub use engine::{DynPrompt, Executor, ExecutorOptions};
