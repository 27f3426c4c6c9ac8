//! Group and layer normalisation.

use candle_core::{D, DType, Tensor};

use super::Activation;
use crate::error::Result;

/// `x` `[B, C, …]` normalised over each of `groups` groups of channels together with all places, then
/// scaled and shifted by channel.
///
/// # Errors
/// When the shapes do not go together.
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    activation: Activation,
) -> Result<Tensor> {
    let shape = x.dims();
    let (batch, channels) = (x.dim(0)?, x.dim(1)?);
    let grouped =
        x.to_dtype(DType::F32)?.reshape((batch, groups, x.elem_count() / (batch * groups).max(1)))?;
    let normed = normalise(&grouped, eps)?.to_dtype(x.dtype())?.reshape(shape)?;
    let mut by_channel = vec![1; shape.len()];
    if let Some(dimension) = by_channel.get_mut(1) {
        *dimension = channels;
    }
    let y = normed
        .broadcast_mul(&weight.reshape(by_channel.as_slice())?)?
        .broadcast_add(&bias.reshape(by_channel.as_slice())?)?;
    Ok(match activation {
        Activation::None => y,
        Activation::Silu => y.silu()?,
    })
}

/// `x` `[…, C]` normalised over the last dimension, then scaled and shifted.
///
/// # Errors
/// When the shapes do not go together.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let normed = normalise(&x.to_dtype(DType::F32)?, eps)?.to_dtype(x.dtype())?;
    Ok(normed.broadcast_mul(weight)?.broadcast_add(bias)?)
}

fn normalise(x: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = x.mean_keepdim(D::Minus1)?;
    let centred = x.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(centred.broadcast_div(&(variance + eps)?.sqrt()?)?)
}
