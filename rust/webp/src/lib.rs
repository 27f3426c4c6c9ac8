//! WebP files by libwebp: pictures and animations, lossy and lossless.
//!
//! - [`Picture`], [`Options`]: what is encoded, and how.
//! - [`encode`]: a file of one picture.
//! - [`Animation`]: a file of many.

mod animation;
mod picture;
mod still;

pub use animation::Animation;
pub use picture::{Error, Options, Picture};
pub use still::encode;

#[cfg(test)]
mod tests;
