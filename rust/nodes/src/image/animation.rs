//! Pictures saved as animations, or sent to the client.

use rushlight_protocol::frame::ImageFormat;
use rushlight_runtime::host::{FileFolder, SaveRequest};

use super::basic::pixels;
use super::io::metadata;
use crate::picture::encode::{png, png_colour};
use crate::picture::pixels::Pixels;
use crate::picture::webp;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add_saving(registry, "SaveAnimatedWEBP", save_animated_webp_schema, save_animated_webp);
    add_saving(registry, "SaveAnimatedPNG", save_animated_png_schema, save_animated_png);
    add(registry, "SaveImageWebsocket", save_image_websocket_schema, save_image_websocket);
}

/// Saves the one file of all pictures, and tells the client whether it moves.
fn save_animation(
    ctx: &NodeContext,
    inputs: &Inputs,
    pictures: &Pixels,
    extension: &str,
    file: &[u8],
    animated: bool,
) -> Result<NodeOutput, NodeError> {
    let request = SaveRequest {
        folder: FileFolder::Output,
        prefix: inputs.str("filename_prefix")?,
        suffix: "",
        width: pictures.width,
        height: pictures.height,
        batch_index: 0,
        extension,
    };
    let saved = ctx.host().save(&request, file)?;
    Ok(NodeOutput::default().with_ui("images", json!([saved])).with_ui("animated", json!([animated])))
}

fn save_animated_png_schema(_: &dyn Host) -> NodeSchema {
    v3("SaveAnimatedPNG", "image/animation", "images")
        .input(InputSpec::new("images", "IMAGE"))
        .input(line("filename_prefix", "ComfyUI"))
        .input(float("fps", 6.0, 0.01, 1000.0).step(0.01))
        .input(int("compress_level", 4, 0, 9))
        .input(InputSpec::hidden("prompt", "PROMPT").bare())
        .input(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO").bare())
        .output_node()
}
fn save_animated_png(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "images")?;
    let failed = |error: png::EncodingError| NodeError::new("OSError", format!("cannot write APNG: {error}"));
    let side = |pixels: usize| u32::try_from(pixels).map_err(|_| NodeError::value("a side is too long"));
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side(p.width)?, side(p.height)?);
    encoder.set_color(png_colour(p.channels)?);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .set_deflate_compression(png::DeflateCompression::Level(inputs.size("compress_level")?.min(9) as u8));
    encoder.set_animated(side(p.batch.max(1))?, 0).map_err(failed)?;
    // Milliseconds a picture.
    let delay = (1000.0 / inputs.float("fps")?).clamp(1.0, f64::from(u16::MAX)) as u16;
    encoder.set_frame_delay(delay, 1000).map_err(failed)?;
    for (keyword, text) in metadata(ctx, inputs) {
        encoder.add_text_chunk(keyword, text).map_err(failed)?;
    }
    let mut writer = encoder.write_header().map_err(failed)?;
    for picture in p.to_bytes().chunks(p.picture_len().max(1)) {
        ctx.check()?;
        writer.write_image_data(picture).map_err(failed)?;
    }
    writer.finish().map_err(failed)?;
    save_animation(ctx, inputs, &p, "png", &file, true)
}

fn save_image_websocket_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("SaveImageWebsocket", "api/image")
        .module("custom_nodes.websocket_image_save")
        .input(InputSpec::new("images", "IMAGE").bare())
        .output_node()
}
fn save_image_websocket(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "images")?;
    for (index, picture) in p.to_bytes().chunks(p.picture_len().max(1)).enumerate() {
        let file = png(picture, (p.height, p.width), p.channels, 1, &Vec::new())?;
        ctx.progress(index as u64, p.batch as u64, Some((ImageFormat::Png, file.into())))?;
    }
    Ok(NodeOutput::default())
}

fn save_animated_webp_schema(_: &dyn Host) -> NodeSchema {
    v3("SaveAnimatedWEBP", "image/animation", "images")
        .input(InputSpec::new("images", "IMAGE"))
        .input(line("filename_prefix", "ComfyUI"))
        .input(float("fps", 6.0, 0.01, 1000.0).step(0.01))
        .input(boolean("lossless", true))
        .input(int("quality", 80, 0, 100))
        .input(choice("method", ["default", "fastest", "slowest"]))
        .input(InputSpec::hidden("prompt", "PROMPT").bare())
        .input(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO").bare())
        .output_node()
}
fn save_animated_webp(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "images")?;
    let delay = (1000.0 / inputs.float("fps")?).clamp(1.0, f64::from(1 << 23)) as u32;
    let options = rushlight_webp::Options {
        lossless: inputs.bool("lossless")?,
        quality: inputs.size("quality")?.min(100) as f32,
        method: match inputs.str("method")? {
            "fastest" => 0,
            "slowest" => 6,
            _ => 4,
        },
    };
    let file = webp::file(&p, delay, options, &metadata(ctx, inputs), &|| ctx.check())?;
    save_animation(ctx, inputs, &p, "webp", &file, p.batch != 1)
}
