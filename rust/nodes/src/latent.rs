//! Nodes that take and give latents.

pub(crate) mod empty;
pub(crate) mod transform;
