//! From a seed, conditioning and a latent to a finished latent: what KSampler, KSamplerAdvanced and
//! the custom sampler nodes run.

use candle_core::{DType, Tensor};

use crate::conditioning::Conditioning;
use crate::guidance::batch::latent_mask;
use crate::guidance::prepare::Canvas;
use crate::guidance::{Guidance, Guider};
use crate::model::Model;
use crate::models::hypertile::TileDraws;
use crate::noise::{GeneratorNoise, NoiseSource, prepare_noise};
use crate::samplers::{Callback, Denoiser, Sampler, SamplerOptions, Solver};
use crate::sampling::schedulers::{ksampler_sigmas, window};
use crate::{Error, Result};

mod inpaint;

use inpaint::Inpaint;

/// A run at the level of custom samplers: everything is given.
pub struct Run<'a> {
    /// The model.
    pub model: &'a Model,
    /// What guides it.
    pub guidance: &'a Guidance,
    /// The sampler.
    pub sampler: &'a Sampler,
    /// Numbers set by sampler nodes.
    pub options: &'a SamplerOptions,
    /// Sigmas from the noisiest down.
    pub sigmas: &'a [f64],
    /// Seed of the noise inside the sampler.
    pub seed: u64,
    /// Start noise shaped as the latent.
    pub noise: &'a Tensor,
    /// The latent `[B, C, H, W]` in the user's space; see [`fit_latent`].
    pub latent: &'a Tensor,
    /// Inpainting mask `[…, H, W]` of any size, 1 where the picture is made anew.
    pub noise_mask: Option<&'a Tensor>,
}

/// Runs a sampler; the finished latent in the user's space.
pub fn sample(run: &Run<'_>, callback: Callback<'_>) -> Result<Tensor> {
    let (Some(first), Some(last)) = (run.sigmas.first(), run.sigmas.last()) else {
        return Ok(run.latent.clone());
    };
    let tiled;
    let model = match run.model.forward.hypertile {
        Some(_) => {
            tiled = drawing_tiles(run);
            &tiled
        }
        None => run.model,
    };
    let device = model.network.device();
    let sampling = &model.sampling;
    let rank = run.latent.rank();
    if rank < 4 || run.noise.dims() != run.latent.dims() {
        return Err(Error::shape(
            "noise",
            format!("{:?}, that of the latent", run.latent.dims()),
            run.noise.dims(),
        ));
    }
    let latent = run.latent.to_device(device)?.to_dtype(DType::F32)?;
    // An empty latent is empty in model space too, whatever the format's shift.
    let latent = if is_zero(&latent)? { latent } else { model.latent_format.process_in(&latent)? };
    let noise = run.noise.to_device(device)?.to_dtype(DType::F32)?;

    let (batch, height, width) = (latent.dim(0)?, latent.dim(rank - 2)?, latent.dim(rank - 1)?);
    let noise_mask = match run.noise_mask {
        Some(mask) => Some(latent_mask(&mask.to_device(device)?, batch, height, width)?),
        None => None,
    };
    let canvas = Canvas {
        batch,
        height,
        width,
        latent: latent.clone(),
        noise_mask: noise_mask.clone(),
        seed: run.seed,
    };
    let mut guider = Guider::new(model, run.guidance, &canvas, run.sampler.cfg_pp)?;
    let start = sampling.noise_latent(*first, &noise, &latent, sampling.is_max_denoise(*first))?;

    let mut inpaint;
    let denoiser: &mut dyn Denoiser = match noise_mask {
        Some(mask) => {
            let noise = if run.sampler.fresh_inpaint_noise {
                GeneratorNoise::new(&latent, run.seed.wrapping_add(1)).sample(*first, 0.0)?
            } else {
                noise
            };
            inpaint = Inpaint::new(guider, sampling, noise, latent, &mask)?;
            if let Some(hook) = &model.guidance.mask {
                // The last step of a whole schedule ends at the model's own lowest level.
                let end = if *last > sampling.sigma_min() { *last } else { sampling.sigma_min() };
                inpaint.hook = Some((hook.clone(), sampling.timestep(*first), sampling.timestep(end)));
            }
            &mut inpaint
        }
        None => &mut guider,
    };
    let mut solver =
        Solver { denoiser, sigmas: run.sigmas, sampling, options: run.options, seed: run.seed, callback };
    let finished = (run.sampler.run)(&mut solver, start)?;
    model.latent_format.process_out(&sampling.finish_latent(*last, finished)?)
}

