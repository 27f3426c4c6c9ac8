//! From a conditioning list to entries ready for batches: areas and masks in latent pixels, time
//! windows in sigmas, model inputs built once a run.

use candle_core::Tensor;

use super::inputs;
use super::mask::{Rect, feather, mask_bounds, repeat_to_batch, resize_bilinear, resolve_area};
use crate::Result;
use crate::conditioning::{CondEntry, ControlApply};
use crate::model::Model;

/// The latent a run works on.
#[derive(Clone)]
pub struct Canvas {
    /// Pictures in the batch.
    pub batch: usize,
    /// Height in latent pixels.
    pub height: usize,
    /// Width in latent pixels.
    pub width: usize,
    /// The latent that is sampled, in model space `[B, C, H, W]`.
    pub latent: Tensor,
    /// Inpainting mask `[B, 1, H, W]` at latent size, 1 where the picture is made anew.
    pub noise_mask: Option<Tensor>,
    /// Seed of the run, for noise over what it is conditioned on.
    pub seed: u64,
}

/// An entry of a conditioning list, ready for batches.
#[derive(Clone)]
pub struct Prepared {
    /// Where in the latent.
    pub rect: Rect,
    /// Whether `rect` was asked for; an entry without an area covers the picture.
    pub has_area: bool,
    /// Weights `[1 | B, 1, h, w]` within `rect`.
    pub weight: Tensor,
    /// Whether the entry weighs the same all over the picture: alone in a list it is its average.
    pub uniform: bool,
    /// Highest sigma it is used at.
    pub start_sigma: f64,
    /// Lowest sigma it is used at.
    pub end_sigma: f64,
    /// Tokens `[B, T, C]`.
    pub context: Tensor,
    /// Vector `[B, A]`.
    pub y: Option<Tensor>,
    /// Extra channels `[B, K, h, w]` within `rect`.
    pub concat: Option<Tensor>,
    /// Distilled guidance `[B]`.
    pub guidance: Option<Tensor>,
    /// Latents of reference pictures.
    pub reference_latents: Vec<Tensor>,
    /// Which tokens are real `[B, T]`.
    pub attention_mask: Option<Tensor>,
    /// Control networks with their windows in sigmas.
    pub controls: Vec<Control>,
}

/// A control network with its window in sigmas.
#[derive(Clone)]
pub struct Control {
    /// The network and its picture.
    pub apply: ControlApply,
    /// Highest sigma it is used at.
    pub start_sigma: f64,
    /// Lowest sigma it is used at.
    pub end_sigma: f64,
}

impl Control {
    fn new(apply: &ControlApply, model: &Model) -> Self {
        Self {
            apply: apply.clone(),
            start_sigma: model.sampling.percent_to_sigma(apply.start_percent),
            end_sigma: model.sampling.percent_to_sigma(apply.end_percent),
        }
    }
}

impl Prepared {
    /// Whether the entry is used at `sigma`.
    pub fn active(&self, sigma: f64) -> bool {
        sigma <= self.start_sigma && sigma >= self.end_sigma
    }
}

/// Whether a list is what the picture should be or should not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Should be.
    Positive,
    /// Should not be.
    Negative,
}

/// Prepares the lists of one run, so that each area of one has its counterpart in the others.
pub fn prepare(lists: &[(&[CondEntry], Side)], model: &Model, canvas: &Canvas) -> Result<Vec<Vec<Prepared>>> {
    let mut prepared = Vec::with_capacity(lists.len());
    for (entries, side) in lists {
        let mut list = Vec::with_capacity(entries.len());
        for entry in *entries {
            list.extend(prepare_entry(entry, *side, model, canvas)?);
        }
        prepared.push(list);
    }
    let areas: Vec<(usize, Prepared)> = prepared
        .iter()
        .enumerate()
        .flat_map(|(index, list)| list.iter().filter(|e| e.has_area).map(move |e| (index, e.clone())))
        .collect();
    for (origin, area) in areas {
        for (index, list) in prepared.iter_mut().enumerate() {
            if index != origin {
                add_counterpart(list, &area)?;
            }
        }
    }
    share_controls(lists, &mut prepared);
    Ok(prepared)
}

