//! The HTTP and WebSocket server: everything between a socket and a running prompt.
//!
//! Threads: tokio's threads serve sockets and never compute; one OS thread a device runs prompts
//! ([`worker`]); the store has a writer thread of its own. They meet in [`queue`] (prompts on their way
//! to a worker) and in [`dispatcher`] (events on their way to clients).
//!
//! - [`settings`]: everything that can be configured, in one struct.
//! - [`server`]: start, listen, stop.
//! - [`state`]: what every route sees.
//! - [`error`]: refusals as typed JSON.
//! - [`security`]: who may ask at all: Host, Origin, Sec-Fetch and token checks.
//! - [`dispatcher`]: events on their way to clients.
//! - [`body`]: request bodies, bounded in size and time.
//! - [`extension`]: what an extension (the Python bridge) and the running server ask of each other.
//! - [`host`]: folders and embedded models, as nodes see them.
//! - [`routes`]: one file a resource.

pub mod body;
pub mod dispatcher;
pub mod error;
pub mod extension;
pub mod host;
pub mod routes;
pub mod security;
pub mod server;
pub mod settings;
pub mod state;

pub use error::ApiError;
pub use host::{EmbeddedModel, FolderHost};
pub use server::{Parts, RunningServer, Server, StartError};
pub use settings::ServerSettings;
pub use state::AppState;
