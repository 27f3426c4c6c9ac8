//! Nodes around models: loading, text encoding, autoencoding, sampling, and the objects that flow between them.
//!
//! - [`objects`]: MODEL, CLIP, VAE and CONDITIONING values.
//! - [`residency`]: loaded files, shared by loaders.
//! - [`loaders`], [`clip`], [`vae`]: the nodes.

pub(crate) mod clip;
pub(crate) mod embeddings;
pub(crate) mod loaders;
pub(crate) mod objects;
pub(crate) mod residency;
pub(crate) mod vae;
