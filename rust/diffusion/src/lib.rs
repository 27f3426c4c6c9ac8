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
//! | [`latent_format`] | the user's latents and the model's |

pub mod conditioning;
pub mod error;
pub mod guidance;
pub mod latent_format;
pub mod model;
pub mod sampling;

pub use error::{Error, Result};
