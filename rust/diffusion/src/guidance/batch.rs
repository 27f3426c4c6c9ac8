//! Entries of all lists run through the network in as few batches as their shapes allow.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::mask::resize_bilinear;
use super::prepare::Prepared;
use crate::conditioning::ControlInput;
use crate::model::{ControlResiduals, ForwardOptions, Model, ModelInput};
use crate::{Error, Result};

/// Weights start at this so that a pixel that no entry covers divides by something.
const NO_WEIGHT: f64 = 1e-37;
/// Most pictures in one batch, unless one entry alone has more.
const MAX_PICTURES: usize = 16;
/// Token lengths are brought together only if the common one is at most this many times the shorter.
const MAX_REPEATS: usize = 4;

/// Denoised latents of each list at `sigma`. `x` is `[B, C, H, W]`, not scaled.
pub fn denoise_lists(
    model: &Model,
    lists: &[&[Prepared]],
    x: &Tensor,
    sigma: f64,
    options: &ForwardOptions,
) -> Result<Vec<Tensor>> {
    let mut open: Vec<(usize, &Prepared)> = Vec::new();
    let mut alone = Vec::with_capacity(lists.len());
    for (index, list) in lists.iter().enumerate() {
        let before = open.len();
        open.extend(list.iter().filter(|entry| entry.active(sigma)).map(|entry| (index, entry)));
        alone.push(matches!(open.get(before..), Some([(_, entry)]) if entry.uniform));
    }
    let mut sums: Vec<Option<Sum>> = vec![None; lists.len()];
    while !open.is_empty() {
        let batch = take_batch(&mut open, x.dim(0)?);
        let outputs = run_batch(model, &batch, x, sigma, options)?;
        for ((list, entry), output) in batch.iter().zip(outputs) {
            let Some(sum) = sums.get_mut(*list) else { continue };
            *sum = Some(match alone.get(*list) {
                Some(true) => Sum { total: output, weight: None },
                _ => accumulate(sum.take(), entry, &output, x)?,
            });
        }
    }
    sums.into_iter()
        .map(|sum| match sum {
            Some(Sum { total, weight: None }) => Ok(total),
            Some(Sum { total, weight: Some(weight) }) => Ok(total.broadcast_div(&(weight + NO_WEIGHT)?)?),
            None => Ok(x.zeros_like()?),
        })
        .collect()
}

/// Outputs of a list added up.
#[derive(Clone)]
struct Sum {
    total: Tensor,
    /// Sum of the weights; `None` when `total` is the average already.
    weight: Option<Tensor>,
}

/// Adds an entry's weighted output to a list's sum and weight.
fn accumulate(sum: Option<Sum>, entry: &Prepared, output: &Tensor, x: &Tensor) -> Result<Sum> {
    let (height, width) = (x.dim(x.rank() - 2)?, x.dim(x.rank() - 1)?);
    let mut weight = entry.weight.clone();
    while weight.rank() < x.rank() {
        weight = weight.unsqueeze(2)?;
    }
    let mut weighted = output.broadcast_mul(&weight)?;
    if entry.has_area {
        weighted = entry.rect.place(&weighted, height, width)?;
        weight = entry.rect.place(&weight, height, width)?;
    }
    Ok(match sum {
        Some(Sum { total, weight: Some(weights) }) => {
            Sum { total: (total + weighted)?, weight: Some(weights.broadcast_add(&weight)?) }
        }
        _ => Sum { total: weighted, weight: Some(weight) },
    })
}

/// Takes the first entry and all that can run with it.
fn take_batch<'a>(open: &mut Vec<(usize, &'a Prepared)>, pictures: usize) -> Vec<(usize, &'a Prepared)> {
    let mut batch: Vec<(usize, &Prepared)> = Vec::new();
    open.retain(|candidate| {
        let fits = match batch.first() {
            None => true,
            Some(first) => {
                (batch.len() + 1) * pictures <= MAX_PICTURES
                    && batch.iter().all(|member| goes_with(member.1, candidate.1))
                    && goes_with(first.1, candidate.1)
            }
        };
        if fits {
            batch.push(*candidate);
        }
        !fits
    });
    batch
}

