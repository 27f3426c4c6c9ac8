//! Parts that come in files of their own: UNets, text encoders, VAEs, control networks, upscalers.
//!
//! Each takes a state dict, so that a file, embedded bytes or a part of a checkpoint load the same way,
//! and recognises the layouts in use by their keys.

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::{LoadOptions, unet_model};
use crate::clip::{Clip, ClipFamily, TextEncoder};
use crate::conditioning::ControlModel;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::models::adapter::Adapter;
use crate::models::clip_vision::ClipVision;
use crate::models::controlnet::ControlNet;
use crate::models::esrgan::{self, Esrgan};
use crate::models::style::{self, StyleModel};
use crate::tiled::{TileSize, tiled};
use crate::vae::Vae;
use crate::weights::{StateDict, Weights, layouts};

/// A diffusion model from its own file: the original layout with or without
/// `model.diffusion_model.`, or diffusers'.
///
/// # Errors
/// When the tensors are no UNet that we know.
pub fn diffusion_model(dict: &StateDict, origin: &str, options: &LoadOptions) -> Result<Model> {
    let prefixes = ["model.diffusion_model.", "diffusion_model.", ""];
    for prefix in prefixes {
        if dict.has_prefix(&format!("{prefix}input_blocks.")) {
            return Ok(unet_model(dict, dict.view(prefix), options)?.1);
        }
    }
    for prefix in ["unet.", ""] {
        if dict.has_prefix(&format!("{prefix}down_blocks.")) {
            let unet = layouts::unet::from_diffusers(&dict.view(prefix));
            return Ok(unet_model(dict, unet, options)?.1);
        }
    }
    Err(unknown(dict, origin, "a diffusion model"))
}

/// A VAE from its own file, from a whole checkpoint, or in diffusers' layout.
///
/// # Errors
/// When the tensors are no VAE that we know.
pub fn vae(dict: &StateDict, origin: &str, options: &LoadOptions) -> Result<Vae> {
    for prefix in ["first_stage_model.", "vae.", ""] {
        let part = dict.view(prefix);
        if layouts::vae::is_diffusers(&part) {
            return Ok(Vae::new(options.vae_weights(layouts::vae::from_diffusers(&part))));
        }
        if part.has_prefix("decoder.conv_in.") && part.has_prefix("decoder.mid.") {
            return Ok(Vae::new(options.vae_weights(part)));
        }
    }
    Err(unknown(dict, origin, "a VAE"))
}

/// Text encoders from one file each, in any order. One file makes SD 1.x (CLIP-L), SD 2.x (OpenCLIP-H) or
/// the SDXL refiner's (CLIP-G) conditioning, CLIP-L and CLIP-G together SDXL's.
///
/// # Errors
/// When a file is no CLIP text encoder, or the combination is not known.
pub fn text_encoders(files: &[(StateDict, String)], options: &LoadOptions) -> Result<Clip> {
    let mut encoders = Vec::new();
    for (dict, origin) in files {
        encoders.push(text_encoder(dict, origin, options)?);
    }
    encoders.sort_by_key(|encoder| encoder.name != "l");
    let names: Vec<&str> = encoders.iter().map(|encoder| encoder.name).collect();
    let family = match names.as_slice() {
        ["l"] => ClipFamily::StableDiffusion1,
        ["h"] => ClipFamily::StableDiffusion2,
        ["g"] => ClipFamily::StableDiffusionXlRefiner,
        ["l", "g"] => ClipFamily::StableDiffusionXl,
        _ => {
            return Err(Error::Unsupported {
                what: format!("the combination of text encoders {names:?}"),
                why: "known are CLIP-L, CLIP-G, OpenCLIP-H, and CLIP-L with CLIP-G".to_string(),
            });
        }
    };
    Ok(Clip::new(family, encoders))
}

/// One CLIP text encoder: the Hugging Face or OpenCLIP layout, under any of the prefixes that files use.
/// Which of the three it is, is read from its width.
fn text_encoder(dict: &StateDict, origin: &str, options: &LoadOptions) -> Result<TextEncoder> {
    let prefixes = [
        "",
        "transformer.",
        "cond_stage_model.transformer.",
        "text_encoders.clip_l.transformer.",
        "text_encoders.clip_g.transformer.",
        "text_encoder.",
        "clip_l.transformer.",
        "clip_g.transformer.",
    ];
    let hugging_face = prefixes
        .into_iter()
        .find(|prefix| dict.has_prefix(&format!("{prefix}text_model.encoder.layers.")))
        .map(|prefix| dict.view(prefix));
    let open_clip = || {
        [
            "",
            "model.",
            "cond_stage_model.model.",
            "conditioner.embedders.0.model.",
            "conditioner.embedders.1.model.",
        ]
        .into_iter()
        .find(|prefix| dict.has_prefix(&format!("{prefix}transformer.resblocks.")))
        .map(|prefix| layouts::open_clip_to_hugging_face(&dict.view(prefix)))
    };
    let part = hugging_face.or_else(open_clip).ok_or_else(|| unknown(dict, origin, "a CLIP text encoder"))?;
    let table = "text_model.embeddings.token_embedding.weight";
    let width = part.shape(table).and_then(|shape| shape.get(1).copied());
    let weights = options.text_encoder_weights(part);
    match width {
        Some(1280) => Ok(TextEncoder::clip_g(weights)),
        Some(1024) => Ok(TextEncoder::clip_h(weights)),
        Some(_) => Ok(TextEncoder::clip_l(weights)),
        None => Err(Error::MissingTensor { key: table.to_string(), what: origin.to_string() }),
    }
}

