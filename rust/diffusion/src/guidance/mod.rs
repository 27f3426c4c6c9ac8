//! Guidance: conditioning lists turned into one denoised latent a step.
//!
//! - [`options`]: hooks that nodes put on a model's guidance

pub mod options;

pub use options::{CombineFn, GuidanceOptions, Guided};
