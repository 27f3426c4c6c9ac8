//! The heavy operations, each once: a fast path for `f32` on the CPU where candle's own is slow, and
//! candle's operations everywhere else.

mod attention;
mod conv;
mod cpu;
mod linear;
mod norm;
mod weight;

pub use attention::{Mask, attention, attention_received};
pub use conv::conv2d;
pub use linear::{geglu, linear};
pub use norm::{group_norm, layer_norm};
pub use weight::Weight;

/// A function applied to every element after an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `x · sigmoid(x)`.
    Silu,
}