/// The run's model, its tiles drawn from the generator of the start noise.
fn drawing_tiles(run: &Run<'_>) -> Model {
    let mut model = run.model.clone();
    model.forward.tile_draws = Some(TileDraws::after_noise(run.seed, run.noise.elem_count()));
    model
}

/// The inputs of KSampler and KSamplerAdvanced.
pub struct KSampler<'a> {
    /// The model.
    pub model: &'a Model,
    /// What the picture should be.
    pub positive: &'a Conditioning,
    /// What it should not be.
    pub negative: &'a Conditioning,
    /// Guidance scale.
    pub cfg: f64,
    /// Name of the sampler.
    pub sampler: &'a str,
    /// Name of the schedule.
    pub scheduler: &'a str,
    /// Number of steps.
    pub steps: usize,
    /// Part of the way to go, 1 from pure noise.
    pub denoise: f64,
    /// Seed.
    pub seed: u64,
    /// The latent in the user's space.
    pub latent: &'a Tensor,
    /// Inpainting mask.
    pub noise_mask: Option<&'a Tensor>,
    /// Which draws of the noise the pictures take.
    pub batch_index: Option<&'a [usize]>,
    /// First step of the schedule to run.
    pub start_step: Option<usize>,
    /// Step to end at.
    pub last_step: Option<usize>,
    /// Remove all noise even when ending early.
    pub force_full_denoise: bool,
    /// Start from the latent as it is.
    pub disable_noise: bool,
}

impl KSampler<'_> {
    /// The sigmas that the run goes through; empty when there is nothing to do.
    pub fn sigmas(&self) -> Result<Vec<f64>> {
        let sampler = Sampler::by_name(self.sampler)?;
        let sigmas = ksampler_sigmas(
            &self.model.sampling,
            self.scheduler,
            self.steps,
            self.denoise,
            sampler.discard_penultimate,
        )?;
        Ok(window(sigmas, self.start_step, self.last_step, self.force_full_denoise).unwrap_or_default())
    }

    /// Runs to the finished latent in the user's space. `callback` is told of each step and stops
    /// the run by an error.
    pub fn run(&self, callback: Callback<'_>) -> Result<Tensor> {
        let latent = fit_latent(self.latent, self.model)?;
        let noise = if self.disable_noise {
            latent.zeros_like()?
        } else {
            prepare_noise(latent.dims(), self.seed, self.batch_index)?
        };
        let guidance = Guidance::Cfg {
            positive: self.positive.clone(),
            negative: self.negative.clone(),
            scale: self.cfg,
        };
        let run = Run {
            model: self.model,
            guidance: &guidance,
            sampler: Sampler::by_name(self.sampler)?,
            options: &SamplerOptions::default(),
            sigmas: &self.sigmas()?,
            seed: self.seed,
            noise: &noise,
            latent: &latent,
            noise_mask: self.noise_mask,
        };
        sample(&run, callback)
    }
}

/// Brings a latent to the model's shape: an empty one with another number of channels is repeated,
/// a picture for a video model gets a time axis.
pub fn fit_latent(latent: &Tensor, model: &Model) -> Result<Tensor> {
    let format = model.latent_format;
    let mut latent = latent.clone();
    if latent.rank() < 3 {
        return Err(Error::shape("latent", "[B, C, H, W]", latent.dims()));
    }
    let channels = latent.dim(1)?;
    if channels != format.channels && channels > 0 && is_zero(&latent)? {
        let copies = vec![&latent; format.channels.div_ceil(channels)];
        latent = Tensor::cat(&copies, 1)?.narrow(1, 0, format.channels)?;
    }
    if format.dims == 3 && latent.rank() == 4 {
        latent = latent.unsqueeze(2)?;
    }
    Ok(latent)
}

