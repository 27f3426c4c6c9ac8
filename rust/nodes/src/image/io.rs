//! Loading and saving pictures.

use crate::prelude::*;
use rushlight_runtime::host::{FileFolder, SaveRequest, SavedFile};
use rushlight_runtime::{Fingerprint, Validation};
use serde_json::Map;
use std::sync::Arc;

use crate::picture::decode::{Decoded, decode};
use crate::picture::encode::{TextChunks, png, python_json};

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    let file =
        |schema, run| Arc::new(Define::new(schema, run).fingerprint(file_changed).validate(file_exists));
    registry.register("LoadImage", file(load_image_schema, load_image));
    registry.register("LoadImageOutput", file(load_image_output_schema, load_image));
    registry.register("LoadImageMask", file(load_image_mask_schema, load_image_mask));
    add_saving(registry, "SaveImage", save_image_schema, save_image);
    add(registry, "PreviewImage", preview_image_schema, preview_image);
    add(registry, "MaskPreview", mask_preview_schema, mask_preview);
}

/// The input's file as it is now, so that a changed file is read again.
fn file_changed(ctx: &NodeContext, inputs: &Inputs) -> Result<Fingerprint, NodeError> {
    Ok(Fingerprint::Value(ctx.host().fingerprint(inputs.str("image")?)?.into()))
}

/// Accepts any file that is there, also one that is not in the list of choices.
fn file_exists(host: &dyn Host, inputs: &Inputs, _: &Map<String, serde_json::Value>) -> Validation {
    let fault = match inputs.get("image") {
        Some(Value::String(name)) if host.fingerprint(name).is_ok() => None,
        Some(other) => Some(format!("Invalid image file: {}", crate::pytext::text(other))),
        // A link: its value is not known yet.
        None => None,
    };
    Validation { takes_over: vec!["image".into()], fault }
}

fn read(ctx: &NodeContext, inputs: &Inputs) -> Result<Decoded, NodeError> {
    let name = inputs.str("image")?;
    let bytes = ctx.host().read(name)?;
    decode(name, &bytes, ctx.host().max_image_pixels())
}

/// What stands for "no mask".
fn empty_mask() -> Result<Pixels, NodeError> {
    Pixels::filled(1, 64, 64, 1, 0.0)
}

fn load_image_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("LoadImage", "image")
        .display("Load Image")
        .input(InputSpec::combo("image", host.input_names(&["image"])).opt("image_upload", true))
        .output(OutputSpec::new("IMAGE"))
        .output(OutputSpec::new("MASK"))
}
fn load_image(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let Decoded { image, alpha } = read(ctx, inputs)?;
    let mask = match alpha {
        Some(alpha) => alpha.map(|alpha| 1.0 - alpha),
        None => empty_mask()?.with_batch(image.batch)?,
    };
    Ok(NodeOutput::values([Value::Image(image.into_image()?), Value::Mask(mask.into_mask()?)]))
}

fn load_image_output_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("LoadImageOutput", "image").display("Load Image (from Outputs)")
.input(InputSpec::new("image", "COMBO").opt("image_folder", "output").opt("image_upload", true).opt("remote", json!({"control_after_refresh": "first", "refresh_button": true, "route": "/internal/files/output"})))
.output(OutputSpec::new("IMAGE"))
.output(OutputSpec::new("MASK")).extra("experimental", true)
}
fn load_image_mask_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("LoadImageMask", "mask")
        .display("Load Image (as Mask)")
        .input(InputSpec::combo("image", host.input_names(&["image"])).opt("image_upload", true))
        .input(InputSpec::combo("channel", ["alpha", "red", "green", "blue"]).bare())
        .output(OutputSpec::new("MASK"))
}
fn load_image_mask(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let Decoded { image, alpha } = read(ctx, inputs)?;
    let channel = match inputs.str("channel")? {
        "red" => 0,
        "green" => 1,
        "blue" => 2,
        "alpha" => {
            let alpha = match alpha {
                Some(alpha) => alpha,
                None => Pixels::filled(1, image.height, image.width, 1, 1.0)?,
            };
            let mask = alpha.with_batch(1)?.map(|alpha| 1.0 - alpha);
            return Ok(NodeOutput::one(Value::Mask(mask.into_mask()?)));
        }
        other => return Err(NodeError::value(format!("unknown channel '{other}'"))),
    };
    let mask = Pixels::build(1, image.height, image.width, 1, |b, y, x, _| image.at(b, y, x, channel))?;
    Ok(NodeOutput::one(Value::Mask(mask.into_mask()?)))
}

