//! From a model's prediction kind to a list of sigmas.
//!
//! - [`model_sampling`]: prediction kinds and their noise tables
//! - [`schedulers`]: the nine named schedules and the rules that shorten them
//! - [`scheduler_nodes`]: schedules that are nodes of their own

mod beta;
pub mod model_sampling;
pub mod scheduler_nodes;
pub mod schedulers;
mod tables;

pub use model_sampling::{ModelSampling, Prediction};
pub(crate) use tables::squared_cosine as squared_cosine_alpha_bars;
