//! `POST /prompt`'s checks: [`Prompt`](crate::Prompt) → [`ValidPrompt`].
//!
//! - `prompt`: a whole prompt.
//! - `walk`: from each wanted output through its links, each node once.
//! - `node`: one node's inputs against its schema.
//! - `constant`: conversion and range checks of one constant.
//! - `dynamic_inputs`: inputs that exist only for certain values of others.
//! - `errors`: the wire form of each fault.

mod constant;
mod dynamic_inputs;
mod errors;
mod node;
mod prompt;
mod walk;

pub use dynamic_inputs::{declared_inputs, find_declared};
pub use prompt::{ValidPrompt, revive, validate};

#[cfg(test)]
mod tests;
