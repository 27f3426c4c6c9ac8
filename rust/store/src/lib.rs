//! What must survive.
//!
//! - [`folders`]: the input, output, temp and user folders, model folders, safe names, atomic writes.

pub mod folders;

pub use folders::Folders;
