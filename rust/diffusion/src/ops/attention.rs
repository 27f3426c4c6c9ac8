//! Scaled dot-product attention.

use candle_core::{D, DType, Tensor};

use crate::error::Result;

/// Which keys a query sees.
#[derive(Debug, Clone, Copy)]
pub enum Mask<'a> {
    /// All of them.
    None,
    /// Those up to its own place.
    Causal,
    /// `[B or 1, heads or 1, queries, keys]`, added to the scores.
    Additive(&'a Tensor),
}

/// Scores held at once, in elements: bounds the memory of long sequences.
const MAX_SCORES: usize = 64 << 20;

/// `q` `[B, T, heads·D]`, `k` and `v` `[B, S, heads·D]` to `[B, T, heads·D]`.
///
/// # Errors
/// When the shapes do not go together.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, mask: Mask) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let keys = k.dim(1)?;
    let split = |x: &Tensor, len: usize| -> Result<Tensor> {
        Ok(x.reshape((x.dim(0)?, len, heads, width / heads.max(1)))?.transpose(1, 2)?.contiguous()?)
    };
    let (q, k, v) = (split(q, queries)?, split(k, keys)?, split(v, keys)?);
    let scale = 1.0 / ((width / heads.max(1)) as f64).sqrt();
    let keys_t = k.transpose(2, 3)?.contiguous()?;
    let causal = match mask {
        Mask::Causal => Some(causal_mask(queries, keys, &q)?),
        _ => None,
    };
    let mask = match mask {
        Mask::Additive(mask) => Some(mask),
        _ => causal.as_ref(),
    };

    let chunk = (MAX_SCORES / (batch * heads * keys).max(1)).clamp(1, queries.max(1));
    let mut parts = Vec::with_capacity(queries.div_ceil(chunk));
    for start in (0..queries).step_by(chunk) {
        let count = chunk.min(queries - start);
        let mut scores = (q.narrow(2, start, count)?.contiguous()?.matmul(&keys_t)? * scale)?;
        if let Some(mask) = mask {
            let rows = if mask.dim(2)? == 1 { mask.clone() } else { mask.narrow(2, start, count)? };
            scores = scores.broadcast_add(&rows.to_dtype(scores.dtype())?)?;
        }
        let weights = candle_nn::ops::softmax_last_dim(&scores.to_dtype(DType::F32)?)?.to_dtype(v.dtype())?;
        parts.push(weights.matmul(&v)?);
    }
    let out = if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, D::Minus2)? };
    Ok(out.transpose(1, 2)?.reshape((batch, queries, width))?)
}

fn causal_mask(queries: usize, keys: usize, like: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = (0..queries)
        .flat_map(|i| (0..keys).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Ok(Tensor::from_vec(values, (1, 1, queries, keys), like.device())?)
}
