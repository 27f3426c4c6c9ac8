//! What each format computes. Everything is `f32` on the CPU; the caller casts the result back. Until then an adapter's
//! tensors are the file's.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::weights::{Entry, Patch, StateDict};

/// The tensor of a module that is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// `weight`.
    Weight,
    /// `bias`.
    Bias,
}

/// A module's change.
#[derive(Debug)]
pub(super) struct Adapter {
    delta: Option<Delta>,
    /// Magnitudes of DoRA (Liu et al., arXiv 2402.09353): `[out, 1…]` or `[1, in…]`.
    dora_scale: Option<Entry>,
    /// Added to the bias.
    bias: Option<Entry>,
}

/// A change of a weight, before strength.
#[derive(Debug)]
enum Delta {
    /// LoRA (Hu et al., arXiv 2106.09685): `scale · up · down`, through `mid` for Tucker-decomposed
    /// convolutions.
    LowRank { up: Entry, down: Entry, mid: Option<Entry>, scale: f64 },
    /// LoHa (arXiv 2108.06098): the element-wise product of two low-rank products.
    Hadamard { first: [Entry; 2], second: [Entry; 2], cores: Option<[Entry; 2]>, scale: f64 },
    /// LoKr (Yeh et al., arXiv 2309.14859): a Kronecker product.
    Kronecker { first: Factor, second: Factor, scale: f64 },
    /// The difference itself.
    Full(Entry),
}

/// A factor of a Kronecker product: whole, or itself a product through an optional core.
#[derive(Debug)]
enum Factor {
    Whole(Entry),
    Product { a: Entry, b: Entry, core: Option<Entry> },
}

/// The numbers of an adapter's tensor.
fn wide(entry: &Entry) -> Result<Tensor> {
    let tensor = entry.tensor(DType::F32, &Device::Cpu)?;
    entry.release();
    Ok(tensor)
}

/// The first dimension of a low-rank factor's second matrix.
fn rank(entry: &Entry) -> usize {
    entry.shape().first().copied().unwrap_or(1)
}

impl Factor {
    /// The factor called `name` (`lokr_w1`, `lokr_w2`).
    fn new(
        name: &str,
        get: impl Fn(&str) -> Option<Entry>,
        need: impl Fn(&str) -> Result<Entry>,
    ) -> Result<Self> {
        if let Some(whole) = get(name) {
            return Ok(Self::Whole(whole));
        }
        let core = get(&name.replace('w', "t"));
        Ok(Self::Product { a: need(&format!("{name}_a"))?, b: need(&format!("{name}_b"))?, core })
    }

    /// The rank of a product.
    fn rank(&self) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Product { b, .. } => Some(rank(b)),
        }
    }

    fn compute(&self) -> Result<Tensor> {
        match self {
            Self::Whole(whole) => wide(whole),
            Self::Product { a, b, core: Some(core) } => through_core(&wide(core)?, &wide(a)?, &wide(b)?),
            Self::Product { a, b, core: None } => Ok(wide(a)?.matmul(&wide(b)?)?),
        }
    }
}

impl Adapter {
    /// Reads an adapter from its tensors by role; `None` when there is no complete one.
    pub(super) fn new(stem: &str, tensors: &StateDict) -> Result<Option<Self>> {
        let get = |role: &str| tensors.get(role).cloned();
        let need = |role: &str| -> Result<Entry> {
            get(role).ok_or_else(|| Error::MissingTensor {
                key: format!("{stem} ({role})"),
                what: "the LoRA file".to_string(),
            })
        };
        let alpha = match tensors.get("alpha") {
            Some(entry) => entry.to_f32().first().map(|&alpha| f64::from(alpha)),
            None => None,
        };
        let scale = |rank: usize| alpha.map_or(1.0, |alpha| alpha / rank.max(1) as f64);

        let delta = if tensors.contains("up") || tensors.contains("down") {
            let (up, down) = (need("up")?, need("down")?);
            let scale = scale(rank(&down));
            Some(Delta::LowRank { up, down, mid: get("mid"), scale })
        } else if tensors.contains("hada_w1_a") {
            let first = [need("hada_w1_a")?, need("hada_w1_b")?];
            let second = [need("hada_w2_a")?, need("hada_w2_b")?];
            let cores = get("hada_t1").zip(get("hada_t2")).map(<[Entry; 2]>::from);
            let scale = scale(rank(&first[1]));
            Some(Delta::Hadamard { first, second, cores, scale })
        } else if tensors.contains("lokr_w1") || tensors.contains("lokr_w1_a") {
            let (first, second) = (Factor::new("lokr_w1", get, need)?, Factor::new("lokr_w2", get, need)?);
            let scale = second.rank().or(first.rank()).map_or(1.0, scale);
            Some(Delta::Kronecker { first, second, scale })
        } else {
            get("diff").map(Delta::Full)
        };
        let adapter = Self { delta, dora_scale: get("dora_scale"), bias: get("diff_b") };
        Ok((adapter.delta.is_some() || adapter.bias.is_some()).then_some(adapter))
    }

    /// What is changed.
    pub(super) fn targets(&self) -> Vec<Target> {
        let weight = self.delta.as_ref().map(|_| Target::Weight);
        let bias = self.bias.as_ref().map(|_| Target::Bias);
        weight.into_iter().chain(bias).collect()
    }

