//! The server through real sockets.

mod files;
mod suite;
