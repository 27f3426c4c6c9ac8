//! The networks. Each reads its sizes from its tensors and names them as the checkpoint does.
//!
//! | module | holds |
//! |---|---|
//! | [`layers`] | linear, convolution, norms, embeddings |
//! | [`resnet`] | residual blocks, down- and upsampling |
//! | [`transformer`] | the UNet's transformer blocks |
//! | [`clip`] | the CLIP text encoder |
//! | [`unet`] | the UNet of Stable Diffusion 1.x, 2.x and XL |
//! | [`vae`] | the autoencoder between pixels and latents |

pub mod clip;
pub mod layers;
pub mod resnet;
pub mod transformer;
pub mod unet;
pub mod vae;
