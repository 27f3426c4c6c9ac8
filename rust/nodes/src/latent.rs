//! Nodes that take and give latents.

pub(crate) mod empty;
pub(crate) mod file;
pub(crate) mod operation;
pub(crate) mod ops;
pub(crate) mod place;
pub(crate) mod transform;
