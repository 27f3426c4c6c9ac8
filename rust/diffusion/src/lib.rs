//! Rushlight's diffusion engine on candle: models, loaders, samplers, schedules, noise, previews.
//!
//! The crate knows nothing of graphs, nodes or HTTP. Tensors go in, tensors come out.
//!
//! | module | holds |
//! |---|---|
//! | [`model`] | what a sampler needs from a network, and a network with its meaning |
//! | [`conditioning`] | embeddings with where, when and how strongly |
//! | [`guidance`] | conditioning lists turned into one prediction a step |
//! | [`sampling`] | prediction kinds, noise tables, schedules |
//! | [`rng`], [`noise`], [`brownian`] | PyTorch's random numbers, start noise, the noise of stochastic samplers |
//! | [`samplers`] | from noise to a latent |
//! | [`sample`] | KSampler and custom sampling: all of the above in one run |
//! | [`preview`] | rough pictures on the way |
//! | [`latent_format`] | the user's latents and the model's |
//! | [`weights`] | files' bytes to tensors, converted lazily, patched without touching the original |
//! | [`checkpoint`] | single-file checkpoints: family and parts |
//! | [`precision`] | where and how exactly the parts of a model compute |
//! | [`clip`] | prompts to conditioning |
//! | [`vae`] | pictures to latents and back |
//! | [`unclip`] | pictures as conditioning |
//! | [`loaders`] | parts that come in files of their own |
//! | [`tiled`] | networks over pictures too large for them at once |
//! | [`lora`] | LoRA files and their relatives |
//! | [`tokenizer`] | prompts to token ids and weights |
//! | [`testing`] | formula weights and file writing for tests, fixtures and benches |
//! | [`models`] | the networks, block by block |
//! | [`ops`] | the heavy operations and their fast paths |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod brownian;
pub mod checkpoint;
pub mod clip;
pub mod conditioning;
pub mod error;
pub mod guidance;
pub mod latent_format;
pub mod loaders;
pub mod lora;
pub mod model;
pub mod models;
pub mod noise;
pub mod ops;
pub mod precision;
pub mod preview;
pub mod rng;
pub mod sample;
pub mod samplers;
pub mod sampling;
pub mod testing;
pub mod tiled;
pub mod tokenizer;
pub mod unclip;
pub mod vae;
pub mod weights;

pub use error::{Error, Result};
