//! The kinds of networks: recorded inputs to outputs by the names they are recorded under.

use std::sync::Arc;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::checkpoint::LazyUNet;
use rushlight_diffusion::clip::TextEncoder;
use rushlight_diffusion::conditioning::{ControlInput, ControlModel};
use rushlight_diffusion::latent_format::LatentFormat;
use rushlight_diffusion::lora::Lora;
use rushlight_diffusion::model::{DiffusionModel, Model, ModelInput};
use rushlight_diffusion::models::clip::{ClipText, MlpActivation, Output};
use rushlight_diffusion::models::controlnet::ControlNet;
use rushlight_diffusion::models::esrgan::{self, Esrgan};
use rushlight_diffusion::models::taesd::Taesd;
use rushlight_diffusion::models::unet::UNet;
use rushlight_diffusion::models::vae::AutoEncoder;
use rushlight_diffusion::sampling::{ModelSampling, Prediction};
use rushlight_diffusion::tokenizer::{Piece, Token};
use rushlight_diffusion::weights::{StateDict, Weights, layouts};

use super::{Goldens, Io, Recorded};

/// Outputs by name, or `None` when no kind reads these keys.
type Outputs = Option<Vec<(String, Tensor)>>;

const UNET: &str = "model.diffusion_model.";

/// Runs the network that a model's keys belong to.
pub(super) fn outputs(model: &Recorded, goldens: &Goldens) -> Result<Outputs> {
    let dict = &model.dict;
    let has = |prefix: &str| dict.has_prefix(prefix);
    if has("model.diffusion_model.input_blocks.") {
        return unet(model).map(Some);
    }
    for prefix in ["first_stage_model.", ""] {
        if has(&format!("{prefix}decoder.conv_in.")) {
            return vae(model, prefix).map(Some);
        }
    }
    if has("cond_stage_model.transformer.") {
        let dict = dict.view("cond_stage_model.transformer.");
        return clip(model, &dict, MlpActivation::QuickGelu).map(Some);
    }
    if has("conditioner.embedders.1.model.") {
        let dict = layouts::open_clip_to_hugging_face(&dict.view("conditioner.embedders.1.model."));
        return clip(model, &dict, MlpActivation::Gelu).map(Some);
    }
    if has("control_model.") {
        return control(model, goldens).map(Some);
    }
    if let Ok(dict) = esrgan::canonical(dict) {
        let out = Esrgan::new(&weights(&dict, ""))?.forward(&model.io.get("x")?)?;
        return Ok(Some(vec![("out".to_string(), out)]));
    }
    if dict.contains("1.weight") && has("3.conv.") {
        let pixels = Taesd::decoder(&weights(dict, ""))?.forward(&model.io.get("z")?)?;
        return Ok(Some(vec![("decoded".to_string(), pixels.affine(2.0, -1.0)?)]));
    }
    Ok(None)
}

fn weights(dict: &StateDict, prefix: &str) -> Weights {
    Weights::new(dict.view(prefix), DType::F32, &Device::Cpu)
}

fn unet(model: &Recorded) -> Result<Vec<(String, Tensor)>> {
    let unet = UNet::new(&weights(&model.dict, UNET))?;
    let case = |case: String| {
        let get = |part: &str| model.io.get(&format!("{case}/{part}"));
        let input = ModelInput {
            context: Some(get("context")?),
            y: model.io.find(&format!("{case}/y")),
            ..ModelInput::default()
        };
        let out = unet.forward(&get("x")?, &get("timesteps")?, &input)?;
        Ok((format!("{case}/out"), out))
    };
    model.io.cases("out").into_iter().map(case).collect()
}

fn vae(model: &Recorded, prefix: &str) -> Result<Vec<(String, Tensor)>> {
    let vae = AutoEncoder::new(&weights(&model.dict, prefix))?;
    let mut outputs = Vec::new();
    let mut cases = model.io.cases("z");
    if model.io.find("z").is_some() {
        cases.push(String::new());
    }
    for case in cases {
        let path = |part: &str| if case.is_empty() { part.to_string() } else { format!("{case}/{part}") };
        outputs.push((path("moments"), vae.moments(&model.io.get(&path("pixels"))?)?));
        outputs.push((path("decoded"), vae.decode(&model.io.get(&path("z"))?)?));
    }
    Ok(outputs)
}

