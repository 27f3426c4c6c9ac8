//! The embedded checkpoint, part by part, against PyTorch's reference run.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::checkpoint::{Checkpoint, Family, LoadOptions, load_checkpoint};
use rushlight_diffusion::conditioning::{CondEntry, Conditioning};
use rushlight_diffusion::model::ModelInput;
use rushlight_diffusion::sample::KSampler;
use rushlight_diffusion::weights::StateDict;

use crate::common::assert_close;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn checkpoint() -> Checkpoint {
    let path = repository().join("models/rushlight-tiny.safetensors");
    load_checkpoint(&path, &LoadOptions::default()).unwrap()
}

fn reference(name: &str) -> Tensor {
    let dict = StateDict::open(&repository().join("tests/data/tiny/reference.safetensors")).unwrap();
    dict.get(name).unwrap().tensor(DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn the_tiny_checkpoint_has_all_its_parts() {
    let checkpoint = checkpoint();
    assert_eq!(checkpoint.family, Some(Family::StableDiffusion1));
    assert!(checkpoint.model.is_some() && checkpoint.clip.is_some() && checkpoint.vae.is_some());
}

#[test]
fn the_tiny_text_encoder_makes_the_reference_conditioning() {
    let clip = checkpoint().clip.unwrap();
    let cond = clip.encode_text("a red heart on a white background").unwrap().cond;
    assert_close("cond", &cond, &reference("cond"), 1e-3);
    assert_close("uncond", &clip.encode_text("").unwrap().cond, &reference("uncond"), 1e-3);
}

#[test]
fn the_tiny_vae_decodes_the_reference_latent() {
    let pixels = checkpoint().vae.unwrap().decode(&reference("final")).unwrap();
    let difference = (pixels - reference("pixels")).unwrap().abs().unwrap();
    let worst = difference.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(worst <= 2.0 / 255.0, "{worst}");
}

#[test]
fn a_first_euler_step_from_the_reference_noise_ends_where_the_reference_does() {
    let checkpoint = checkpoint();
    let model = checkpoint.model.unwrap();
    // The normal schedule of 20 steps: timesteps evenly from 999 to 0, the first two of them.
    let sigma = |t: f64| model.sampling.sigma(t);
    let (first, second) = (sigma(999.0), sigma(999.0 - 999.0 / 19.0));
    let x = (reference("noise") * (1.0 + first * first).sqrt()).unwrap();
    let scaled = (&x / (1.0 + first * first).sqrt()).unwrap();
    let predict = |context: &str| {
        let input = ModelInput { context: Some(reference(context)), ..ModelInput::default() };
        let timestep = Tensor::new(&[999f32], &Device::Cpu).unwrap();
        model.network.forward(&scaled, &timestep, &input).unwrap()
    };
    let (cond, uncond) = (predict("cond"), predict("uncond"));
    let noise = (&uncond + ((cond - &uncond).unwrap() * 4.0).unwrap()).unwrap();
    let x = (x + (noise * (second - first)).unwrap()).unwrap();
    let latent = model.latent_format.process_out(&x).unwrap();
    assert_close("step1", &latent, &reference("step1"), 1e-3);
}

#[test]
fn twenty_steps_from_the_seed_end_in_the_reference_picture() {
    let checkpoint = checkpoint();
    let (model, clip) = (checkpoint.model.unwrap(), checkpoint.clip.unwrap());
    let conditioning = |prompt: &str| {
        let encoded = clip.encode_text(prompt).unwrap();
        Conditioning(vec![CondEntry::new(encoded.cond, encoded.pooled)])
    };
    let positive = conditioning("a red heart on a white background");
    let negative = conditioning("");
    let latent = Tensor::zeros((1, 4, 16, 16), DType::F32, &Device::Cpu).unwrap();
    let run = KSampler {
        model: &model,
        positive: &positive,
        negative: &negative,
        cfg: 4.0,
        sampler: "euler",
        scheduler: "normal",
        steps: 20,
        denoise: 1.0,
        seed: 7,
        latent: &latent,
        noise_mask: None,
        batch_index: None,
        start_step: None,
        last_step: None,
        force_full_denoise: true,
        disable_noise: false,
    };
    let finished = run.run(&mut |_| Ok(())).unwrap();
    assert_close("final", &finished, &reference("final"), 1e-3);
    let pixels = checkpoint.vae.unwrap().decode(&finished).unwrap();
    let difference = (pixels - reference("pixels")).unwrap().abs().unwrap();
    let worst = difference.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(worst <= 2.0 / 255.0, "{worst}");
}
