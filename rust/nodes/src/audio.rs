//! Nodes that take and give sound.

pub(crate) mod edit;
pub(crate) mod files;
