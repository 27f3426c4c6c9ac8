//! Two-dimensional convolution.

use candle_core::Tensor;

use crate::error::Result;

/// `x` `[B, in, H, W]`, `weight` `[out, in, kh, kw]`, `bias` `[out]` to `[B, out, H', W']`.
///
/// # Errors
/// When the shapes do not go together.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let y = x.conv2d(weight, padding, stride, 1, 1)?;
    Ok(match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((1, bias.elem_count(), 1, 1))?)?,
        None => y,
    })
}