/// The prompt and workflow of this run, as text chunks.
pub(crate) fn metadata(ctx: &NodeContext, inputs: &Inputs) -> TextChunks {
    let mut chunks = TextChunks::new();
    if !ctx.host().metadata_enabled() {
        return chunks;
    }
    if let Some(Value::Json(prompt)) = inputs.present("prompt") {
        chunks.push(("prompt".into(), python_json(prompt)));
    }
    if let Some(Value::Json(extra)) = inputs.present("extra_pnginfo")
        && let Some(extra) = extra.as_object()
    {
        for (key, value) in extra {
            // A PNG keyword has 1 to 79 printable characters; others cannot be written.
            if (1..80).contains(&key.len()) && key.bytes().all(|byte| (32..127).contains(&byte)) {
                chunks.push((key.clone(), python_json(value)));
            }
        }
    }
    chunks
}

/// Where and how a batch is saved.
struct Target<'a> {
    folder: FileFolder,
    prefix: &'a str,
    suffix: &'a str,
    level: u8,
}

fn save_batch(
    ctx: &NodeContext,
    inputs: &Inputs,
    pixels: &Pixels,
    target: &Target<'_>,
) -> Result<NodeOutput, NodeError> {
    let text = metadata(ctx, inputs);
    let mut saved: Vec<SavedFile> = Vec::with_capacity(pixels.batch);
    let bytes = pixels.to_bytes();
    for (index, picture) in bytes.chunks(pixels.picture_len().max(1)).enumerate() {
        ctx.check()?;
        let file = png(picture, (pixels.height, pixels.width), pixels.channels, target.level, &text)?;
        let request = SaveRequest {
            folder: target.folder,
            prefix: target.prefix,
            suffix: target.suffix,
            width: pixels.width,
            height: pixels.height,
            batch_index: index,
            extension: "png",
        };
        saved.push(ctx.host().save(&request, &file)?);
    }
    Ok(NodeOutput::default().with_ui("images", json!(saved)))
}

fn save_image_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("SaveImage", "image")
        .display("Save Image")
        .input(InputSpec::new("images", "IMAGE"))
        .input(InputSpec::new("filename_prefix", "STRING").default("ComfyUI"))
        .input(InputSpec::hidden("prompt", "PROMPT"))
        .input(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO"))
        .output_node()
}
fn save_image(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let pixels = Pixels::from_image(inputs.image("images")?)?;
    let prefix = match inputs.present("filename_prefix") {
        Some(_) => inputs.str("filename_prefix")?,
        None => "ComfyUI",
    };
    save_batch(ctx, inputs, &pixels, &Target { folder: FileFolder::Output, prefix, suffix: "", level: 4 })
}

/// `_temp_` and five letters: previews of different runs never share a name.
pub(crate) fn preview_suffix() -> String {
    use std::hash::{BuildHasher, Hasher};
    let mut number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let mut suffix = String::from("_temp_");
    for _ in 0..5 {
        suffix.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    suffix
}

fn preview(ctx: &NodeContext, inputs: &Inputs, pixels: &Pixels) -> Result<NodeOutput, NodeError> {
    let suffix = preview_suffix();
    let target = Target { folder: FileFolder::Temp, prefix: "ComfyUI", suffix: &suffix, level: 1 };
    save_batch(ctx, inputs, pixels, &target)
}

fn preview_image_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("PreviewImage", "image")
        .display("Preview Image")
        .input(InputSpec::new("images", "IMAGE").bare())
        .input(InputSpec::hidden("prompt", "PROMPT"))
        .input(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO"))
        .output_node()
}
fn preview_image(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    preview(ctx, inputs, &Pixels::from_image(inputs.image("images")?)?)
}

fn mask_preview_schema(_: &dyn Host) -> NodeSchema {
    v3("MaskPreview", "mask", "mask")
        .display("Preview Mask")
        .extra("display_name", "Preview Mask")
        .input(InputSpec::new("mask", "MASK"))
        .input(InputSpec::hidden("prompt", "PROMPT").bare())
        .input(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO").bare())
        .output_node()
}
fn mask_preview(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mask = Pixels::from_mask(inputs.mask("mask")?)?;
    let grey = Pixels::build(mask.batch, mask.height, mask.width, 3, |b, y, x, _| mask.at(b, y, x, 0))?;
    Ok(preview(ctx, inputs, &grey)?.with_ui("animated", json!([false])))
}