fn clip(model: &Recorded, dict: &StateDict, activation: MlpActivation) -> Result<Vec<(String, Tensor)>> {
    let network = ClipText::new(&weights(dict, ""), activation)?;
    let io = &model.io;
    let mut outputs = Vec::new();
    for case in io.cases("ids") {
        let chunks = tokens(io, &format!("{case}/ids"), None)?;
        let encode = |skip, normed| network.encode(&chunks, Output { skip, normed });
        let penultimate = encode(1, false)?;
        outputs.push((format!("{case}/last_hidden_normed"), encode(0, true)?.hidden));
        outputs.push((format!("{case}/penultimate_normed"), encode(1, true)?.hidden));
        outputs.push((format!("{case}/penultimate_raw"), penultimate.hidden));
        outputs.push((format!("{case}/pooled_projected"), penultimate.pooled));
    }
    let (encoder, output) = match activation {
        MlpActivation::QuickGelu => {
            (TextEncoder::clip_l(weights(dict, "")), Output { skip: 0, normed: true })
        }
        MlpActivation::Gelu => (TextEncoder::clip_g(weights(dict, "")), Output { skip: 1, normed: false }),
    };
    for case in io.cases("tokens") {
        let chunks = tokens(io, &format!("{case}/tokens"), Some(&format!("{case}/weights")))?;
        let encoded = encoder.encode(&chunks, output)?;
        outputs.push((format!("{case}/cond"), encoded.hidden));
        outputs.push((format!("{case}/pooled"), encoded.pooled));
    }
    Ok(outputs)
}

fn tokens(io: &Io, ids: &str, weights: Option<&str>) -> Result<Vec<Vec<Token>>> {
    let ids = io.get(ids)?.to_vec2::<f32>()?;
    let weights = match weights {
        Some(weights) => io.get(weights)?.to_vec2::<f32>()?,
        None => ids.iter().map(|row| vec![1.0; row.len()]).collect(),
    };
    let token =
        |(id, weight): (f32, f32)| Token { piece: Piece::Id(id as u32), weight: f64::from(weight), word: 0 };
    let rows = ids.into_iter().zip(weights);
    Ok(rows.map(|(ids, weights)| ids.into_iter().zip(weights).map(token).collect()).collect())
}

/// The control network alone, and together with the recorded UNet it belongs to.
fn control(model: &Recorded, goldens: &Goldens) -> Result<Vec<(String, Tensor)>> {
    let network = ControlNet::new(&weights(&model.dict, "control_model."))?;
    let get = |name: &str| model.io.get(name);
    let (x, hint, timestep, context) = (get("x")?, get("hint")?, get("timesteps")?, get("context")?);
    let residuals = network.forward(&ControlInput {
        x: &x,
        hint: &hint,
        timestep: &timestep,
        context: Some(&context),
        y: None,
        union_type: None,
    })?;
    let named = |kind: &str, list: &[Option<Tensor>]| -> Vec<(String, Tensor)> {
        let numbered = list.iter().enumerate();
        numbered.filter_map(|(i, t)| Some((format!("{kind}/{i}"), t.clone()?))).collect()
    };
    let mut outputs = named("output", &residuals.output);
    outputs.extend(named("middle", &residuals.middle));

    let unet = UNet::new(&weights(&goldens.recorded("unet_sd15")?.dict, UNET))?;
    let run = |control| {
        let input = ModelInput { context: Some(context.clone()), control, ..ModelInput::default() };
        unet.forward(&x, &timestep, &input)
    };
    outputs.push(("unet_out_no_control".to_string(), run(None)?));
    outputs.push(("unet_out_strength_0.8".to_string(), run(Some(residuals.scaled(0.8)?))?));
    Ok(outputs)
}

/// A LoRA file on the recorded UNet, at its recorded strength.
pub(super) fn lora(name: &str, io: &Io, goldens: &Goldens) -> Result<Outputs> {
    let Some(format) = name.strip_prefix("lora_") else { return Ok(None) };
    let strength = goldens.models[name]["strength"].as_f64().unwrap_or(1.0);
    let unet = goldens.recorded("unet_sd15")?;
    let network = Arc::new(LazyUNet::new(weights(&unet.dict, UNET)));
    let sampling = ModelSampling::stable_diffusion(Prediction::Eps);
    let model = Model::new(network, sampling, LatentFormat::by_name("SD15")?);
    let lora = Lora::open(&goldens.folder.join(format!("{name}.safetensors")))?;
    let applied = lora.apply_to_model(&model, strength)?;
    anyhow::ensure!(applied.unmatched.is_empty(), "not in the model: {:?}", applied.unmatched);
    let input = ModelInput { context: Some(io.get("context")?), ..ModelInput::default() };
    let out = applied.patched.network.forward(&io.get("x")?, &io.get("timesteps")?, &input)?;
    Ok(Some(vec![(format!("{format}/out"), out)]))
}
