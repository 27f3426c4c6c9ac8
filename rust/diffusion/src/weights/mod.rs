//! From a file's bytes to tensors: the safetensors header or PyTorch's pickle, the state dict, and the lazily
//! converted, optionally patched weights that a model is built from.
//!
//! A file's tensors stay in the file's own dtype (usually memory-mapped) until a model asks for
//! them; nothing is allocated on the word of a header.

mod dtype;
mod eight_bit;
mod header;
pub mod layouts;
mod state_dict;
mod store;
mod torch;
mod writer;

pub use dtype::FileDtype;
pub use header::{Limits, MAX_HEADER_BYTES};
pub use state_dict::{Entry, StateDict};
pub use store::{Patch, PatchSet, Weights};
pub use writer::to_safetensors;
