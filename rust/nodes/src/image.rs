//! Nodes that take and give pictures.

pub(crate) mod animation;
pub(crate) mod basic;
mod canny;
pub(crate) mod compose;
pub(crate) mod dataset;
pub(crate) mod filter;
pub(crate) mod fit;
pub(crate) mod io;
pub(crate) mod ltxv;
pub(crate) mod quantize;
pub(crate) mod resize_any;
pub(crate) mod scale;
pub(crate) mod tracks;
