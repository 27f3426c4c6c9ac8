//! The networks against recorded inputs and outputs (`tests/data/goldens`, or `RUSHLIGHT_GOLDENS`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "models/clip.rs"]
mod clip;
#[path = "models/common.rs"]
mod common;
#[path = "models/control.rs"]
mod control;
#[path = "models/loaders.rs"]
mod loaders;
#[path = "models/lora.rs"]
mod lora;
#[path = "models/others.rs"]
mod others;
#[path = "models/tiny.rs"]
mod tiny;
#[path = "models/tokens.rs"]
mod tokens;
#[path = "models/torch_files.rs"]
mod torch_files;
#[path = "models/unet.rs"]
mod unet;
#[path = "models/vae.rs"]
mod vae;
#[path = "models/vision.rs"]
mod vision;
