//! PyTorch's own files (`.ckpt`, `.pt`, `.pth`), read without running anything in them.
//!
//! Such a file is a pickle: a program for a small stack machine that may name any Python function and
//! call it. [`pickle`] interprets the stack machine but has no functions: the handful of names that
//! stand for tensors, storages and dictionaries are understood as data, and the result of calling
//! anything else is an opaque value that nothing can be done with.
//!
//! - [`zip`]: the archive of current files
//! - [`pickle`]: the stack machine
//! - [`tensors`]: its values to tensors over the file's bytes
//!
//! The format before PyTorch 1.6 (several pickles, then raw storages) is read too.

mod pickle;
mod tensors;
mod zip;

pub(super) use tensors::read;

/// Whether a file starts like a PyTorch archive or like a bare pickle.
pub(super) fn is_torch(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || matches!(bytes, [0x80, 2..=5, ..])
}
