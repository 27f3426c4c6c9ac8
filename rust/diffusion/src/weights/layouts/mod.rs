//! Other programs' names for the same tensors, as tables from theirs to ours.
//!
//! - [`open_clip`]: OpenCLIP text encoders to the Hugging Face layout
//! - [`unet`]: diffusers' UNet modules and the original ones
//! - [`vae`]: diffusers' VAE to the original layout

pub mod open_clip;
pub mod unet;
pub mod vae;

pub(crate) use open_clip::block_tensors;
pub use open_clip::{hugging_face_to_open_clip, open_clip_to_hugging_face, open_clip_vision_to_hugging_face};
