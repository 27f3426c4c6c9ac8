//! Sound as numbers: decoding, encoding, other sample rates.
//!
//! - [`decode`]: a file's first sound track; [`edits`]: how much of it is not to be heard.
//! - [`resample`]: another sample rate.
//! - [`flac`], [`opus`] in [`ogg`] pages, [`mp3`]: files; [`comments`]: the texts that go along.
//! - [`clip`]: one sound of a batch, as the writers take it.

mod clip;
pub(crate) mod comments;
pub(crate) mod decode;
mod edits;
pub(crate) mod flac;
pub(crate) mod mp3;
mod ogg;
pub(crate) mod opus;
pub(crate) mod resample;
#[cfg(test)]
mod tests;

pub(crate) use clip::{Clip, clips, failed};
