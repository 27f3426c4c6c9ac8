//! The command line as a library, shared by the binary and the Python wheel.
//!
//! - [`args`]: the options. [`config`]: the same from a TOML file.
//! - [`workflow`]: where `run` finds its graph.
//! - [`terminal`]: progress and pictures in the terminal.

pub mod args;
pub mod config;
pub mod terminal;
pub mod workflow;
