//! The HTTP and WebSocket server: everything between a socket and a running prompt.
//!
//! Threads: tokio's threads serve sockets and never compute; one OS thread a device runs prompts
//! ([`worker`]); the store has a writer thread of its own. They meet in [`queue`] (prompts on their way
//! to a worker) and in [`dispatcher`] (events on their way to clients).
//!
//! - `listen`: connections, bounded in number and time.
//! - [`settings`]: everything that can be configured, in one struct.
//! - [`server`]: start, listen, stop.
//! - [`state`]: what every route sees.
//! - [`error`]: refusals as typed JSON.
//! - [`security`]: who may ask at all: Host, Origin, Sec-Fetch and token checks.
//! - [`dispatcher`]: events on their way to clients.
//! - [`queue`]: prompts on their way to a worker; [`submit`]: from a request to there.
//! - [`worker`]: the compute threads; [`job`]: what is kept of a prompt that has ended.
//! - [`ws`]: one socket of a session.
//! - [`body`]: request bodies, bounded in size and time.
//! - [`blocking`]: work away from the threads that serve sockets; [`heavy`]: of which only so much is done at once.
//! - [`application`]: the server, as its extension sees it.
//! - [`extension`]: what an extension (the Python bridge) and the running server ask of each other.
//! - [`files`]: what the file-like routes share; [`respond`]: answers that are files; [`picture`]: bounded decoding.
//! - [`frontend`]: where the frontend's files are.
//! - [`logs`]: the last log lines.
//! - [`host`]: folders and embedded models, as nodes see them.
//! - [`routes`]: one file a resource.

pub mod application;
pub mod blocking;
pub mod body;
pub mod dispatcher;
pub mod error;
pub mod extension;
pub mod files;
pub mod frontend;
pub mod heavy;
pub mod host;
pub mod job;
mod listen;
pub mod logs;
pub mod picture;
pub mod queue;
pub mod respond;
pub mod routes;
pub mod security;
pub mod server;
pub mod settings;
pub mod state;
pub mod submit;
pub mod tls;
pub mod worker;
pub mod ws;

pub use error::ApiError;
pub use files::{DeviceInfo, Files};
pub use host::{EmbeddedModel, FolderHost};
pub use logs::LogBuffer;
pub use server::{Parts, RunningServer, Server, StartError};
pub use settings::ServerSettings;
pub use state::AppState;
