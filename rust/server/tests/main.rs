//! The server through real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod files;
mod suite;
