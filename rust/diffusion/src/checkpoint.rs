//! Single-file checkpoints: what family they are of, and their three parts.
//!
//! A family is recognised by keys and shapes, never by file name. Parts that a file does not have are
//! `None`, so that whoever needs one can say which is missing.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};

use crate::clip::{Clip, ClipFamily, TextEncoder};
use crate::error::{Error, Result};
use crate::latent_format::LatentFormat;
use crate::model::{ConcatKind, DiffusionModel, Model, ModelInput, VectorKind};
use crate::models::unet::UNet;
pub use crate::precision::LoadOptions;
use crate::sampling::{ModelSampling, Prediction};
use crate::unclip::NoiseAugmentor;
use crate::vae::Vae;
use crate::weights::{PatchSet, StateDict, Weights, layouts};

/// Where a checkpoint's UNet is.
const UNET: &str = "model.diffusion_model.";
/// Where its VAE is.
const VAE: &str = "first_stage_model.";

/// The families of Stable Diffusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Context from CLIP-L.
    StableDiffusion1,
    /// Context from OpenCLIP-H.
    StableDiffusion2,
    /// Two text encoders and a vector input.
    StableDiffusionXl,
    /// CLIP-G alone and a vector input with the aesthetic score.
    StableDiffusionXlRefiner,
}

/// The parts of a checkpoint.
#[derive(Clone)]
pub struct Checkpoint {
    /// The family, when there is a diffusion model.
    pub family: Option<Family>,
    /// The diffusion model.
    pub model: Option<Model>,
    /// The text encoders.
    pub clip: Option<Clip>,
    /// The autoencoder.
    pub vae: Option<Vae>,
}

