//! What no permissive library does: codecs that an `ffmpeg` executable of the user's has.
//!
//! - [`find`]: where the executable is.
//! - [`ffmpeg`]: one run of it: pipes, limits, interrupts, a private folder.
//! - [`decode`]: files from outside that nothing else reads.
//! - [`h264`]: a picture as it is after compression; [`video`]: whole videos.

pub(crate) mod decode;
pub(crate) mod ffmpeg;
pub(crate) mod find;
pub(crate) mod h264;
pub(crate) mod video;
