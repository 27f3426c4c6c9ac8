//! Conditioning: what the user wants to see, where, when and how strongly.

use std::sync::Arc;

use candle_core::Tensor;

use crate::Result;
use crate::model::ControlResiduals;
use crate::unclip::PictureCondition;

/// A list of entries that are averaged, weighted, into one prediction.
#[derive(Clone, Default)]
pub struct Conditioning(pub Vec<CondEntry>);

/// One text (or picture) embedding with its options.
#[derive(Clone)]
pub struct CondEntry {
    /// Tokens `[1 | B, T, C]`.
    pub cross_attn: Tensor,
    /// Pooled vector `[1 | B, P]`.
    pub pooled: Option<Tensor>,
    /// Where, when and how strongly.
    pub options: CondOptions,
}

impl CondEntry {
    /// An entry that holds everywhere, always, at strength 1.
    pub fn new(cross_attn: Tensor, pooled: Option<Tensor>) -> Self {
        Self { cross_attn, pooled, options: CondOptions::default() }
    }
}

/// Options of a [`CondEntry`].
#[derive(Clone)]
pub struct CondOptions {
    /// Restricts the entry to a rectangle of the picture.
    pub area: Option<Area>,
    /// Weight against the other entries.
    pub strength: f64,
    /// Soft mask `[1 | B, H, W]` of any size.
    pub mask: Option<Tensor>,
    /// Factor on the mask.
    pub mask_strength: f64,
    /// Compute only the bounding box of the mask.
    pub set_area_to_bounds: bool,
    /// Start of the time window, 0 at the noisiest.
    pub start_percent: f64,
    /// End of the time window.
    pub end_percent: f64,
    /// Size conditioning of SDXL.
    pub size: Option<SizeConditioning>,
    /// Aesthetic score of the SDXL refiner.
    pub aesthetic_score: Option<f64>,
    /// Control networks, in the order they were applied.
    pub controls: Vec<ControlApply>,
    /// Whether the controls are used for the negative entries that have none of their own.
    pub control_apply_to_uncond: bool,
    /// Latent of the masked picture for inpainting and InstructPix2Pix models `[1 | B, C, h, w]`,
    /// in the user's space.
    pub concat_latent: Option<Tensor>,
    /// Mask belonging to `concat_latent` `[1 | B, 1, H, W]`.
    pub concat_mask: Option<Tensor>,
    /// Distilled guidance scale (Flux).
    pub guidance: Option<f64>,
    /// Latents of reference pictures `[1 | B, C, h, w]`, in the user's space.
    pub reference_latents: Vec<Tensor>,
    /// Which tokens are real `[1 | B, T]`.
    pub attention_mask: Option<Tensor>,
    /// Pictures for unCLIP models.
    pub pictures: Vec<PictureCondition>,
}

impl Default for CondOptions {
    fn default() -> Self {
        Self {
            area: None,
            strength: 1.0,
            mask: None,
            mask_strength: 1.0,
            set_area_to_bounds: false,
            start_percent: 0.0,
            end_percent: 1.0,
            size: None,
            aesthetic_score: None,
            controls: Vec::new(),
            control_apply_to_uncond: false,
            concat_latent: None,
            concat_mask: None,
            guidance: None,
            reference_latents: Vec::new(),
            attention_mask: None,
            pictures: Vec::new(),
        }
    }
}

/// A rectangle of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Area {
    /// In latent pixels.
    Latent {
        /// Height.
        height: usize,
        /// Width.
        width: usize,
        /// Top edge.
        y: usize,
        /// Left edge.
        x: usize,
    },
    /// In parts of the picture, 0..1.
    Percent {
        /// Height.
        height: f64,
        /// Width.
        width: f64,
        /// Top edge.
        y: f64,
        /// Left edge.
        x: f64,
    },
}

/// Numbers of SDXL's size conditioning, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SizeConditioning {
    /// Height of the training picture pretended.
    pub height: f64,
    /// Width of it.
    pub width: f64,
    /// Rows cropped at the top.
    pub crop_y: f64,
    /// Columns cropped at the left.
    pub crop_x: f64,
    /// Height of the picture wanted.
    pub target_height: f64,
    /// Width of it.
    pub target_width: f64,
}

/// A control network with its picture.
#[derive(Clone)]
pub struct ControlApply {
    /// The network.
    pub network: Arc<dyn ControlModel>,
    /// The control picture `[1 | B, 3, H, W]`, 0..1.
    pub hint: Tensor,
    /// Factor on the residuals.
    pub strength: f64,
    /// Start of the time window, 0 at the noisiest.
    pub start_percent: f64,
    /// End of the time window.
    pub end_percent: f64,
    /// Type index of a union network.
    pub union_type: Option<usize>,
}

/// What a control network is given for one batch.
pub struct ControlInput<'a> {
    /// The model input `[B, C, H, W]`, already scaled.
    pub x: &'a Tensor,
    /// The control picture at latent size times 8, `[1 | B, 3, 8H, 8W]`.
    pub hint: &'a Tensor,
    /// Timestep `[B]`.
    pub timestep: &'a Tensor,
    /// Tokens `[B, T, C]`.
    pub context: Option<&'a Tensor>,
    /// Vector `[B, A]`.
    pub y: Option<&'a Tensor>,
    /// Type index of a union network.
    pub union_type: Option<usize>,
}

/// A network that turns a control picture into residuals for a UNet.
pub trait ControlModel: Send + Sync {
    /// Residuals of one batch, at strength 1.
    fn forward(&self, input: &ControlInput<'_>) -> Result<ControlResiduals>;
}