/// A ControlNet in the original layout or diffusers', a union network, or a T2I adapter.
///
/// # Errors
/// When the tensors are no ControlNet that we know.
pub fn control_net(dict: &StateDict, origin: &str, options: &LoadOptions) -> Result<Arc<dyn ControlModel>> {
    for prefix in ["control_model.", ""] {
        if dict.has_prefix(&format!("{prefix}input_hint_block."))
            && dict.has_prefix(&format!("{prefix}zero_convs."))
        {
            return Ok(Arc::new(ControlNet::new(&options.control_weights(dict.view(prefix)))?));
        }
    }
    for prefix in ["controlnet.", ""] {
        if dict.has_prefix(&format!("{prefix}controlnet_cond_embedding.")) {
            let original = layouts::unet::control_from_diffusers(&dict.view(prefix));
            return Ok(Arc::new(ControlNet::new(&options.control_weights(original))?));
        }
    }
    for prefix in ["adapter.", ""] {
        if dict.has_prefix(&format!("{prefix}body.")) {
            return Ok(Arc::new(Adapter::new(&options.control_weights(dict.view(prefix)))?));
        }
    }
    Err(unknown(dict, origin, "a ControlNet"))
}

/// A CLIP picture encoder in the Hugging Face or OpenCLIP layout, under any of the prefixes that files use.
///
/// # Errors
/// When the tensors are no picture encoder that we know.
pub fn clip_vision(dict: &StateDict, origin: &str, options: &LoadOptions) -> Result<ClipVision> {
    for prefix in ["", "clip_vision.", "image_encoder."] {
        if dict.has_prefix(&format!("{prefix}vision_model.encoder.")) {
            return ClipVision::new(&options.text_encoder_weights(dict.view(prefix)));
        }
    }
    for prefix in ["visual.", "embedder.model.visual.", "conditioner.embedders.0.open_clip.model.visual."] {
        if dict.has_prefix(&format!("{prefix}transformer.resblocks.")) {
            let renamed = layouts::open_clip_vision_to_hugging_face(&dict.view(prefix));
            return ClipVision::new(&options.text_encoder_weights(renamed));
        }
    }
    Err(unknown(dict, origin, "a CLIP picture encoder"))
}

/// A style model.
///
/// # Errors
/// When the tensors are no style model that we know.
pub fn style_model(dict: &StateDict, options: &LoadOptions) -> Result<StyleModel> {
    StyleModel::new(&options.text_encoder_weights(style::canonical(dict)))
}

/// An upscaling network. Cheap to clone; the network is built when first used.
#[derive(Debug, Clone)]
pub struct Upscaler {
    weights: Weights,
    network: Arc<OnceLock<Esrgan>>,
}

impl Upscaler {
    /// From the tensors of an ESRGAN in any of its layouts.
    ///
    /// # Errors
    /// When the tensors are no ESRGAN.
    pub fn new(dict: &StateDict, options: &LoadOptions) -> Result<Self> {
        let weights = Weights::new(esrgan::canonical(dict)?, DType::F32, &options.device);
        Ok(Self { weights, network: Arc::default() })
    }

    fn network(&self) -> Result<&Esrgan> {
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        let network = Esrgan::new(&self.weights)?;
        Ok(self.network.get_or_init(|| network))
    }

    /// The tensors.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Factor of the picture's sides.
    ///
    /// # Errors
    /// When a tensor is missing.
    pub fn scale(&self) -> Result<f64> {
        Ok(self.network()?.scale())
    }

    /// Pictures `[B, H, W, 3]` in 0..1 to pictures `[B, H·scale, W·scale, 3]`, tile by tile; `done` hears
    /// how many tiles of all are finished.
    ///
    /// # Errors
    /// When the pictures have fewer than three channels, or `done` stops the work.
    pub fn upscale(
        &self,
        pixels: &Tensor,
        size: TileSize,
        mut done: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Tensor> {
        let network = self.network()?;
        let (batch, _, _, channels) = pixels.dims4()?;
        if channels < 3 {
            return Err(Error::shape("picture", "[B, H, W, 3]", pixels.dims()));
        }
        let pixels = pixels.narrow(3, 0, 3)?.permute((0, 3, 1, 2))?.to_dtype(DType::F32)?.contiguous()?;
        let pixels = pixels.to_device(self.weights.device())?;
        let (mut finished, total) = (0, size.count(pixels.dim(2)?, pixels.dim(3)?) * batch);
        let pictures = (0..batch)
            .map(|i| {
                let picture = pixels.narrow(0, i, 1)?;
                tiled(
                    &picture,
                    size,
                    network.scale(),
                    |tile| network.forward(tile),
                    || {
                        finished += 1;
                        done(finished, total)
                    },
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let out = Tensor::cat(&pictures, 0)?.clamp(0f32, 1f32)?;
        Ok(out.permute((0, 2, 3, 1))?.contiguous()?.to_device(&Device::Cpu)?)
    }
}

fn unknown(dict: &StateDict, origin: &str, what: &str) -> Error {
    let first: Vec<&str> = dict.iter().take(3).map(|(name, _)| name).collect();
    Error::Unsupported {
        what: format!("{origin} as {what}"),
        why: format!("its {} tensors, from {first:?}, are of no layout we know", dict.len()),
    }
}
