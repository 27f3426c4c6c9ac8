//! Hooks on guidance: how the positive and negative predictions become one.

use std::sync::Arc;

use candle_core::Tensor;

use crate::Result;
use crate::conditioning::Conditioning;
use crate::model::ForwardOptions;

/// What a guidance hook sees. All tensors are `[B, C, H, W]`.
pub struct Guided<'a> {
    /// The noisy latent.
    pub x: &'a Tensor,
    /// Its sigma.
    pub sigma: f64,
    /// Denoised latent of the positive conditioning.
    pub cond: &'a Tensor,
    /// Denoised latent of the negative conditioning; equal to `cond` when it was not computed.
    pub uncond: &'a Tensor,
    /// Whether it was computed.
    pub has_negative: bool,
    /// The guidance scale.
    pub scale: f64,
    /// The combined result so far (for hooks that run after the combination).
    pub denoised: &'a Tensor,
    /// Runs the positive conditioning once more with other patches of the network.
    pub again: &'a dyn Fn(&ForwardOptions) -> Result<Tensor>,
    /// Runs the negative conditioning on another noisy latent of the same sigma.
    pub negative_at: &'a dyn Fn(&Tensor, &ForwardOptions) -> Result<Tensor>,
    /// The patches of the run.
    pub forward: &'a ForwardOptions,
}

/// A hook: from the predictions to a denoised latent.
pub type CombineFn = Arc<dyn Fn(&Guided<'_>) -> Result<Tensor> + Send + Sync>;

/// The levels of a run, for hooks on inpainting masks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskStep {
    /// Timestep of the current sigma.
    pub now: f64,
    /// Timestep that the run starts at.
    pub from: f64,
    /// Timestep that it ends at.
    pub to: f64,
}

/// A hook on inpainting: from the soft mask `[B, C, H, W]` to the mask of a step.
pub type MaskFn = Arc<dyn Fn(&Tensor, MaskStep) -> Result<Tensor> + Send + Sync>;

/// Hooks of a model. The default is plain classifier-free guidance.
#[derive(Clone, Default)]
pub struct GuidanceOptions {
    /// Changes the positive prediction before the two are combined.
    pub positive: Option<CombineFn>,
    /// What guidance with a negative becomes: Perp-Neg with this empty conditioning and factor on the negative.
    pub perp_neg: Option<(Conditioning, f64)>,
    /// Replaces `uncond + (cond − uncond)·scale`.
    pub combine: Option<CombineFn>,
    /// Run one after another on the combined result.
    pub post: Vec<CombineFn>,
    /// The inpainting mask of each step, in place of the soft mask itself.
    pub mask: Option<MaskFn>,
    /// Compute the negative even at scale 1.
    pub always_uncond: bool,
}
