//! Nodes around models: loading, text encoding, autoencoding, sampling, and the objects that flow between them.
//!
//! - [`objects`]: MODEL, CLIP, VAE and CONDITIONING values.
//! - [`residency`]: loaded files, shared by loaders; [`resident`]: how much memory they take; [`loader`]: classes that use them.
//! - [`loaders`], [`part_loaders`], [`pipelines`]: what reads files; [`clip`], [`conditioning`], [`sampling`],
//!   [`custom_sampling`], [`sampler_nodes`], [`vae`], [`vision`]: the other nodes.

pub(crate) mod clip;
pub(crate) mod conditioning;
pub(crate) mod control;
pub(crate) mod custom_sampling;
pub(crate) mod embeddings;
pub(crate) mod guidance;
pub(crate) mod loader;
pub(crate) mod loaders;
pub(crate) mod merging;
pub(crate) mod noise_levels;
pub(crate) mod objects;
pub(crate) mod part_loaders;
pub(crate) mod patches;
pub(crate) mod pipelines;
pub(crate) mod previews;
pub(crate) mod residency;
mod resident;
pub(crate) mod sampler_nodes;
pub(crate) mod sampling;
pub(crate) mod saving;
pub(crate) mod scaling;
#[cfg(test)]
mod tests;
pub(crate) mod vae;
pub(crate) mod vision;
