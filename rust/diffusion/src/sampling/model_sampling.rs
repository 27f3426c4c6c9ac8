//! Prediction kinds and noise levels: what a network's output means, and how sigmas, timesteps and
//! percents of the way relate.
//!
//! Sigmas are `f64` in signatures but hold values that were rounded to `f32`, as the pictures that
//! users compare with were made in.

use std::sync::Arc;

use candle_core::Tensor;

use super::tables;
use crate::Result;

/// Sigma that stands for "before the noisiest" in discrete schedules.
const BEFORE_START: f64 = 999_999_999.9;

/// Constants of the boundary condition of latent consistency models.
const LCM_TIMESTEP_SCALE: f64 = 10.0;
const LCM_SIGMA_DATA: f64 = 0.5;

/// What the network's output is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Prediction {
    /// The noise.
    Eps,
    /// The velocity of the variance-preserving process (arXiv 2202.00512).
    V,
    /// EDM preconditioning (arXiv 2206.00364) with the sign of its output.
    Edm,
    /// The velocity of a rectified flow.
    Flow,
    /// The denoised latent itself.
    X0,
    /// The noise, under the boundary condition of latent consistency models (arXiv 2310.04378).
    Lcm,
    /// The velocity of a rectified flow whose noisy latent was scaled by σ + 1 (Cosmos).
    ScaledFlow,
}

/// How noise levels are numbered.
#[derive(Clone, Debug)]
enum Levels {
    /// A table of every `stride`-th training timestep.
    Discrete { log_sigmas: Arc<[f32]>, stride: usize },
    /// Continuous in log σ; the timestep is ln(σ)/4.
    LogSigma,
    /// Continuous, the timestep is 2/π·atan(σ).
    Arctan,
    /// Flow with time shift; the timestep is σ·multiplier.
    Flow { shift: f64, multiplier: f64 },
    /// Flow with Flux's exponential shift; the timestep is σ.
    Flux { mu: f64 },
    /// Cosine ᾱ (arXiv 2102.09672) with its log-SNR shifted; the timestep, 0 to 1, is that of no shift.
    Cosine { shift: f64 },
    /// Continuous in log σ, the timestep is the share σ/(σ + 1) of the noise.
    Share,
}

/// The family of noise levels of a [`ModelSampling`], with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LevelKind {
    /// A table of training timesteps.
    Discrete,
    /// Continuous in log σ or arctan σ.
    Continuous,
    /// Flow with time shift.
    Flow {
        /// The shift.
        shift: f64,
        /// Timestep of σ = 1.
        multiplier: f64,
    },
    /// Flow with Flux's exponential shift.
    Flux {
        /// The shift.
        mu: f64,
    },
}

/// A prediction kind with its noise levels; cheap to clone.
#[derive(Clone, Debug)]
pub struct ModelSampling {
    prediction: Prediction,
    sigma_data: f64,
    levels: Levels,
    /// Rising table that named schedules pick from.
    sigmas: Arc<[f32]>,
}

impl ModelSampling {
    /// Stable Diffusion's schedule: scaled-linear betas 0.00085..0.012 over 1,000 steps.
    pub fn stable_diffusion(prediction: Prediction) -> Self {
        Self::from_alpha_bars(prediction, &tables::scaled_linear(0.00085, 0.012))
    }

    /// [`Self::stable_diffusion`] rescaled to zero terminal SNR (arXiv 2305.08891).
    pub fn stable_diffusion_zero_snr(prediction: Prediction) -> Self {
        let bars = tables::scaled_linear(0.00085, 0.012);
        Self::from_alpha_bars(prediction, &tables::zero_terminal_snr(&bars))
    }

    /// Linear betas between `start` and `end`.
    pub fn linear_betas(prediction: Prediction, start: f64, end: f64) -> Self {
        Self::from_alpha_bars(prediction, &tables::linear(start, end))
    }

    /// Squared cosine schedule.
    pub fn squared_cosine(prediction: Prediction) -> Self {
        Self::from_alpha_bars(prediction, &tables::squared_cosine())
    }

