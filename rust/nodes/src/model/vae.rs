//! Pictures to latents and back.

use super::objects::{engine, vae};
use super::tiles::Tiling;
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
fn vae_decode(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    Ok(NodeOutput::one(Value::Image(vae(inputs, "vae")?.decode(&latent.samples).map_err(engine)?)))
}

fn vae_encode_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("VAEEncode", "latent")
        .display("VAE Encode")
        .input(InputSpec::new("pixels", "IMAGE").bare())
        .input(InputSpec::new("vae", "VAE").bare())
        .output(OutputSpec::new("LATENT"))
}
fn vae_encode(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let samples = vae(inputs, "vae")?.encode(inputs.image("pixels")?).map_err(engine)?;
    Ok(NodeOutput::one(Value::latent(Latent::new(samples.to_device(&candle_core::Device::Cpu)?))))
}

/// Rows and columns of a tile, in `cell` pixels, and what tiles share.
fn tiling(inputs: &Inputs, cell: usize) -> Result<(usize, usize), NodeError> {
    let tile = inputs.size("tile_size")?;
    // Tiles that share half of themselves or more would never end.
    let overlap = inputs.size("overlap")?.min(tile / 4);
    Ok(((tile / cell).max(8), overlap / cell))
}

/// The mean over three shapes of tiles, whose seams lie at different places.
fn in_tiles(
    ctx: &NodeContext,
    planes: &Tensor,
    (tile, overlap): (usize, usize),
    scale: (usize, usize),
    process: impl Fn(&Tensor) -> Result<Tensor, NodeError>,
) -> Result<Tensor, NodeError> {
    let (batch, _, height, width) = planes.dims4()?;
    let shapes = [(tile, tile), ((tile / 2).max(8), tile * 2), (tile * 2, (tile / 2).max(8))]
        .map(|(height, width)| Tiling { height, width, overlap: overlap.min(height / 2).min(width / 2) });
    let total: usize = shapes.iter().map(|shape| shape.count(height, width) * batch).sum();
    let mut done = 0;
    let mut pictures = Vec::with_capacity(batch);
    for index in 0..batch {
        let picture = planes.narrow(0, index, 1)?;
        let mut sum: Option<Tensor> = None;
        for shape in shapes {
            let result = shape.run(&picture, scale, |part| {
                done += 1;
                ctx.progress(done, total as u64, None)?;
                process(part)
            })?;
            sum = Some(match sum {
                Some(sum) => (sum + result)?,
                None => result,
            });
        }
        pictures.extend(sum.map(|sum| sum / shapes.len() as f64).transpose()?);
    }
    Ok(Tensor::cat(&pictures, 0)?)
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
    let factor = vae.factor().map_err(engine)?;
    let planes = in_tiles(ctx, samples, tiling(inputs, factor)?, (factor, 1), |part| {
        Ok(vae.decode(part).map_err(engine)?.permute((0, 3, 1, 2))?.contiguous()?)
    })?;
    let pictures = planes.permute((0, 2, 3, 1))?.contiguous()?.clamp(0f32, 1f32)?;
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
    let vae = vae(inputs, "vae")?;
    let factor = vae.factor().map_err(engine)?;
    let pixels = Pixels::from_image(inputs.image("pixels")?)?;
    // Cut, centred, to whole latent places.
    let (height, width) = (pixels.height / factor * factor, pixels.width / factor * factor);
    let pixels = pixels.crop((pixels.height - height) / 2, (pixels.width - width) / 2, height, width);
    let planes = pixels.into_image()?.permute((0, 3, 1, 2))?.contiguous()?;
    let (tile, overlap) = tiling(inputs, 1)?;
    // Tiles begin at whole latent places.
    let whole = |pixels: usize| (pixels / factor).max(1) * factor;
    let cut = (whole(tile), overlap / factor * factor);
    let samples = in_tiles(ctx, &planes, cut, (1, factor), |part| {
        vae.encode(&part.permute((0, 2, 3, 1))?.contiguous()?).map_err(engine)
    })?;
    Ok(NodeOutput::one(Value::latent(Latent::new(samples))))
}
