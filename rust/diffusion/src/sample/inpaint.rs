//! Inpainting: what lies outside a mask stays as it was.

use candle_core::Tensor;

use crate::Result;
use crate::guidance::{Guider, MaskFn, MaskStep};
use crate::samplers::{Denoised, Denoiser};
use crate::sampling::ModelSampling;

/// Keeps the outside of a soft mask at the original latent, noised to the current sigma.
pub(super) struct Inpaint<'a> {
    inner: Guider<'a>,
    sampling: &'a ModelSampling,
    noise: Tensor,
    latent: Tensor,
    mask: Tensor,
    /// The latent where it is kept: `latent·(1 − mask)`.
    kept: Tensor,
    outside: Tensor,
    /// A hook that gives each step its mask, with the timesteps that the run starts and ends at.
    pub(super) hook: Option<(MaskFn, f64, f64)>,
}

impl<'a> Inpaint<'a> {
    pub(super) fn new(
        inner: Guider<'a>,
        sampling: &'a ModelSampling,
        noise: Tensor,
        latent: Tensor,
        mask: &Tensor,
    ) -> Result<Self> {
        let mut mask = mask.clone();
        while mask.rank() < latent.rank() {
            mask = mask.unsqueeze(2)?;
        }
        let mask = mask.broadcast_as(latent.shape())?.contiguous()?;
        let outside = mask.affine(-1.0, 1.0)?;
        let kept = (&latent * &outside)?;
        Ok(Self { inner, sampling, noise, latent, mask, kept, outside, hook: None })
    }
}

impl Denoiser for Inpaint<'_> {
    fn denoise(&mut self, x: &Tensor, sigma: f64) -> Result<Denoised> {
        let noised = self.sampling.noise_latent(sigma, &self.noise, &self.latent, false)?;
        if let Some((hook, from, to)) = &self.hook {
            let step = MaskStep { now: self.sampling.timestep(sigma), from: *from, to: *to };
            let mask = hook(&self.mask, step)?;
            let outside = mask.affine(-1.0, 1.0)?;
            let x = ((x * &mask)? + (noised * &outside)?)?;
            let Denoised { denoised, uncond } = self.inner.denoise(&x, sigma)?;
            let denoised = ((denoised * &mask)? + (&self.latent * &outside)?)?;
            return Ok(Denoised { denoised, uncond });
        }
        let x = ((x * &self.mask)? + (noised * &self.outside)?)?;
        let Denoised { denoised, uncond } = self.inner.denoise(&x, sigma)?;
        Ok(Denoised { denoised: ((denoised * &self.mask)? + &self.kept)?, uncond })
    }
}
