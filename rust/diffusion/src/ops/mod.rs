//! The heavy operations, each once: a fast path for `f32` on the CPU where candle's own is slow, and
//! candle's operations everywhere else.

mod attention;
mod conv;
mod norm;

pub use attention::{Mask, attention};
pub use conv::conv2d;
pub use norm::{group_norm, layer_norm};

use candle_core::Tensor;

use crate::error::Result;

/// A function applied to every element after an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `x · sigmoid(x)`.
    Silu,
}

/// `x · Wᵀ + b` over the last dimension: `[…, in]`, `[out, in]`, `[out]` to `[…, out]`.
///
/// # Errors
/// When the shapes do not go together.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, width) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    // One matrix product over all rows: batched products cost more.
    let rows = x.elem_count() / width.max(1);
    let y = x.reshape((rows, width))?.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    Ok(y.reshape(shape)?)
}

/// The first half of the last dimension times the exact gelu of the second half.
///
/// # Errors
/// When the last dimension is odd.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let halves = x.chunk(2, candle_core::D::Minus1)?;
    match halves.as_slice() {
        [value, gate] => Ok((value * gate.contiguous()?.gelu_erf()?)?),
        _ => Err(crate::Error::shape("gated layer", "an even last dimension", x.dims())),
    }
}
