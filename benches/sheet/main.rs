//! A sheet of pictures by the embedded checkpoint, to look at: twelve samplers (rows) by four schedulers (columns), and
//! a last row of image to image, inpainting, and one prompt without and with a LoRA.
//!
//! `cargo run --release -p rushlight-benches --bin sheet -- docs/images/sheet.png`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::checkpoint::{Checkpoint, LoadOptions, load_checkpoint};
use rushlight_diffusion::conditioning::{CondEntry, Conditioning};
use rushlight_diffusion::lora::Lora;
use rushlight_diffusion::model::Model;
use rushlight_diffusion::sample::KSampler;

const SAMPLERS: [&str; 12] = [
    "euler",
    "euler_ancestral",
    "heun",
    "dpm_2",
    "lms",
    "dpmpp_2s_ancestral",
    "dpmpp_sde",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
    "res_multistep",
    "uni_pc",
];
const SCHEDULERS: [&str; 4] = ["normal", "karras", "sgm_uniform", "beta"];
/// Side of a picture, and of its cell on the sheet.
const SIDE: usize = 128;
const CELL: usize = 64;

/// What a picture is made from.
struct Picture<'a> {
    model: &'a Model,
    prompt: &'a str,
    sampler: &'a str,
    scheduler: &'a str,
    start: Option<&'a Tensor>,
    mask: Option<&'a Tensor>,
    denoise: f64,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn samples(checkpoint: &Checkpoint, picture: &Picture<'_>) -> Result<Tensor> {
    let clip = checkpoint.clip.as_ref().context("no text encoder")?;
    let encode = |prompt: &str| -> Result<Conditioning> {
        let encoded = clip.encode_text(prompt)?;
        Ok(Conditioning(vec![CondEntry::new(encoded.cond, encoded.pooled)]))
    };
    let empty = Tensor::zeros((1, 4, SIDE / 8, SIDE / 8), DType::F32, &Device::Cpu)?;
    let sampler = KSampler {
        model: picture.model,
        positive: &encode(picture.prompt)?,
        negative: &encode("")?,
        cfg: 4.0,
        sampler: picture.sampler,
        scheduler: picture.scheduler,
        steps: 16,
        denoise: picture.denoise,
        seed: 7,
        latent: picture.start.unwrap_or(&empty),
        noise_mask: picture.mask,
        batch_index: None,
        start_step: None,
        last_step: None,
        force_full_denoise: true,
        disable_noise: false,
    };
    Ok(sampler.run(&mut |_| Ok(()))?)
}

/// The sheet's pixels.
struct Sheet {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Sheet {
    fn new(rows: usize, columns: usize) -> Self {
        let (width, height) = (columns * CELL, rows * CELL);
        Self { width, height, rgb: vec![255; width * height * 3] }
    }

    /// Draws a latent into a cell.
    fn put(&mut self, checkpoint: &Checkpoint, latent: &Tensor, row: usize, column: usize) -> Result<()> {
        let vae = checkpoint.vae.as_ref().context("no VAE")?;
        let pixels = vae.decode(latent)?.permute((0, 3, 1, 2))?.contiguous()?;
        let cell = pixels.avg_pool2d(SIDE / CELL)?.squeeze(0)?.permute((1, 2, 0))?.contiguous()?;
        let values = cell.flatten_all()?.to_vec1::<f32>()?;
        for (y, line) in values.chunks(CELL * 3).enumerate() {
            let start = ((row * CELL + y) * self.width + column * CELL) * 3;
            for (to, from) in self.rgb.iter_mut().skip(start).zip(line) {
                *to = (from * 255.0).round() as u8;
            }
        }
        Ok(())
    }

    fn save(&self, path: &Path) -> Result<()> {
        let file = std::io::BufWriter::new(std::fs::File::create(path)?);
        let mut encoder = png::Encoder::new(file, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::High);
        encoder.write_header()?.write_image_data(&self.rgb)?;
        Ok(())
    }
}

fn main() -> Result<()> {
    let out = std::env::args().nth(1).context("where is the sheet to go?")?;
    let checkpoint =
        load_checkpoint(&repository().join("models/rushlight-tiny.safetensors"), &LoadOptions::default())?;
    let model = checkpoint.model.as_ref().context("no diffusion model")?;
    let plain = Picture {
        model,
        prompt: "a red heart on a white background",
        sampler: "euler",
        scheduler: "normal",
        start: None,
        mask: None,
        denoise: 1.0,
    };
    let mut sheet = Sheet::new(SAMPLERS.len() + 1, SCHEDULERS.len());
    let heart = samples(&checkpoint, &plain)?;
    for (row, sampler) in SAMPLERS.into_iter().enumerate() {
        for (column, scheduler) in SCHEDULERS.into_iter().enumerate() {
            let latent = samples(&checkpoint, &Picture { sampler, scheduler, ..plain })?;
            sheet.put(&checkpoint, &latent, row, column)?;
        }
        println!("{sampler}");
    }
    let last = SAMPLERS.len();
    let again = Picture { start: Some(&heart), ..plain };
    let blue = Picture { prompt: "a blue heart on a yellow background", denoise: 0.8, ..again };
    sheet.put(&checkpoint, &samples(&checkpoint, &blue)?, last, 0)?;
    // The right half is made anew, the left one kept.
    let mask: Vec<f32> = (0..256).map(|place| f32::from(u8::from(place % 16 >= 8))).collect();
    let mask = Tensor::from_vec(mask, (1, 16, 16), &Device::Cpu)?;
    let half = Picture { prompt: "a green heart on a white background", mask: Some(&mask), ..again };
    sheet.put(&checkpoint, &samples(&checkpoint, &half)?, last, 1)?;
    let star = Picture { prompt: "a big star", ..plain };
    sheet.put(&checkpoint, &samples(&checkpoint, &star)?, last, 2)?;
    let lora = Lora::open(&repository().join("tests/data/tiny/yellow-on-purple.safetensors"))?;
    let applied = lora.apply_to_model(model, 1.0)?;
    println!("LoRA: {} modules, {} without a place", applied.matched, applied.unmatched.len());
    let patched = Picture { model: &applied.patched, ..star };
    sheet.put(&checkpoint, &samples(&checkpoint, &patched)?, last, 3)?;
    sheet.save(Path::new(&out))
}
