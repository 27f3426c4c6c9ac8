//! Scaled dot-product attention.

use candle_core::{D, DType, Device, Tensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::cpu::{self, Place, SharedBuffer};
use crate::error::{Error, Result};

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
    if heads == 0 || width % heads != 0 || k.dims() != [batch, keys, width] || v.dims() != k.dims() {
        let expected = format!("[{batch}, S, {width}] for {heads} heads");
        return Err(Error::shape("keys and values of attention", expected, k.dims()));
    }
    if cpu::is_narrow_on_cpu(q) {
        let wide = |x: &Tensor| x.to_dtype(DType::F32);
        return Ok(attention(&wide(q)?, &wide(k)?, &wide(v)?, heads, mask)?.to_dtype(q.dtype())?);
    }
    if !matches!(mask, Mask::Additive(_)) && cpu::is_f32_on_cpu(&[q, k, v]) {
        return on_cpu(q, k, v, heads, matches!(mask, Mask::Causal));
    }
    let split = |x: &Tensor, len: usize| -> Result<Tensor> {
        Ok(x.reshape((x.dim(0)?, len, heads, width / heads))?.transpose(1, 2)?.contiguous()?)
    };
    let (q, k, v) = (split(q, queries)?, split(k, keys)?, split(v, keys)?);
    let scale = 1.0 / ((width / heads) as f64).sqrt();
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

/// How much each key is looked at: attention weights averaged over heads and summed over queries. `q` `[B, T, heads·D]`
/// and `k` `[B, S, heads·D]` to `[B, S]`. All weights exist at once, so this is for small maps.
///
/// # Errors
/// When the shapes do not go together.
pub fn attention_received(q: &Tensor, k: &Tensor, heads: usize) -> Result<Tensor> {
    let (_, _, width) = q.dims3()?;
    if heads == 0 || width % heads != 0 {
        return Err(Error::shape("queries of attention", format!("[B, T, a multiple of {heads}]"), q.dims()));
    }
    let split = |x: &Tensor| -> Result<Tensor> {
        let (batch, length, _) = x.dims3()?;
        Ok(x.reshape((batch, length, heads, width / heads))?.transpose(1, 2)?.contiguous()?)
    };
    if cpu::is_narrow_on_cpu(q) {
        return attention_received(&q.to_dtype(DType::F32)?, &k.to_dtype(DType::F32)?, heads);
    }
    let scale = 1.0 / ((width / heads) as f64).sqrt();
    let scores = (split(q)?.matmul(&split(k)?.transpose(2, 3)?.contiguous()?)? * scale)?;
    let weights = candle_nn::ops::softmax_last_dim(&scores.to_dtype(DType::F32)?)?;
    Ok(weights.mean(1)?.sum(1)?)
}

fn causal_mask(queries: usize, keys: usize, like: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = (0..queries)
        .flat_map(|i| (0..keys).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Ok(Tensor::from_vec(values, (1, 1, queries, keys), like.device())?)
}

/// Queries that a thread works on at a time, and keys that it compares them with at once: their scores (a quarter of a megabyte)
/// stay in its cache, and the product packs each key for many queries.
const QUERY_BLOCK: usize = 256;
const KEY_BLOCK: usize = 256;

/// Block by block: scores, their part of the softmax and of the weighted sum of the values, before the next block's
/// scores overwrite them ("online softmax": Milakov and Gimelshein 2018; "FlashAttention": Dao et al. 2022). Heads are
/// read and written in place, so nothing is transposed.
fn on_cpu(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let keys = k.dim(1)?;
    let head = width / heads;
    let scale = 1.0 / (head as f32).sqrt();
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let out = cpu::with_slices([&q, &k, &v], |[q, k, v]| {
        let mut out = vec![0.0; batch * queries * width];
        let dst = SharedBuffer::new(&mut out);
        let blocks = queries.div_ceil(QUERY_BLOCK);
        (0..batch * heads * blocks).into_par_iter().for_each_init(Scratch::default, |scratch, job| {
            let (image, h, first) = (job / blocks / heads, job / blocks % heads, job % blocks * QUERY_BLOCK);
            let count = QUERY_BLOCK.min(queries - first);
            let Scratch { scores, sums, rows } = scratch;
            sums.clear();
            sums.resize(count * head, 0.0);
            rows.clear();
            rows.resize(count, Row::default());
            let tokens = |length: usize, first: usize| Place {
                offset: (image * length + first) * width + h * head,
                row_stride: width,
                column_stride: 1,
            };
            // Causal queries see no key after the last of them.
            let seen = if causal { (first + count).min(keys) } else { keys };
            for first_key in (0..seen).step_by(KEY_BLOCK) {
                let block = KEY_BLOCK.min(seen - first_key);
                scores.resize(count * block, 0.0);
                let score_rows = Place { offset: 0, row_stride: block, column_stride: 1 };
                let keys_transposed =
                    Place { row_stride: 1, column_stride: width, ..tokens(keys, first_key) };
                // SAFETY: the scores are this thread's own.
                unsafe {
                    cpu::product(
                        (count, block, head),
                        SharedBuffer::new(scores),
                        score_rows,
                        false,
                        q,
                        tokens(queries, first),
                        k,
                        keys_transposed,
                        Parallelism::None,
                    );
                }
                let sum_rows = sums.chunks_mut(head);
                for (index, ((scores, sums), row)) in
                    scores.chunks_mut(block).zip(sum_rows).zip(rows.iter_mut()).enumerate()
                {
                    let seen =
                        if causal { (first + index + 1).saturating_sub(first_key).min(block) } else { block };
                    let (seen, unseen) = scores.split_at_mut(seen);
                    weigh(seen, sums, row, scale);
                    unseen.fill(0.0);
                }
                // SAFETY: the sums are this thread's own.
                unsafe {
                    cpu::product(
                        (count, head, block),
                        SharedBuffer::new(sums),
                        Place { offset: 0, row_stride: head, column_stride: 1 },
                        true,
                        scores,
                        score_rows,
                        v,
                        tokens(keys, first_key),
                        Parallelism::None,
                    );
                }
            }
            let place = tokens(queries, first);
            for (index, (sums, row)) in sums.chunks(head).zip(&*rows).enumerate() {
                // SAFETY: each job writes the rows of its own queries in the columns of its own head.
                let out = unsafe { dst.slice(place.offset + index * width, head) };
                let factor = 1.0 / row.total;
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * factor);
            }
        });
        Ok(out)
    })?;
    Ok(Tensor::from_vec(out, (batch, queries, width), &Device::Cpu)?)
}

/// What a thread works with.
#[derive(Default)]
struct Scratch {
    /// `[queries, keys]` of a block.
    scores: Vec<f32>,
    /// Weighted sums of the values so far, `[queries, head]`.
    sums: Vec<f32>,
    rows: Vec<Row>,
}

/// The softmax of one query as far as its keys have been seen.
#[derive(Clone, Copy)]
struct Row {
    /// The highest score.
    highest: f32,
    /// The sum of the weights, as multiples of the highest score's.
    total: f32,
}

impl Default for Row {
    fn default() -> Self {
        Self { highest: f32::NEG_INFINITY, total: 0.0 }
    }
}

#[inline(always)]
fn weigh_body(scores: &mut [f32], sums: &mut [f32], row: &mut Row, scale: f32) {
    if scores.is_empty() {
        return;
    }
    let mut lanes = [row.highest; 8];
    let (eights, rest) = scores.as_chunks::<8>();
    for eight in eights {
        for (lane, score) in lanes.iter_mut().zip(eight) {
            *lane = if *score > *lane { *score } else { *lane };
        }
    }
    let highest = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    if row.total > 0.0 && highest > row.highest {
        let correction = cpu::exp((row.highest - highest) * scale);
        row.total *= correction;
        sums.iter_mut().for_each(|sum| *sum *= correction);
    }
    row.highest = highest;
    // A loop of its own: together with the sums the compiler does not vectorise it, which takes five times as long.
    for score in scores.iter_mut() {
        *score = cpu::exp((*score - highest) * scale);
    }
    let mut totals = [0.0f32; 8];
    let (eights, rest) = scores.as_chunks::<8>();
    for eight in eights {
        for (total, score) in totals.iter_mut().zip(eight) {
            *total += *score;
        }
    }
    row.total += totals.iter().sum::<f32>() + rest.iter().sum::<f32>();
}

cpu::vectorised! {
    /// Scores of one query to weights, in place, and what came before brought to the same scale.
    fn weigh(scores: &mut [f32], sums: &mut [f32], row: &mut Row, scale: f32) = weigh_body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(batch: usize, tokens: usize) -> Tensor {
        Tensor::randn(0f32, 1.0, (batch, tokens, 24), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_cpu_path_agrees_with_the_general_one() {
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let cases = [
            (5, 7, Mask::None),
            (150, 77, Mask::None),
            (77, 77, Mask::Causal),
            (300, 1100, Mask::None),
            (1100, 1100, Mask::Causal),
        ];
        for (queries, keys, mask) in cases {
            let (q, k, v) = (random(2, queries), random(2, keys), random(2, keys));
            let fast = attention(&q, &k, &v, 3, mask).unwrap();
            let general = attention(&wide(&q), &wide(&k), &wide(&v), 3, mask).unwrap();
            let difference = (wide(&fast) - general).unwrap().abs().unwrap();
            let worst: f64 = difference.flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
            assert!(worst < 1e-5, "{queries}×{keys}: {worst}");
        }
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_an_error() {
        assert!(attention(&random(1, 2), &random(1, 2), &random(1, 2), 5, Mask::None).is_err());
    }
}
