//! Seconds a UNet step takes on this machine, beside PyTorch's in the same run.
//!
//! `cargo bench -p rushlight-benches --bench unet [-- tiny|sd15|sd15-small]`. PyTorch is asked when
//! `RUSHLIGHT_BENCH_PYTHON` names a Python that has it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::model::{DiffusionModel, ModelInput};
use rushlight_diffusion::models::unet::UNet;
use rushlight_diffusion::testing::UNetSize;
use rushlight_diffusion::weights::{Entry, FileDtype, StateDict, Weights};

/// One size of model and picture.
struct Case {
    name: &'static str,
    size: UNetSize,
    latent: usize,
    repeats: usize,
}

fn cases() -> Vec<Case> {
    let tiny = UNetSize {
        channels: 64,
        multipliers: vec![1, 2, 2],
        blocks: 1,
        transformers: vec![true, true, true],
        context: 128,
    };
    let sd15 = UNetSize::stable_diffusion_1_5;
    vec![
        Case { name: "tiny", size: tiny, latent: 16, repeats: 20 },
        Case { name: "sd15-small", size: sd15(), latent: 32, repeats: 3 },
        Case { name: "sd15", size: sd15(), latent: 64, repeats: 2 },
    ]
}

/// Small pseudo-random weights: the time of a step does not depend on their values, as long as they
/// stay finite.
fn weights(size: &UNetSize) -> Weights {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut dict = StateDict::default();
    for (key, shape) in size.shapes() {
        let count: usize = shape.iter().product();
        let scale = 1.0 / (count as f32 / shape[0] as f32).sqrt();
        let bytes = (0..count)
            .flat_map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0).mul_add(scale, 0.0).to_le_bytes()
            })
            .collect();
        dict.insert(key, Entry::from_bytes(bytes, FileDtype::F32, shape).unwrap());
    }
    Weights::new(dict, DType::F32, &Device::Cpu)
}

fn time(case: &Case) -> Duration {
    let unet = UNet::new(&weights(&case.size)).unwrap();
    let x = Tensor::randn(0f32, 1.0, (2, 4, case.latent, case.latent), &Device::Cpu).unwrap();
    let t = Tensor::new(&[500f32, 500.0], &Device::Cpu).unwrap();
    let context = Tensor::randn(0f32, 1.0, (2, 77, case.size.context), &Device::Cpu).unwrap();
    let input = ModelInput { context: Some(context), ..ModelInput::default() };
    let step = || {
        let start = Instant::now();
        unet.forward(&x, &t, &input).unwrap();
        start.elapsed()
    };
    step();
    (0..case.repeats).map(|_| step()).min().unwrap()
}

/// PyTorch's seconds for the same case, or why there are none.
fn torch(case: &Case) -> Result<f64, String> {
    let python = std::env::var("RUSHLIGHT_BENCH_PYTHON")
        .map_err(|_| "RUSHLIGHT_BENCH_PYTHON is not set".to_string())?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/torch_unet.py");
    let flags = |list: &[usize]| list.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let transformers: Vec<usize> = case.size.transformers.iter().map(|&t| usize::from(t)).collect();
    let output = std::process::Command::new(python)
        .arg(script)
        .args(["--channels", &case.size.channels.to_string()])
        .args(["--multipliers", &flags(&case.size.multipliers)])
        .args(["--blocks", &case.size.blocks.to_string()])
        .args(["--transformers", &flags(&transformers)])
        .args(["--context", &case.size.context.to_string()])
        .args(["--latent", &case.latent.to_string()])
        .args(["--repeats", &case.repeats.to_string()])
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).trim().to_string())
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    for case in cases().iter().filter(|c| wanted.is_empty() || wanted.iter().any(|w| w == c.name)) {
        let ours = time(case).as_secs_f64();
        match torch(case) {
            Ok(theirs) => println!(
                "{:<11} batch 2, {}×{}: {ours:.4} s a step, PyTorch {theirs:.4} s ({:.2} times as long)",
                case.name,
                case.latent,
                case.latent,
                ours / theirs
            ),
            Err(why) => println!(
                "{:<11} batch 2, {}×{}: {ours:.4} s a step (PyTorch skipped: {why})",
                case.name, case.latent, case.latent
            ),
        }
    }
}
