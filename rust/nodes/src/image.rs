//! Nodes that take and give pictures.

pub(crate) mod io;
pub(crate) mod scale;
