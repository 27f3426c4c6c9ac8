//! What a sampler needs from a diffusion model, whatever its architecture.
//!
//! [`DiffusionModel`] is the network: scaled input and timestep in, raw prediction out. [`Model`]
//! is the network with everything that gives its numbers a meaning: the prediction kind and noise
//! schedule, the latent format, and the patches that nodes put on it. A `Model` is cheap to clone
//! and is patched by cloning.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::guidance::GuidanceOptions;
use crate::latent_format::LatentFormat;
use crate::models::hypertile::TileDraws;
use crate::models::transformer::AttentionRecord;
use crate::samplers::solver::ResizeFn;
use crate::sampling::ModelSampling;
use crate::unclip::NoiseAugmentor;
use crate::weights::{PatchSet, Weights};

/// A denoising network: UNet or transformer.
pub trait DiffusionModel: Send + Sync {
    /// Runs the network once on a batch.
    ///
    /// `x` is the model input `[B, C, H, W]` (`[B, C, T, H, W]` for video), already scaled for the
    /// prediction kind and with `input.concat` **not** yet joined; `timestep` is `[B]` f32 in the
    /// model's own unit. The result has the shape of `x`.
    fn forward(&self, x: &Tensor, timestep: &Tensor, input: &ModelInput) -> Result<Tensor>;

    /// The dtype the network computes in; inputs are cast to it by the network itself.
    fn dtype(&self) -> DType;

    /// The device that holds the weights; inputs are moved there by the caller.
    fn device(&self) -> &Device;

    /// The weights, for networks that can be patched (LoRA, merging).
    fn weights(&self) -> Option<&Weights> {
        None
    }

    /// The same network with exactly `patches` on its weights, sharing the others; `None` for
    /// networks that cannot be patched.
    fn with_patches(&self, _patches: PatchSet) -> Option<Arc<dyn DiffusionModel>> {
        None
    }
}

/// Everything but the noisy latent and the timestep that one batch of a network call takes.
#[derive(Clone, Default)]
pub struct ModelInput {
    /// Text tokens `[B, T, C]`.
    pub context: Option<Tensor>,
    /// Pooled vector with size embeddings `[B, A]` (SDXL's `y`).
    pub y: Option<Tensor>,
    /// Extra input channels `[B, K, H, W]` (inpainting models: mask and masked latent), to be
    /// joined after the channels of `x`.
    pub concat: Option<Tensor>,
    /// Distilled guidance scale (Flux), `[B]`.
    pub guidance: Option<Tensor>,
    /// Latents of reference pictures, each `[B, C, h, w]`, already in model space.
    pub reference_latents: Vec<Tensor>,
    /// Which tokens of `context` are real: `[B, T]`, 1 or 0.
    pub attention_mask: Option<Tensor>,
    /// Residuals of control networks, already scaled by their strengths and summed.
    pub control: Option<ControlResiduals>,
    /// Patches of the forward pass.
    pub options: ForwardOptions,
}

/// Residuals that control networks add inside a UNet; `None` where a place gets nothing.
#[derive(Clone, Default)]
pub struct ControlResiduals {
    /// Added to the outputs of the input blocks (T2I adapters).
    pub input: Vec<Option<Tensor>>,
    /// Added to the output of the middle block.
    pub middle: Vec<Option<Tensor>>,
    /// Added to the skip connections; the last one belongs to the first output block.
    pub output: Vec<Option<Tensor>>,
}

impl ControlResiduals {
    /// All residuals times `strength`.
    pub fn scaled(&self, strength: f64) -> Result<Self> {
        let scale = |list: &[Option<Tensor>]| -> Result<Vec<Option<Tensor>>> {
            list.iter()
                .map(|t| match t {
                    Some(t) => Ok(Some((t * strength)?)),
                    None => Ok(None),
                })
                .collect()
        };
        Ok(Self { input: scale(&self.input)?, middle: scale(&self.middle)?, output: scale(&self.output)? })
    }

    /// The sum with the residuals of another network, place by place.
    pub fn merged(mut self, other: Self) -> Result<Self> {
        fn add(into: &mut Vec<Option<Tensor>>, from: Vec<Option<Tensor>>) -> Result<()> {
            for (index, residual) in from.into_iter().enumerate() {
                let Some(slot) = into.get_mut(index) else {
                    into.push(residual);
                    continue;
                };
                *slot = match (slot.take(), residual) {
                    (Some(a), Some(b)) => Some(a.broadcast_add(&b)?),
                    (a, b) => a.or(b),
                };
            }
            Ok(())
        }
        add(&mut self.input, other.input)?;
        add(&mut self.middle, other.middle)?;
        add(&mut self.output, other.output)?;
        Ok(self)
    }
}

