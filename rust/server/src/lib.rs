//! Rushlight's HTTP and WebSocket server.
//!
//! - [`extension`]: what an extension of the server (the Python bridge) and the server ask of each other.

pub mod extension;