/// Loads a checkpoint file.
///
/// # Errors
/// When the file cannot be read, is damaged, or holds nothing we know.
pub fn load_checkpoint(path: &Path, options: &LoadOptions) -> Result<Checkpoint> {
    let dict = StateDict::open(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    checkpoint_from_dict(&dict, &name, options)
}

/// Loads a checkpoint from tensors; `origin` names them in errors.
///
/// # Errors
/// When they hold nothing we know.
pub fn checkpoint_from_dict(dict: &StateDict, origin: &str, options: &LoadOptions) -> Result<Checkpoint> {
    let model = match dict.has_prefix(UNET) {
        true => Some(unet_model(dict, dict.view(UNET), options)?),
        false => None,
    };
    let (family, model) = model.map_or((None, None), |(family, model)| (Some(family), Some(model)));
    let clip = text_encoders(dict, options);
    let vae =
        dict.has_prefix("first_stage_model.decoder.").then(|| Vae::new(options.vae_weights(dict.view(VAE))));
    if model.is_none() && clip.is_none() && vae.is_none() {
        let first: Vec<&str> = dict.iter().take(3).map(|(name, _)| name).collect();
        return Err(Error::Unsupported {
            what: format!("{origin} as a checkpoint"),
            why: format!(
                "it has no {UNET}*, {VAE}* or text encoder tensors (its {} tensors start with {first:?})",
                dict.len()
            ),
        });
    }
    Ok(Checkpoint { family, model, clip, vae })
}

/// The diffusion model of `unet` (keys without prefix); `dict` is the whole file, which may say more.
pub(crate) fn unet_model(
    dict: &StateDict,
    unet: StateDict,
    options: &LoadOptions,
) -> Result<(Family, Model)> {
    let noise_augmentor = NoiseAugmentor::from_dict(dict)?.map(Arc::new);
    // The only SD 2.x models with a vector input.
    let family = match noise_augmentor {
        Some(_) => Family::StableDiffusion2,
        None => unet_family(&unet)?,
    };
    let (format, vector) = match family {
        Family::StableDiffusion2 if noise_augmentor.is_some() => ("SD15", VectorKind::UnClip),
        Family::StableDiffusion1 | Family::StableDiffusion2 => ("SD15", VectorKind::None),
        Family::StableDiffusionXl => ("SDXL", VectorKind::Sdxl),
        Family::StableDiffusionXlRefiner => ("SDXL", VectorKind::SdxlRefiner),
    };
    let channels = unet.shape("input_blocks.0.0.weight").and_then(|s| s.get(1).copied()).unwrap_or(4);
    let prediction = prediction(dict, family, channels);
    let sampling = match dict.contains("ztsnr") {
        true => ModelSampling::stable_diffusion_zero_snr(prediction),
        false => ModelSampling::stable_diffusion(prediction),
    };
    let network = Arc::new(LazyUNet::new(options.unet_weights(unet)));
    let mut model = Model::new(network, sampling, LatentFormat::by_name(format)?);
    model.vector = vector;
    model.noise_augmentor = noise_augmentor;
    model.concat = match channels {
        9 => ConcatKind::Inpaint,
        8 => ConcatKind::InstructPix2Pix,
        _ => ConcatKind::None,
    };
    Ok((family, model))
}

/// The family of a UNet (keys without prefix): by its vector input, then by how its transformers
/// project in (SD 1.x uses 1×1 convolutions, SD 2.x matrices).
fn unet_family(unet: &StateDict) -> Result<Family> {
    let Some((_, proj_in)) = unet.iter().find(|(name, _)| name.ends_with(".proj_in.weight")) else {
        let key = "input_blocks.*.1.proj_in.weight".to_string();
        return Err(Error::MissingTensor { key, what: "the UNet".to_string() });
    };
    let Some(vector) = unet.shape("label_emb.0.0.weight") else {
        let is_matrix = proj_in.shape().len() == 2;
        return Ok(if is_matrix { Family::StableDiffusion2 } else { Family::StableDiffusion1 });
    };
    // Base: 1280 pooled and six numbers; refiner: five numbers; each number takes 256.
    match vector.get(1) {
        Some(2560) => Ok(Family::StableDiffusionXlRefiner),
        _ => Ok(Family::StableDiffusionXl),
    }
}

/// Training steps of Stability AI's 512-pixel SD 2.0 and 2.1 base checkpoints, which predict noise.
const BASE_STEPS: [&str; 2] = ["875000", "220000"];

/// What the UNet predicts. Files say so in their metadata or with a marker tensor. Of SD 2.x, which says nothing, the
/// inpainting and depth models (by their channels) and the base models (by the step that their checkpoints carry)
/// predict noise, all others v, as the 768-pixel models do. ModelSamplingDiscrete sets another kind.
fn prediction(dict: &StateDict, family: Family, channels: usize) -> Prediction {
    if dict.contains("v_pred") {
        return Prediction::V;
    }
    let said = ["modelspec.prediction_type", "modelspec.predict_key"]
        .iter()
        .find_map(|key| dict.metadata().get(*key))
        .map(String::as_str);
    match said {
        Some("v" | "v_prediction" | "v-prediction") => return Prediction::V,
        Some("epsilon" | "eps") => return Prediction::Eps,
        _ => {}
    }
    let base = dict.metadata().get("global_step").is_some_and(|step| BASE_STEPS.contains(&step.as_str()));
    match family {
        Family::StableDiffusion2 if channels == 4 && !base => Prediction::V,
        _ => Prediction::Eps,
    }
}

/// The text encoders of a checkpoint.
fn text_encoders(dict: &StateDict, options: &LoadOptions) -> Option<Clip> {
    let hugging_face = |prefix: &str| options.text_encoder_weights(dict.view(prefix));
    let open_clip =
        |prefix: &str| options.text_encoder_weights(layouts::open_clip_to_hugging_face(&dict.view(prefix)));
    let has = |prefix: &str| dict.has_prefix(prefix);

    let (xl_l, xl_g) = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.");
    if has(xl_l) && has(xl_g) {
        let encoders = vec![TextEncoder::clip_l(hugging_face(xl_l)), TextEncoder::clip_g(open_clip(xl_g))];
        return Some(Clip::new(ClipFamily::StableDiffusionXl, encoders));
    }
    let refiner = "conditioner.embedders.0.model.";
    if has(refiner) {
        let encoder = TextEncoder::clip_g(open_clip(refiner));
        return Some(Clip::new(ClipFamily::StableDiffusionXlRefiner, vec![encoder]));
    }
    let sd2 = "cond_stage_model.model.";
    if has(sd2) {
        let encoder = TextEncoder::clip_h(open_clip(sd2));
        return Some(Clip::new(ClipFamily::StableDiffusion2, vec![encoder]));
    }
    let sd1 = "cond_stage_model.transformer.";
    if has(sd1) {
        let mut part = dict.view(sd1);
        if !part.has_prefix("text_model.") {
            // The oldest files leave that level out.
            part = part.rename(|name| Some(format!("text_model.{name}")));
        }
        let encoder = TextEncoder::clip_l(options.text_encoder_weights(part));
        return Some(Clip::new(ClipFamily::StableDiffusion1, vec![encoder]));
    }
    None
}

/// A UNet that is built when it first runs: loading a checkpoint costs nothing until then, and a
/// patched copy is a list of patches until it is used.
#[derive(Debug)]
pub struct LazyUNet {
    weights: Weights,
    network: OnceLock<UNet>,
}

impl LazyUNet {
    /// A UNet of `weights`, whose keys have no prefix.
    pub fn new(weights: Weights) -> Self {
        Self { weights, network: OnceLock::new() }
    }

    fn network(&self) -> Result<&UNet> {
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        let network = UNet::new(&self.weights)?;
        Ok(self.network.get_or_init(|| network))
    }
}

impl DiffusionModel for LazyUNet {
    fn forward(&self, x: &Tensor, timestep: &Tensor, input: &ModelInput) -> Result<Tensor> {
        self.network()?.forward(x, timestep, input)
    }

    fn dtype(&self) -> DType {
        self.weights.dtype()
    }

    fn device(&self) -> &Device {
        self.weights.device()
    }

    fn weights(&self) -> Option<&Weights> {
        Some(&self.weights)
    }

    fn with_patches(&self, patches: PatchSet) -> Option<Arc<dyn DiffusionModel>> {
        Some(Arc::new(Self::new(self.weights.patched(patches))))
    }
}
