//! Pictures to latents and back.

use rushlight_diffusion::Error;
use rushlight_diffusion::tiled::TileSize;
use rushlight_diffusion::vae::Vae;

use super::objects::{engine, vae};
use crate::memory;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "VAEDecode", vae_decode_schema, vae_decode);
    add(registry, "VAEEncode", vae_encode_schema, vae_encode);
    add(registry, "VAEDecodeTiled", vae_decode_tiled_schema, vae_decode_tiled);
    add(registry, "VAEEncodeTiled", vae_encode_tiled_schema, vae_encode_tiled);
}

fn vae_decode_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("VAEDecode", "latent")
        .display("VAE Decode")
        .input(InputSpec::new("samples", "LATENT"))
        .input(InputSpec::new("vae", "VAE"))
        .output(OutputSpec::new("IMAGE"))
}
fn vae_decode(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    Ok(NodeOutput::one(Value::Image(decode(ctx, vae(inputs, "vae")?, &latent.samples, memory::is_free)?)))
}

/// Sides of the tiles that are taken when a whole picture does not fit, and what neighbours share, in pixels.
const TILE: (usize, usize) = (512, 128);

/// The picture of a latent. In tiles where the whole would need more memory than there is: on the CPU as far as
/// `is_free` knows, elsewhere when the device says so.
pub(crate) fn decode(
    ctx: &NodeContext,
    vae: &Vae,
    samples: &Tensor,
    is_free: impl Fn(u64) -> bool,
) -> Result<Tensor, NodeError> {
    let (batch, _, height, width) = samples.dims4()?;
    let factor = vae.factor().map_err(engine)?;
    let (rows, columns) = (height.saturating_mul(factor), width.saturating_mul(factor));
    memory::check_shape("the decoded image", &[batch, rows, columns, 3], size_of::<f32>())?;
    if !vae.weights().device().is_cpu() || is_free(vae.working_bytes(rows.saturating_mul(columns))) {
        match vae.decode(samples).map_err(engine) {
            Err(error) if is_out_of_memory(&error) => tracing::warn!("decoding in tiles: {error}"),
            result => return result,
        }
    }
    let size = TileSize { height: TILE.0 / factor, width: TILE.0 / factor, overlap: TILE.1 / factor };
    vae.decode_tiled(samples, size, |done, total| tell(ctx, done, total)).map_err(engine)
}

/// The latent of pictures, on the host. In tiles as [`decode`].
pub(crate) fn encode(
    ctx: &NodeContext,
    vae: &Vae,
    pixels: &Tensor,
    is_free: impl Fn(u64) -> bool,
) -> Result<Tensor, NodeError> {
    let (_, height, width, _) = pixels.dims4()?;
    let mut samples = None;
    if !vae.weights().device().is_cpu() || is_free(vae.working_bytes(height.saturating_mul(width))) {
        match vae.encode(pixels).map_err(engine) {
            Err(error) if is_out_of_memory(&error) => tracing::warn!("encoding in tiles: {error}"),
            result => samples = Some(result?),
        }
    }
    let samples = match samples {
        Some(samples) => samples,
        None => {
            let size = TileSize { height: TILE.0, width: TILE.0, overlap: TILE.1 };
            vae.encode_tiled(pixels, size, |done, total| tell(ctx, done, total)).map_err(engine)?
        }
    };
    Ok(samples.to_device(&candle_core::Device::Cpu)?)
}

fn is_out_of_memory(error: &NodeError) -> bool {
    matches!(error, NodeError::Failed { exception_type, .. } if exception_type == "torch.OutOfMemoryError")
}

/// Tells of a finished tile.
fn tell(ctx: &NodeContext, done: usize, total: usize) -> Result<(), Error> {
    ctx.progress(done as u64, total as u64, None).map_err(|_| Error::Cancelled)
}

fn vae_encode_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("VAEEncode", "latent")
        .display("VAE Encode")
        .input(InputSpec::new("pixels", "IMAGE").bare())
        .input(InputSpec::new("vae", "VAE").bare())
        .output(OutputSpec::new("LATENT"))
}
fn vae_encode(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let samples = encode(ctx, vae(inputs, "vae")?, inputs.image("pixels")?, memory::is_free)?;
    Ok(NodeOutput::one(Value::latent(Latent::new(samples))))
}

/// The tiles that the inputs ask for, in `cell` pixels.
fn tiles(inputs: &Inputs, cell: usize) -> Result<TileSize, NodeError> {
    let tile = inputs.size("tile_size")?;
    // Tiles that share half of themselves or more would never end.
    let overlap = inputs.size("overlap")?.min(tile / 4);
    let side = (tile / cell).max(8);
    Ok(TileSize { height: side, width: side, overlap: overlap / cell })
}

fn vae_decode_tiled_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("VAEDecodeTiled", "_for_testing")
        .display("VAE Decode (Tiled)")
        .input(InputSpec::new("samples", "LATENT").bare())
        .input(InputSpec::new("vae", "VAE").bare())
        .input(int("tile_size", 512, 64, 4096).step(32))
        .input(int("overlap", 64, 0, 4096).step(32))
        .input(int("temporal_size", 64, 8, 4096).step(4))
        .input(int("temporal_overlap", 8, 4, 4096).step(4))
        .output(OutputSpec::new("IMAGE"))
}
fn vae_decode_tiled(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let vae = vae(inputs, "vae")?;
    let samples = &inputs.latent("samples")?.samples;
    let size = tiles(inputs, vae.factor().map_err(engine)?)?;
    let pictures = vae.decode_tiled(samples, size, |done, total| tell(ctx, done, total)).map_err(engine)?;
    Ok(NodeOutput::one(Value::Image(pictures)))
}

fn vae_encode_tiled_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("VAEEncodeTiled", "_for_testing")
        .display("VAE Encode (Tiled)")
        .input(InputSpec::new("pixels", "IMAGE").bare())
        .input(InputSpec::new("vae", "VAE").bare())
        .input(int("tile_size", 512, 64, 4096).step(64))
        .input(int("overlap", 64, 0, 4096).step(32))
        .input(int("temporal_size", 64, 8, 4096).step(4))
        .input(int("temporal_overlap", 8, 4, 4096).step(4))
        .output(OutputSpec::new("LATENT"))
}
fn vae_encode_tiled(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (vae, pixels) = (vae(inputs, "vae")?, inputs.image("pixels")?);
    let size = tiles(inputs, 1)?;
    let samples = vae.encode_tiled(pixels, size, |done, total| tell(ctx, done, total)).map_err(engine)?;
    Ok(NodeOutput::one(Value::latent(Latent::new(samples.to_device(&candle_core::Device::Cpu)?))))
}
