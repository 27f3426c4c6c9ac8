//! Where and how exactly the parts of a model compute.

use candle_core::{DType, Device};

use crate::weights::{FileDtype, StateDict, Weights};

/// How exactly one part of a model computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartPrecision {
    /// Type of activations and weights. `None` picks one: `f32` on the CPU, elsewhere the file's sixteen-bit type
    /// (VAEs: `f32` everywhere, because activations of the published ones overflow half precision).
    pub compute: Option<DType>,
    /// Eight-bit float type that matrices and convolutions are rounded to when they are loaded.
    pub rounding: Option<FileDtype>,
}

impl PartPrecision {
    /// A compute type and no rounding.
    pub fn of(compute: DType) -> Self {
        Self { compute: Some(compute), rounding: None }
    }

    /// Rounding to an eight-bit type and the usual compute type.
    pub fn rounded(rounding: FileDtype) -> Self {
        Self { compute: None, rounding: Some(rounding) }
    }
}

/// How exactly each part of a model computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Precision {
    /// The diffusion model, and control networks beside it.
    pub unet: PartPrecision,
    /// Text and picture encoders.
    pub text_encoder: PartPrecision,
    /// The autoencoder.
    pub vae: PartPrecision,
}

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Device for the weights.
    pub device: Device,
    /// Another device for autoencoders.
    pub vae_device: Option<Device>,
    /// How exactly each part computes.
    pub precision: Precision,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { device: Device::Cpu, vae_device: None, precision: Precision::default() }
    }
}

impl LoadOptions {
    /// Weights of a diffusion model.
    pub fn unet_weights(&self, dict: StateDict) -> Weights {
        self.part(dict, self.precision.unet)
    }

    /// Weights of a control network: computed with as the diffusion model is, never rounded.
    pub fn control_weights(&self, dict: StateDict) -> Weights {
        self.part(dict, PartPrecision { rounding: None, ..self.precision.unet })
    }

    /// Weights of a text or picture encoder.
    pub fn text_encoder_weights(&self, dict: StateDict) -> Weights {
        self.part(dict, self.precision.text_encoder)
    }

    /// Weights of a VAE.
    pub fn vae_weights(&self, dict: StateDict) -> Weights {
        let device = self.vae_device.as_ref().unwrap_or(&self.device);
        Weights::new(dict, self.precision.vae.compute.unwrap_or(DType::F32), device)
    }

    fn part(&self, dict: StateDict, precision: PartPrecision) -> Weights {
        let compute = precision.compute.unwrap_or_else(|| match &self.device {
            Device::Cpu => DType::F32,
            _ => match dict.main_dtype().compute_dtype() {
                DType::F32 => DType::F16,
                dtype => dtype,
            },
        });
        let dict = match precision.rounding {
            Some(dtype) => dict.rounded_to(dtype),
            None => dict,
        };
        Weights::new(dict, compute, &self.device)
    }
}
