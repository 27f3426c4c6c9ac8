//! Pictures as numbers: decoding, encoding, resizing.
//!
//! - [`pixels`]: a batch on the host.
//! - [`resize`]: PyTorch's interpolations; [`lanczos`]: PIL's; [`bislerp`]: spherical.
//! - [`palette`]: few colours that stand for many.
//! - [`decode`], [`encode`], [`webp`]: files.

pub(crate) mod bislerp;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod lanczos;
pub(crate) mod palette;
pub(crate) mod pixels;
pub(crate) mod resize;
pub(crate) mod webp;

pub(crate) use pixels::Pixels;
pub(crate) use resize::Method;