    /// A discrete schedule from ᾱ of each training timestep, falling.
    pub fn from_alpha_bars(prediction: Prediction, alpha_bars: &[f64]) -> Self {
        Self::from_sigmas(prediction, tables::sigmas_of(alpha_bars))
    }

    /// A discrete schedule from a rising table of sigmas.
    pub fn from_sigmas(prediction: Prediction, sigmas: Vec<f32>) -> Self {
        let log_sigmas = sigmas.iter().map(|s| s.ln()).collect();
        Self {
            prediction,
            sigma_data: 1.0,
            levels: Levels::Discrete { log_sigmas, stride: 1 },
            sigmas: sigmas.into(),
        }
    }

    /// Only `count` evenly spread levels of a discrete schedule, as distilled models were trained on
    /// (latent consistency models: 50); other schedules are left as they are.
    pub fn distilled(self, count: usize) -> Self {
        let Levels::Discrete { stride: 1, .. } = self.levels else { return self };
        let stride = self.sigmas.len() / count.max(1);
        if stride < 2 {
            return self;
        }
        let sigmas: Vec<f32> = self.sigmas.iter().copied().skip(stride - 1).step_by(stride).collect();
        let log_sigmas = sigmas.iter().map(|s| s.ln()).collect();
        Self { levels: Levels::Discrete { log_sigmas, stride }, sigmas: sigmas.into(), ..self }
    }

    /// Continuous levels even in log σ between `sigma_min` and `sigma_max` (EDM, Playground 2.5).
    pub fn continuous_edm(prediction: Prediction, sigma_min: f64, sigma_max: f64, sigma_data: f64) -> Self {
        let (low, high) = (sigma_min.ln(), sigma_max.ln());
        let step = (high - low) / (tables::TRAIN_STEPS - 1) as f64;
        let sigmas = (0..tables::TRAIN_STEPS).map(|i| ((low + step * i as f64) as f32).exp()).collect();
        Self { prediction, sigma_data, levels: Levels::LogSigma, sigmas }
    }

    /// As [`Self::continuous_edm`], with timesteps 2/π·atan(σ) (Stable Audio, Cosmos).
    pub fn continuous_v(prediction: Prediction, sigma_min: f64, sigma_max: f64, sigma_data: f64) -> Self {
        Self { levels: Levels::Arctan, ..Self::continuous_edm(prediction, sigma_min, sigma_max, sigma_data) }
    }

    /// As [`Self::continuous_edm`], a rectified flow's network behind it: timesteps are σ/(σ + 1) (Cosmos).
    pub fn continuous_flow(sigma_min: f64, sigma_max: f64) -> Self {
        let levels = Self::continuous_edm(Prediction::ScaledFlow, sigma_min, sigma_max, 1.0);
        Self { levels: Levels::Share, ..levels }
    }

    /// Stable Cascade's levels: squared cosines with their log-SNR lowered by 2·ln(shift).
    pub fn cosine(prediction: Prediction, shift: f64) -> Self {
        const STEPS: usize = 10_000;
        let sigmas =
            (1..=STEPS).map(|i| tables::cosine_sigma(shift, i as f64 / STEPS as f64) as f32).collect();
        Self { prediction, sigma_data: 1.0, levels: Levels::Cosine { shift }, sigmas }
    }

    /// Rectified flow with a time shift; timesteps run to `multiplier` (SD3 and video models 1000, AuraFlow 1).
    pub fn flow(shift: f64, multiplier: f64) -> Self {
        let sigmas = (1..=tables::TRAIN_STEPS)
            .map(|i| tables::shift_time(shift, i as f64 / tables::TRAIN_STEPS as f64) as f32)
            .collect();
        Self {
            prediction: Prediction::Flow,
            sigma_data: 1.0,
            levels: Levels::Flow { shift, multiplier },
            sigmas,
        }
    }

    /// Rectified flow with Flux's shift μ; timesteps are sigmas.
    pub fn flux(mu: f64) -> Self {
        const STEPS: usize = 10_000;
        let sigmas =
            (1..=STEPS).map(|i| tables::flux_shift_time(mu, i as f64 / STEPS as f64) as f32).collect();
        Self { prediction: Prediction::Flow, sigma_data: 1.0, levels: Levels::Flux { mu }, sigmas }
    }

