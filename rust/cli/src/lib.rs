//! The command line as a library, shared by the binary and the Python wheel.
//!
//! - [`args`]: the options; [`upstream_args`]: those without meaning here. [`config`]: the same from a TOML file.
//! - [`serve`], [`run`], [`nodes`], [`doctor`]: one command each.
//! - [`environment`]: folders, the embedded checkpoint, node classes, device. [`signals`]: what ends a server.
//! - [`workflow`]: where `run` finds its graph.
//! - [`terminal`]: progress and pictures in the terminal.

pub mod args;
pub mod config;
pub mod doctor;
mod entry;
pub mod environment;
pub mod nodes;
pub mod run;
pub mod serve;
pub mod signals;
pub mod terminal;
pub mod upstream_args;
pub mod workflow;

pub use entry::main;
pub use serve::ExtensionFactory;