/// Patches of a network's forward pass. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForwardOptions {
    /// FreeU (arXiv 2309.11497) on the output blocks.
    pub freeu: Option<FreeU>,
    /// Hypertile: self-attention in tiles.
    pub hypertile: Option<Hypertile>,
    /// What a run draws Hypertile's tiles from.
    pub tile_draws: Option<TileDraws>,
    /// Perturbed-attention guidance (arXiv 2403.17377): self-attention of the middle block becomes
    /// the identity.
    pub identity_middle_attention: bool,
    /// Deep Shrink: a smaller picture inside the network.
    pub shrink: Option<Shrink>,
    /// Self-attention guidance (arXiv 2210.00939): the middle block leaves how much each place is looked at.
    pub record_middle_attention: Option<AttentionRecord>,
}

/// Kohya's Deep Shrink: from one input block on the network works on a smaller picture, until the skip connections of
/// that block come back, so that pictures larger than a model was trained on stay of one piece.
#[derive(Clone)]
pub struct Shrink {
    /// Index of the input block behind which the picture shrinks.
    pub block: usize,
    /// The sides are divided by this.
    pub factor: f64,
    /// The skip connection of that block keeps its size.
    pub after_skip: bool,
    /// Highest sigma it applies at.
    pub start_sigma: f64,
    /// Lowest sigma it applies at.
    pub end_sigma: f64,
    /// How the picture shrinks.
    pub down: ResizeFn,
    /// How it grows again.
    pub up: ResizeFn,
}

impl std::fmt::Debug for Shrink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shrink(by {} behind block {})", self.factor, self.block)
    }
}

impl PartialEq for Shrink {
    fn eq(&self, other: &Self) -> bool {
        let numbers = |s: &Self| (s.block, s.factor, s.after_skip, s.start_sigma, s.end_sigma);
        numbers(self) == numbers(other)
            && Arc::ptr_eq(&self.down, &other.down)
            && Arc::ptr_eq(&self.up, &other.up)
    }
}

/// Parameters of FreeU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FreeU {
    /// Backbone factor of the first (deepest) stage.
    pub b1: f64,
    /// Backbone factor of the second stage.
    pub b2: f64,
    /// Skip factor of the first stage.
    pub s1: f64,
    /// Skip factor of the second stage.
    pub s2: f64,
    /// Version 2 scales the backbone by its own mean map.
    pub version2: bool,
}

/// Parameters of Hypertile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hypertile {
    /// Smallest tile side in pixels.
    pub tile_size: usize,
    /// Number of tile shapes to draw from.
    pub swap_size: usize,
    /// Deepest level that is tiled.
    pub max_depth: usize,
    /// Tiles grow with the level.
    pub scale_depth: bool,
}

/// How the vector input `y` of a network is made from a conditioning entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VectorKind {
    /// The network has no vector input.
    #[default]
    None,
    /// The pooled text vector as it is (Flux, SD3, unCLIP-less SD 2.x variants).
    Pooled,
    /// SDXL base: pooled and the six size numbers.
    Sdxl,
    /// SDXL refiner: pooled, four size numbers and the aesthetic score.
    SdxlRefiner,
    /// unCLIP: the embedding of a picture and of the level of noise over it.
    UnClip,
}

/// What the extra input channels of a network are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConcatKind {
    /// No extra channels.
    #[default]
    None,
    /// Inpainting model: mask, then the masked picture's latent.
    Inpaint,
    /// InstructPix2Pix: the picture's latent.
    InstructPix2Pix,
}

/// A network with the meaning of its numbers; cheap to clone, patched by cloning.
#[derive(Clone)]
pub struct Model {
    /// The network.
    pub network: Arc<dyn DiffusionModel>,
    /// Prediction kind and noise schedule.
    pub sampling: ModelSampling,
    /// How the user's latents relate to the model's.
    pub latent_format: &'static LatentFormat,
    /// How `y` is made.
    pub vector: VectorKind,
    /// What the extra input channels are.
    pub concat: ConcatKind,
    /// Patches of the forward pass, handed to every call.
    pub forward: ForwardOptions,
    /// Patches of guidance.
    pub guidance: GuidanceOptions,
    /// What noises pictures' embeddings, for unCLIP models.
    pub noise_augmentor: Option<Arc<NoiseAugmentor>>,
}

impl Model {
    /// A model without patches, vector input or extra channels.
    pub fn new(
        network: Arc<dyn DiffusionModel>,
        sampling: ModelSampling,
        latent_format: &'static LatentFormat,
    ) -> Self {
        Self {
            network,
            sampling,
            latent_format,
            vector: VectorKind::None,
            concat: ConcatKind::None,
            forward: ForwardOptions::default(),
            guidance: GuidanceOptions::default(),
            noise_augmentor: None,
        }
    }
}