/// Whether two entries can share a batch.
fn goes_with(a: &Prepared, b: &Prepared) -> bool {
    let dims = |t: &Option<Tensor>| t.as_ref().map(|t| t.dims().to_vec());
    let references = |e: &Prepared| e.reference_latents.iter().map(|t| t.dims().to_vec()).collect::<Vec<_>>();
    let same_controls = a.controls.len() == b.controls.len()
        && a.controls.iter().zip(&b.controls).all(|(a, b)| {
            Arc::ptr_eq(&a.apply.network, &b.apply.network)
                && a.apply.hint.id() == b.apply.hint.id()
                && (a.apply.strength, a.start_sigma, a.end_sigma)
                    == (b.apply.strength, b.start_sigma, b.end_sigma)
        });
    (a.rect.height, a.rect.width) == (b.rect.height, b.rect.width)
        && tokens_go_together(a.context.dims(), b.context.dims())
        && dims(&a.y) == dims(&b.y)
        && dims(&a.concat) == dims(&b.concat)
        && a.guidance.is_some() == b.guidance.is_some()
        && dims(&a.attention_mask) == dims(&b.attention_mask)
        && references(a) == references(b)
        && same_controls
}

fn tokens_go_together(a: &[usize], b: &[usize]) -> bool {
    match (a, b) {
        ([_, a, wide], [_, b, other]) if wide == other && *a > 0 && *b > 0 => {
            a == b || lcm(*a, *b) / a.min(b) <= MAX_REPEATS
        }
        _ => a == b,
    }
}

fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x.max(1) * b
}

/// Runs one batch; denoised latents of each entry's rectangle.
fn run_batch(
    model: &Model,
    batch: &[(usize, &Prepared)],
    x: &Tensor,
    sigma: f64,
    options: &ForwardOptions,
) -> Result<Vec<Tensor>> {
    let Some((_, first)) = batch.first() else { return Ok(Vec::new()) };
    let device = model.network.device();
    let latents = batch.iter().map(|(_, e)| if e.has_area { e.rect.crop(x) } else { Ok(x.clone()) });
    let noisy = join(latents.collect::<Result<Vec<_>>>()?)?;
    let all = |pick: fn(&Prepared) -> Option<&Tensor>| -> Result<Option<Tensor>> {
        let parts: Vec<Tensor> = batch.iter().filter_map(|(_, e)| pick(e).cloned()).collect();
        if parts.is_empty() { Ok(None) } else { join(parts).map(Some) }
    };
    let context = join_tokens(batch)?;
    let scaled = model.sampling.scale_input(&noisy, sigma)?;
    let timestep = Tensor::full(model.sampling.timestep(sigma) as f32, noisy.dim(0)?, device)?;
    let references = (0..first.reference_latents.len()).map(|index| {
        join(batch.iter().filter_map(|(_, e)| e.reference_latents.get(index).cloned()).collect())
    });
    let mut input = ModelInput {
        context: Some(context),
        y: all(|e| e.y.as_ref())?,
        concat: all(|e| e.concat.as_ref())?,
        guidance: all(|e| e.guidance.as_ref())?,
        reference_latents: references.collect::<Result<Vec<_>>>()?,
        attention_mask: all(|e| e.attention_mask.as_ref())?,
        control: None,
        options: options.clone(),
    };
    // The network knows timesteps only.
    input.options.shrink =
        input.options.shrink.filter(|shrink| sigma <= shrink.start_sigma && sigma >= shrink.end_sigma);
    input.control = control(first, &scaled, &timestep, sigma, &input)?;
    let output = model.network.forward(&scaled, &timestep, &input)?.to_dtype(DType::F32)?;
    if output.dims() != noisy.dims() {
        let expected = format!("{:?}, that of the latent", noisy.dims());
        return Err(Error::shape("output of the network", expected, output.dims()));
    }
    let denoised = model.sampling.denoised(&output, &noisy, sigma)?;
    if batch.len() == 1 { Ok(vec![denoised]) } else { Ok(denoised.chunk(batch.len(), 0)?) }
}