    /// The prediction kind.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The same noise levels under another prediction kind.
    pub fn with_prediction(mut self, prediction: Prediction) -> Self {
        self.prediction = prediction;
        self
    }

    /// Whether latents are interpolated with noise (flow) rather than noise being added.
    pub fn is_flow(&self) -> bool {
        self.prediction == Prediction::Flow
    }

    /// The family of noise levels, with its parameters.
    pub fn level_kind(&self) -> LevelKind {
        match self.levels {
            Levels::Discrete { .. } => LevelKind::Discrete,
            Levels::LogSigma | Levels::Arctan | Levels::Cosine { .. } | Levels::Share => {
                LevelKind::Continuous
            }
            Levels::Flow { shift, multiplier } => LevelKind::Flow { shift, multiplier },
            Levels::Flux { mu } => LevelKind::Flux { mu },
        }
    }

    /// The rising table of sigmas that named schedules pick from.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// The smallest sigma of the table.
    pub fn sigma_min(&self) -> f64 {
        self.sigmas.first().copied().map_or(0.0, f64::from)
    }

    /// The largest sigma of the table.
    pub fn sigma_max(&self) -> f64 {
        self.sigmas.last().copied().map_or(0.0, f64::from)
    }

    /// The timestep that the network is given at `sigma`.
    pub fn timestep(&self, sigma: f64) -> f64 {
        let sigma = sigma as f32;
        match &self.levels {
            Levels::Discrete { log_sigmas, stride } => {
                (nearest(log_sigmas, sigma.ln()) * stride + (stride - 1)) as f64
            }
            Levels::LogSigma => f64::from(0.25 * sigma.ln()),
            Levels::Arctan => f64::from(sigma.atan() / std::f32::consts::PI * 2.0),
            Levels::Flow { multiplier, .. } => f64::from(sigma * *multiplier as f32),
            Levels::Flux { .. } => f64::from(sigma),
            Levels::Cosine { .. } => f64::from(tables::cosine_time(f64::from(sigma)) as f32),
            Levels::Share => f64::from(sigma / (sigma + 1.0)),
        }
    }

    /// The sigma at a timestep.
    pub fn sigma(&self, timestep: f64) -> f64 {
        match &self.levels {
            Levels::Discrete { log_sigmas, stride } => {
                let index = (timestep as f32 - (stride - 1) as f32) / *stride as f32;
                f64::from(interpolate(log_sigmas, index).exp())
            }
            Levels::LogSigma => f64::from((timestep as f32 / 0.25).exp()),
            Levels::Arctan => f64::from((timestep as f32 * std::f32::consts::FRAC_PI_2).tan()),
            Levels::Flow { shift, multiplier } => round(tables::shift_time(*shift, timestep / multiplier)),
            Levels::Flux { mu } => round(tables::flux_shift_time(*mu, timestep)),
            Levels::Cosine { shift } => round(tables::cosine_sigma(*shift, timestep)),
            Levels::Share => f64::from(timestep as f32 / (1.0 - timestep as f32)),
        }
    }

    /// The sigma at a part of the way, 0 at the start (noisiest), 1 at the end.
    pub fn percent_to_sigma(&self, percent: f64) -> f64 {
        match &self.levels {
            Levels::Flow { shift, .. } => match percent {
                p if p <= 0.0 => 1.0,
                p if p >= 1.0 => 0.0,
                p => tables::shift_time(*shift, 1.0 - p),
            },
            Levels::Flux { mu } => match percent {
                p if p <= 0.0 => 1.0,
                p if p >= 1.0 => 0.0,
                p => tables::flux_shift_time(*mu, 1.0 - p),
            },
            _ if percent <= 0.0 => BEFORE_START,
            _ if percent >= 1.0 => 0.0,
            Levels::Discrete { .. } => self.sigma((1.0 - percent) * (tables::TRAIN_STEPS - 1) as f64),
            Levels::Cosine { .. } => self.sigma(1.0 - percent),
            Levels::LogSigma | Levels::Arctan | Levels::Share => {
                let low = self.sigma_min().ln();
                ((self.sigma_max().ln() - low) * (1.0 - percent) + low).exp()
            }
        }
    }

