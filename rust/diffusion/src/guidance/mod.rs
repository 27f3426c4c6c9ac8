//! Guidance: conditioning lists turned into one denoised latent a step.
//!
//! - [`options`]: hooks that nodes put on a model's guidance
//! - [`functions`]: published ways to combine predictions, as hooks
//! - [`prepare`]: entries with areas and masks in latent pixels and windows in sigmas
//! - [`batch`]: entries run through the network in as few batches as possible
//! - [`guider`]: the predictions of all lists made one
//! - [`mask`]: masks and areas brought to the latent's size

pub mod batch;
pub mod frequencies;
pub mod functions;
pub mod guider;
mod inputs;
pub mod mask;
pub mod options;
pub mod prepare;
pub mod projected;

pub use guider::{Guidance, Guider};
pub use options::{CombineFn, GuidanceOptions, Guided, MaskFn, MaskStep};