fn is_zero(latent: &Tensor) -> Result<bool> {
    if latent.elem_count() == 0 {
        return Ok(true);
    }
    Ok(latent.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F32)?.to_scalar::<f32>()? == 0.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use candle_core::Device;

    use super::*;
    use crate::conditioning::CondEntry;
    use crate::latent_format::LatentFormat;
    use crate::model::{DiffusionModel, ModelInput};
    use crate::samplers::SAMPLERS;
    use crate::sampling::{ModelSampling, Prediction};

    /// Predicts a tenth of its input and counts its calls.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl DiffusionModel for Counting {
        fn forward(&self, x: &Tensor, _: &Tensor, _: &ModelInput) -> Result<Tensor> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok((x * 0.1)?)
        }

        fn dtype(&self) -> DType {
            DType::F32
        }

        fn device(&self) -> &Device {
            &Device::Cpu
        }
    }

    struct Fixture {
        network: Arc<Counting>,
        model: Model,
        conditioning: Conditioning,
        latent: Tensor,
    }

    impl Fixture {
        fn new(sampling: ModelSampling) -> Result<Self> {
            let network = Arc::new(Counting::default());
            let model = Model::new(network.clone(), sampling, LatentFormat::by_name("SD15")?);
            let tokens = Tensor::zeros((1, 77, 8), DType::F32, &Device::Cpu)?;
            let conditioning = Conditioning(vec![CondEntry::new(tokens, None)]);
            let latent = Tensor::zeros((1, 4, 8, 8), DType::F32, &Device::Cpu)?;
            Ok(Self { network, model, conditioning, latent })
        }

        fn ksampler(&self) -> KSampler<'_> {
            KSampler {
                model: &self.model,
                positive: &self.conditioning,
                negative: &self.conditioning,
                cfg: 7.0,
                sampler: "euler",
                scheduler: "normal",
                steps: 5,
                denoise: 1.0,
                seed: 1,
                latent: &self.latent,
                noise_mask: None,
                batch_index: None,
                start_step: None,
                last_step: None,
                force_full_denoise: true,
                disable_noise: false,
            }
        }

        fn calls(&self) -> usize {
            self.network.0.swap(0, Ordering::Relaxed)
        }
    }

    fn eps() -> Result<Fixture> {
        Fixture::new(ModelSampling::stable_diffusion(Prediction::Eps))
    }

    #[test]
    fn both_predictions_of_a_step_are_one_network_call() -> Result<()> {
        let fixture = eps()?;
        fixture.ksampler().run(&mut |_| Ok(()))?;
        assert_eq!(fixture.calls(), 5);
        Ok(())
    }

    #[test]
    fn a_callback_that_returns_an_error_stops_the_run() -> Result<()> {
        let fixture = eps()?;
        let outcome = fixture.ksampler().run(&mut |step| {
            assert_eq!(step.total, 5);
            if step.index == 1 { Err(Error::Cancelled) } else { Ok(()) }
        });
        assert!(matches!(outcome, Err(Error::Cancelled)));
        assert_eq!(fixture.calls(), 2);
        Ok(())
    }

    #[test]
    fn a_window_past_the_end_leaves_the_latent_as_it_is() -> Result<()> {
        let fixture = eps()?;
        let ksampler = KSampler { start_step: Some(5), ..fixture.ksampler() };
        let out = ksampler.run(&mut |_| Ok(()))?;
        assert_eq!(out.flatten_all()?.to_vec1::<f32>()?, vec![0.0; 256]);
        assert_eq!(fixture.calls(), 0);
        Ok(())
    }

    #[test]
    fn an_empty_latent_of_other_channels_is_fitted_to_the_model() -> Result<()> {
        let fixture = eps()?;
        let latent = Tensor::zeros((2, 16, 8, 8), DType::F32, &Device::Cpu)?;
        assert_eq!(fit_latent(&latent, &fixture.model)?.dims(), [2, 4, 8, 8]);
        let ksampler = KSampler { latent: &latent, ..fixture.ksampler() };
        assert_eq!(ksampler.run(&mut |_| Ok(()))?.dims(), [2, 4, 8, 8]);
        Ok(())
    }

    #[test]
    fn every_sampler_ends_in_finite_numbers_for_few_steps_and_odd_sizes() -> Result<()> {
        for sampling in [ModelSampling::stable_diffusion(Prediction::V), ModelSampling::flow(3.0, 1000.0)] {
            let fixture = Fixture::new(sampling)?;
            let latent = Tensor::zeros((2, 4, 3, 5), DType::F32, &Device::Cpu)?;
            for sampler in SAMPLERS {
                for steps in 1..=4 {
                    let base = fixture.ksampler();
                    let ksampler = KSampler { sampler: sampler.name, steps, latent: &latent, ..base };
                    let out = ksampler.run(&mut |_| Ok(()))?;
                    let sum = out.abs()?.sum_all()?.to_scalar::<f32>()?;
                    assert!(sum.is_finite(), "{} in {steps} steps: {sum}", sampler.name);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_conditioning_of_nothing_is_no_error() -> Result<()> {
        let fixture = eps()?;
        let nothing = Conditioning::default();
        let ksampler = KSampler { positive: &nothing, negative: &nothing, ..fixture.ksampler() };
        ksampler.run(&mut |_| Ok(()))?;
        assert_eq!(fixture.calls(), 0);
        Ok(())
    }
}