fn join(mut parts: Vec<Tensor>) -> Result<Tensor> {
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => Ok(Tensor::cat(&parts, 0)?),
    }
}

/// Tokens of a batch, repeated to their least common length.
fn join_tokens(batch: &[(usize, &Prepared)]) -> Result<Tensor> {
    let mut length = 1;
    for (_, entry) in batch {
        length = lcm(length, entry.context.dim(1)?);
    }
    let repeated = batch.iter().map(|(_, entry)| {
        let times = length / entry.context.dim(1)?.max(1);
        Ok(if times > 1 { entry.context.repeat((1, times, 1))? } else { entry.context.clone() })
    });
    join(repeated.collect::<Result<Vec<_>>>()?)
}

/// Residuals of the control networks that are on at `sigma`, summed.
fn control(
    entry: &Prepared,
    scaled: &Tensor,
    timestep: &Tensor,
    sigma: f64,
    input: &ModelInput,
) -> Result<Option<ControlResiduals>> {
    let mut sum: Option<ControlResiduals> = None;
    for control in &entry.controls {
        if sigma > control.start_sigma || sigma < control.end_sigma || control.apply.strength == 0.0 {
            continue;
        }
        let hint = fit_hint(&control.apply.hint, scaled)?;
        let residuals = control.apply.network.forward(&ControlInput {
            x: scaled,
            hint: &hint,
            timestep,
            context: input.context.as_ref(),
            y: input.y.as_ref(),
            union_type: control.apply.union_type,
        })?;
        let residuals = residuals.scaled(control.apply.strength)?;
        sum = Some(match sum {
            Some(sum) => sum.merged(residuals)?,
            None => residuals,
        });
    }
    Ok(sum)
}

/// The control picture cut at its centre to the latent's shape and resized to eight times its size
/// (nearest pixel centre).
fn fit_hint(hint: &Tensor, latent: &Tensor) -> Result<Tensor> {
    const PIXELS: usize = 8;
    let rank = latent.rank();
    let (height, width) = (latent.dim(rank - 2)? * PIXELS, latent.dim(rank - 1)? * PIXELS);
    let (_, _, from_height, from_width) = hint.dims4()?;
    if (from_height, from_width) == (height, width) {
        return Ok(hint.to_device(latent.device())?);
    }
    let (aspect, wanted) = (from_width as f64 / from_height as f64, width as f64 / height as f64);
    let margin =
        |size: usize, ratio: f64| ((size as f64 - size as f64 * ratio) / 2.0).round_ties_even() as usize;
    let mut cut = hint.clone();
    if aspect > wanted {
        let x = margin(from_width, wanted / aspect);
        cut = cut.narrow(3, x, from_width - 2 * x)?;
    } else if aspect < wanted {
        let y = margin(from_height, aspect / wanted);
        cut = cut.narrow(2, y, from_height - 2 * y)?;
    }
    for (dim, size) in [(2, height), (3, width)] {
        let from = cut.dim(dim)?;
        let places: Vec<u32> = (0..size)
            .map(|i| {
                (((i as f64 + 0.5) * from as f64 / size as f64) as usize).min(from.saturating_sub(1)) as u32
            })
            .collect();
        cut = cut.index_select(&Tensor::from_vec(places, size, cut.device())?, dim)?;
    }
    Ok(cut.to_device(latent.device())?)
}

/// The inpainting mask of a run at latent size: `[B, 1, H, W]`, soft.
pub fn latent_mask(mask: &Tensor, batch: usize, height: usize, width: usize) -> Result<Tensor> {
    let rank = mask.rank();
    if rank < 2 {
        return Err(Error::shape("noise mask", "[…, H, W]", mask.dims()));
    }
    let (rows, columns) = (mask.dim(rank - 2)?, mask.dim(rank - 1)?);
    let mask = mask.to_dtype(DType::F32)?.reshape(((), 1, rows, columns))?;
    super::mask::repeat_to_batch(&resize_bilinear(&mask, height, width)?, batch)
}
