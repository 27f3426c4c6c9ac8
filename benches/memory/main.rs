//! How much memory a picture takes: the peak of a 512×512 run of a Stable Diffusion 1.5-sized model with sixteen-bit
//! weights on the CPU, beside the weights and the largest activation; and whether runs leave anything behind.
//!
//! `cargo run --release -p rushlight-benches --bin memory [-- sd15|tiny]`. The weights are random numbers written to a
//! file first. Linux only: the peak is read from `/proc`.

mod process;
mod shapes;

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::checkpoint::{Checkpoint, LoadOptions, load_checkpoint};
use rushlight_diffusion::conditioning::{CondEntry, Conditioning};
use rushlight_diffusion::sample::KSampler;

/// What the peak may be over weights and largest activation.
const BOUND: f64 = 1.3;
/// Side of the picture in pixels.
const SIDE: usize = 512;
/// Runs of the tiny model, and how many bytes the later half may leave behind.
const RUNS: usize = 50;
const GROWTH: u64 = 8 << 20;

fn main() -> Result<()> {
    let wanted = std::env::args().nth(1);
    if wanted.as_deref() != Some("tiny") {
        stable_diffusion()?;
    }
    if wanted.as_deref() != Some("sd15") {
        tiny()?;
    }
    Ok(())
}

/// A whole run: text, a step with guidance, picture.
fn run(checkpoint: &Checkpoint, side: usize) -> Result<Tensor> {
    let model = checkpoint.model.as_ref().context("no diffusion model")?;
    let clip = checkpoint.clip.as_ref().context("no text encoder")?;
    let vae = checkpoint.vae.as_ref().context("no VAE")?;
    let encode = |prompt: &str| -> Result<Conditioning> {
        let encoded = clip.encode_text(prompt)?;
        Ok(Conditioning(vec![CondEntry::new(encoded.cond, encoded.pooled)]))
    };
    let (positive, negative) = (encode("a red circle on a blue table")?, encode("text")?);
    let latent = Tensor::zeros((1, 4, side / 8, side / 8), DType::F32, &Device::Cpu)?;
    let sampler = KSampler {
        model,
        positive: &positive,
        negative: &negative,
        cfg: 7.0,
        sampler: "euler",
        scheduler: "normal",
        steps: 1,
        denoise: 1.0,
        seed: 1,
        latent: &latent,
        noise_mask: None,
        batch_index: None,
        start_step: None,
        last_step: None,
        force_full_denoise: true,
        disable_noise: false,
    };
    let samples = sampler.run(&mut |_| Ok(()))?;
    Ok(vae.decode(&samples)?)
}

fn stable_diffusion() -> Result<()> {
    let file = tempfile::Builder::new().suffix(".safetensors").tempfile()?;
    let weights = write(file.path())?;
    // The decoder's widest map at full size: 256 channels of f32.
    let activation = (256 * SIDE * SIDE * 4) as u64;
    let before = process::resident()?;
    process::reset_peak()?;
    let begun = Instant::now();
    let picture = run(&load_checkpoint(file.path(), &LoadOptions::default())?, SIDE)?;
    let seconds = begun.elapsed().as_secs_f64();
    let peak = process::peak()?;
    let ratio = peak as f64 / (weights + activation) as f64;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    println!(
        "512x512, SD 1.5 size, f16 weights, CPU: peak {:.3} GiB ({:.3} GiB before the model), weights {:.3} GiB, \
         largest activation {:.3} GiB: {ratio:.3} times their sum, the bound is {BOUND}; {seconds:.0} s for a step \
         ({:?}, {})",
        gib(peak),
        gib(before),
        gib(weights),
        gib(activation),
        picture.dims(),
        if cfg!(debug_assertions) { "debug build" } else { "release build" },
    );
    if ratio > BOUND {
        bail!("the peak is over its bound");
    }
    Ok(())
}

/// Writes a checkpoint of random weights, tensor by tensor; the bytes of its tensors.
fn write(path: &Path) -> Result<u64> {
    let shapes = shapes::checkpoint();
    let mut header = serde_json::Map::new();
    let mut end = 0u64;
    for (name, shape) in &shapes {
        let start = end;
        end += 2 * shape.iter().product::<usize>() as u64;
        header.insert(
            name.clone(),
            serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]}),
        );
    }
    let header = serde_json::Value::Object(header).to_string().into_bytes();
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for (name, shape) in &shapes {
        let inputs: usize = shape.iter().skip(1).product();
        let is_gain = shape.len() == 1 && name.ends_with(".weight");
        let scale = if shape.len() > 1 { 1.0 / (inputs.max(1) as f32).sqrt() } else { 0.02 };
        for _ in 0..shape.iter().product::<usize>() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let uniform = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            let value = uniform * scale + f32::from(u8::from(is_gain));
            file.write_all(&half::f16::from_f32(value).to_le_bytes())?;
        }
    }
    file.flush()?;
    Ok(end)
}

fn tiny() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/rushlight-tiny.safetensors");
    let checkpoint = load_checkpoint(&path, &LoadOptions::default())?;
    let mut middle = 0;
    for index in 0..RUNS {
        run(&checkpoint, 128)?;
        if index + 1 == RUNS / 2 {
            middle = process::resident()?;
        }
    }
    let grown = process::resident()?.saturating_sub(middle);
    println!(
        "{RUNS} runs of the tiny model: the later half left {:.2} MiB behind, the bound is {} MiB",
        grown as f64 / f64::from(1 << 20),
        GROWTH >> 20
    );
    if grown > GROWTH {
        bail!("memory grows from run to run");
    }
    Ok(())
}