    /// The change of one tensor.
    pub(super) fn patch(self: &Arc<Self>, target: Target) -> AdapterPatch {
        AdapterPatch { adapter: self.clone(), target }
    }
}

/// An adapter's change of one tensor.
#[derive(Debug)]
pub(super) struct AdapterPatch {
    adapter: Arc<Adapter>,
    target: Target,
}

impl Patch for AdapterPatch {
    fn apply(&self, weight: &Tensor, strength: f64) -> Result<Tensor> {
        let adapter = &self.adapter;
        let delta = match (self.target, &adapter.delta, &adapter.bias) {
            (Target::Weight, Some(delta), _) => delta.compute()?,
            (Target::Bias, _, Some(bias)) => wide(bias)?,
            _ => return Ok(weight.clone()),
        };
        if delta.elem_count() != weight.elem_count() {
            let expected = format!("the elements of {:?}", weight.dims());
            return Err(Error::shape("LoRA change of a weight", expected, delta.dims()));
        }
        let delta = delta.reshape(weight.dims())?;
        match (&adapter.dora_scale, self.target) {
            (Some(magnitudes), Target::Weight) => decompose(weight, &delta, &wide(magnitudes)?, strength),
            _ => Ok((weight + (delta * strength)?)?),
        }
    }
}

impl Delta {
    /// The change, with as many elements as the weight.
    fn compute(&self) -> Result<Tensor> {
        match self {
            Self::LowRank { up, down, mid, scale } => {
                let (up, down) = (wide(up)?.flatten_from(1)?, wide(down)?.flatten_from(1)?);
                let product = match mid {
                    Some(mid) => through_core(&wide(mid)?, &up, &down)?,
                    None => up.matmul(&down)?,
                };
                Ok((product * *scale)?)
            }
            Self::Hadamard { first, second, cores, scale } => {
                let product = |[a, b]: &[Entry; 2], core: Option<&Entry>| match core {
                    // In these files the first factor belongs to the outputs and is stored transposed.
                    Some(core) => through_core(&wide(core)?, &wide(a)?.t()?.contiguous()?, &wide(b)?),
                    None => Ok(wide(a)?.matmul(&wide(b)?)?),
                };
                let [first_core, second_core] = match cores {
                    Some([first, second]) => [Some(first), Some(second)],
                    None => [None, None],
                };
                let product = (product(first, first_core)? * product(second, second_core)?)?;
                Ok((product * *scale)?)
            }
            Self::Kronecker { first, second, scale } => {
                Ok((kronecker(&first.compute()?, &second.compute()?)? * *scale)?)
            }
            Self::Full(difference) => wide(difference),
        }
    }
}

/// `up [out, r] · core [r, s, kh, kw] · down [s, in]` to `[out, in, kh, kw]`.
fn through_core(core: &Tensor, up: &Tensor, down: &Tensor) -> Result<Tensor> {
    let (r, s, kh, kw) = core.dims4()?;
    let (out, input) = (up.dim(0)?, down.dim(1)?);
    let left = up.matmul(&core.reshape((r, s * kh * kw))?)?.reshape((out, s, kh * kw))?;
    let right = left.transpose(1, 2)?.contiguous()?.reshape((out * kh * kw, s))?.matmul(down)?;
    let right = right.reshape((out, kh * kw, input))?.transpose(1, 2)?.contiguous()?;
    Ok(right.reshape((out, input, kh, kw))?)
}

/// The Kronecker product over the first two dimensions; the others are the second factor's.
fn kronecker(first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let (a, b) = first.dims2()?;
    let (c, d) = (second.dim(0)?, second.dim(1)?);
    let rest: usize = second.dims().iter().skip(2).product();
    let first = first.reshape(&[a, 1, b, 1, 1][..])?;
    let second = second.reshape(&[1, c, 1, d, rest][..])?;
    Ok(first.broadcast_mul(&second)?.reshape((a * c, b * d, rest))?)
}

/// DoRA: the changed weight scaled by learnt magnitudes, strength interpolating from the unchanged
/// weight. Magnitudes of rows are relative to the norms of the unchanged weight (the recorded outputs
/// say so), magnitudes of columns to those of the changed one, as in the paper.
fn decompose(weight: &Tensor, delta: &Tensor, magnitudes: &Tensor, strength: f64) -> Result<Tensor> {
    let changed = (weight + delta)?;
    let (out, input) = (weight.dim(0)?, weight.dim(1)?);
    let flat = changed.reshape((out, input, weight.elem_count() / (out * input).max(1)))?;
    // Magnitudes of rows or of columns, by which side has them.
    let by_row = magnitudes.dim(0)? == out;
    let norms = match by_row {
        true => weight.flatten_from(1)?.sqr()?.sum_keepdim(1)?.sqrt()?.reshape((out, 1, 1))?,
        false => flat.sqr()?.sum_keepdim(2)?.sum_keepdim(0)?.sqrt()?.reshape((1, input, 1))?,
    };
    let magnitudes = match by_row {
        true => magnitudes.reshape((out, 1, 1))?,
        false => magnitudes.reshape((1, input, 1))?,
    };
    let factors = magnitudes.broadcast_div(&(norms + f64::from(f32::EPSILON))?)?;
    let target = flat.broadcast_mul(&factors)?.reshape(weight.dims())?;
    Ok((weight + ((target - weight)? * strength)?)?)
}