    /// The network's input from the noisy latent.
    pub fn scale_input(&self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        match self.prediction {
            Prediction::Flow => Ok(x.clone()),
            Prediction::ScaledFlow => Ok((x / (sigma + 1.0))?),
            _ => Ok((x / (sigma.powi(2) + self.sigma_data.powi(2)).sqrt())?),
        }
    }

    /// The denoised latent from the network's output and the (unscaled) noisy latent.
    pub fn denoised(&self, output: &Tensor, x: &Tensor, sigma: f64) -> Result<Tensor> {
        let data = self.sigma_data;
        let total = sigma.powi(2) + data.powi(2);
        let skip = data.powi(2) / total;
        let out = sigma * data / total.sqrt();
        match self.prediction {
            Prediction::Eps | Prediction::Flow => Ok((x - (output * sigma)?)?),
            Prediction::V => Ok(((x * skip)? - (output * out)?)?),
            Prediction::Edm => Ok(((x * skip)? + (output * out)?)?),
            Prediction::X0 => Ok(output.clone()),
            Prediction::ScaledFlow => Ok(((x - (output * sigma)?)? / (sigma + 1.0))?),
            Prediction::Lcm => {
                let (time, data) = (self.timestep(sigma) * LCM_TIMESTEP_SCALE, LCM_SIGMA_DATA);
                let total = time.powi(2) + data.powi(2);
                let clean = (x - (output * sigma)?)?;
                Ok(((clean * (time / total.sqrt()))? + (x * (data.powi(2) / total))?)?)
            }
        }
    }

    /// The start state at `sigma`: noise laid over a latent. `max_denoise` says that `sigma` is the
    /// schedule's top, see [`Self::is_max_denoise`].
    pub fn noise_latent(
        &self,
        sigma: f64,
        noise: &Tensor,
        latent: &Tensor,
        max_denoise: bool,
    ) -> Result<Tensor> {
        if self.is_flow() {
            return Ok(((noise * sigma)? + (latent * (1.0 - sigma))?)?);
        }
        let at_the_top = max_denoise && self.prediction != Prediction::ScaledFlow;
        let scale = if at_the_top { (1.0 + sigma.powi(2)).sqrt() } else { sigma };
        Ok(((noise * scale)? + latent)?)
    }

    /// Undoes what is left of [`Self::noise_latent`] after the last sigma.
    pub fn finish_latent(&self, sigma: f64, latent: Tensor) -> Result<Tensor> {
        if self.is_flow() && sigma != 0.0 { Ok((latent / (1.0 - sigma))?) } else { Ok(latent) }
    }

    /// Whether a schedule that starts at `sigma` starts at the top.
    pub fn is_max_denoise(&self, sigma: f64) -> bool {
        let top = self.sigma_max();
        sigma >= top || (sigma - top).abs() <= 1e-5 * sigma.abs().max(top.abs())
    }
}

fn round(value: f64) -> f64 {
    f64::from(value as f32)
}

/// Index of the table entry nearest to `value`; the first of equals.
fn nearest(table: &[f32], value: f32) -> usize {
    let mut best = (0, f32::INFINITY);
    for (index, entry) in table.iter().enumerate() {
        let distance = (entry - value).abs();
        if distance < best.1 {
            best = (index, distance);
        }
    }
    best.0
}

/// Linear interpolation between neighbouring entries; clamped to the table.
fn interpolate(table: &[f32], position: f32) -> f32 {
    let last = table.len().saturating_sub(1);
    let position = position.clamp(0.0, last as f32);
    let low = position.floor() as usize;
    let weight = position - position.floor();
    match (table.get(low), table.get((low + 1).min(last))) {
        (Some(&a), Some(&b)) => (1.0 - weight) * a + weight * b,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests;