/// Gives `list` an entry of the same area, weights and time, with the model inputs of its smallest
/// entry that contains the area.
fn add_counterpart(list: &mut Vec<Prepared>, area: &Prepared) -> Result<()> {
    let containing = list.iter().filter(|entry| entry.rect.contains(&area.rect));
    let Some(source) = containing.min_by_key(|entry| entry.rect.size()) else { return Ok(()) };
    if source.has_area && source.rect == area.rect {
        return Ok(());
    }
    let (y, x) = (area.rect.y - source.rect.y, area.rect.x - source.rect.x);
    let inner = Rect { y, x, ..area.rect };
    let counterpart = Prepared {
        rect: area.rect,
        has_area: true,
        weight: area.weight.clone(),
        uniform: false,
        start_sigma: area.start_sigma,
        end_sigma: area.end_sigma,
        concat: source.concat.as_ref().map(|concat| inner.crop(concat)).transpose()?,
        controls: area.controls.clone(),
        ..source.clone()
    };
    list.push(counterpart);
    Ok(())
}

/// Hands control networks that were applied to everything on to negative entries without their own.
fn share_controls(lists: &[(&[CondEntry], Side)], prepared: &mut [Vec<Prepared>]) {
    let shared: Option<Vec<Control>> =
        lists.iter().zip(prepared.iter()).find_map(|((entries, side), list)| {
            let from = *side == Side::Positive && entries.iter().any(|e| e.options.control_apply_to_uncond);
            list.iter().find(|entry| from && !entry.controls.is_empty()).map(|entry| entry.controls.clone())
        });
    let Some(shared) = shared else { return };
    for ((_, side), list) in lists.iter().zip(prepared) {
        for entry in list.iter_mut().filter(|e| *side == Side::Negative && e.controls.is_empty()) {
            entry.controls = shared.clone();
        }
    }
}

/// Strengths up to this could be lost against the weight that sums start at.
const UNIFORM_STRENGTH: f64 = 1e-6;

fn prepare_entry(entry: &CondEntry, side: Side, model: &Model, canvas: &Canvas) -> Result<Option<Prepared>> {
    let options = &entry.options;
    let device = model.network.device();
    let (height, width) = (canvas.height, canvas.width);
    let mask = match &options.mask {
        Some(mask) => {
            let mask = if mask.rank() == 2 { mask.unsqueeze(0)? } else { mask.clone() };
            Some(resize_bilinear(&mask.to_device(device)?, height, width)?)
        }
        None => None,
    };
    let area = match (&mask, options.area) {
        (Some(mask), _) if options.set_area_to_bounds => Some(mask_bounds(mask)?),
        (_, Some(area)) => match resolve_area(area, height, width) {
            Some(rect) => Some(rect),
            None => return Ok(None),
        },
        _ => None,
    };
    let rect = area.unwrap_or(Rect::whole(height, width));
    let weight = match &mask {
        Some(mask) => {
            let mask = rect.crop(mask)?.unsqueeze(1)?;
            (repeat_to_batch(&mask, canvas.batch)? * options.mask_strength)?
        }
        None => feather(&rect, height, width, device)?,
    };
    let sampling = &model.sampling;
    Ok(Some(Prepared {
        rect,
        has_area: area.is_some(),
        weight: (weight * options.strength)?,
        uniform: area.is_none() && mask.is_none() && options.strength > UNIFORM_STRENGTH,
        start_sigma: if options.start_percent > 0.0 {
            sampling.percent_to_sigma(options.start_percent)
        } else {
            f64::INFINITY
        },
        end_sigma: if options.end_percent < 1.0 {
            sampling.percent_to_sigma(options.end_percent)
        } else {
            0.0
        },
        context: repeat_to_batch(&entry.cross_attn.to_device(device)?, canvas.batch)?,
        y: inputs::vector(entry, side, model, canvas)?,
        concat: inputs::concat(entry, model, canvas)?.map(|concat| rect.crop(&concat)).transpose()?,
        guidance: match options.guidance {
            Some(guidance) => Some(Tensor::full(guidance as f32, canvas.batch, device)?),
            None => None,
        },
        reference_latents: inputs::reference_latents(entry, model, canvas)?,
        attention_mask: match &options.attention_mask {
            Some(mask) => Some(repeat_to_batch(&mask.to_device(device)?, canvas.batch)?),
            None => None,
        },
        controls: options.controls.iter().map(|apply| Control::new(apply, model)).collect(),
    }))
}
