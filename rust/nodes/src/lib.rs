//! Rushlight's native nodes, one file a family.
//!
//! A node is a schema and a function from typed inputs to outputs; [`register`] adds them all. To add one, write both in
//! its family's file and add its line to the family's `register`.

mod audio;
mod catalog;
mod dataset_text;
mod define;
#[cfg(any(test, feature = "goldens"))]
pub mod goldens;
#[cfg(test)]
mod hostile;
mod image;
mod latent;
mod logic;
mod mask;
mod media;
mod memory;
mod missing;
mod model;
mod picture;
mod prelude;
mod primitive;
mod pytext;
mod rebatch;
mod regex;
mod settings;
mod sigmas;
mod sound;
mod spec;
#[cfg(any(test, feature = "goldens"))]
mod testing;
mod text;
mod video;

pub use catalog::{register, register_with};
pub use missing::{Missing, missing};
pub use rushlight_diffusion::precision::{PartPrecision, Precision};
pub use rushlight_diffusion::weights::FileDtype;
pub use settings::Settings;
