//! The networks. Each reads its sizes from its tensors and names them as the checkpoint does.
//!
//! | module | holds |
//! |---|---|
//! | [`layers`] | linear, convolution, norms, embeddings |
//! | [`resnet`] | residual blocks, down- and upsampling |
//! | [`transformer`] | the UNet's transformer blocks |
//! | [`hypertile`] | their self-attention in tiles |
//! | [`clip`] | the CLIP text encoder |
//! | [`clip_vision`] | the CLIP picture encoder |
//! | [`unet`] | the UNet of Stable Diffusion 1.x, 2.x and XL |
//! | [`vae`] | the autoencoder between pixels and latents |
//! | [`adapter`] | control pictures to features, once a run |
//! | [`controlnet`] | control pictures to residuals of a UNet |
//! | [`taesd`] | the tiny autoencoder of previews |
//! | [`esrgan`] | upscaling of pictures |

pub mod adapter;
pub mod clip;
pub mod clip_vision;
pub mod controlnet;
pub mod esrgan;
pub mod hypertile;
pub mod layers;
pub mod resnet;
pub mod style;
pub mod taesd;
pub mod transformer;
pub mod unet;
pub mod vae;
