//! Videos: made of pictures, loaded, taken apart, saved.
//!
//! All of it needs an `ffmpeg` executable, so without one no class is registered: beside Python, its classes then
//! handle every video.

use std::sync::Arc;

use bytes::Bytes;
use rushlight_runtime::host::{FileFolder, SaveRequest};
use rushlight_runtime::{Audio, Fingerprint, Validation};
use serde_json::Map;

use crate::image::io::metadata;
use crate::media::decode as by_ffmpeg;
use crate::media::find;
use crate::media::video::{Codec, Source, encode};
use crate::prelude::*;
use crate::sound::decode::{Unread, decode};

/// What a VIDEO is between nodes.
enum Video {
    /// A file from outside, as it is.
    File {
        /// Its name, for messages.
        name: String,
        /// Its content.
        bytes: Bytes,
    },
    /// Pictures that will be shown one after the other.
    Made {
        /// `[B, H, W, C]`.
        images: Tensor,
        /// What is heard meanwhile.
        audio: Option<Arc<Audio>>,
        /// Pictures a second.
        rate: f64,
    },
}

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    if find::ffmpeg().is_none() {
        return;
    }
    add(registry, "CreateVideo", create_video_schema, create_video);
    let load = Define::new(load_video_schema, load_video).fingerprint(file_changed).validate(file_exists);
    registry.register("LoadVideo", Arc::new(load));
    add(registry, "GetVideoComponents", get_video_components_schema, get_video_components);
    add_saving(registry, "SaveVideo", save_video_schema, save_video);
    add_saving(registry, "SaveWEBM", save_webm_schema, save_webm);
}

/// The VIDEO on an input.
fn video(inputs: &Inputs, name: &str) -> Result<Arc<Video>, NodeError> {
    let found = match inputs.get(name) {
        Some(Value::Object(object)) => object.share::<Video>(),
        _ => None,
    };
    found.ok_or_else(|| NodeError::value(format!("'{name}' is no video of this engine")))
}

fn create_video_schema(_: &dyn Host) -> NodeSchema {
    v3("CreateVideo", "image/video", "video")
        .display("Create Video")
        .extra("display_name", "Create Video")
        .input(InputSpec::new("images", "IMAGE"))
        .input(float("fps", 30.0, 1.0, 120.0).step(1.0))
        .input(InputSpec::new("audio", "AUDIO").optional())
        .output(OutputSpec::new("VIDEO"))
}
fn create_video(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let audio = match inputs.present("audio") {
        Some(_) => Some(inputs.audio("audio")?.clone()),
        None => None,
    };
    let made = Video::Made { images: inputs.image("images")?.clone(), audio, rate: inputs.float("fps")? };
    Ok(NodeOutput::one(Value::object("VIDEO", made)))
}

/// The input's file as it is now, so that a changed file is read again.
fn file_changed(ctx: &NodeContext, inputs: &Inputs) -> Result<Fingerprint, NodeError> {
    Ok(Fingerprint::Value(ctx.host().fingerprint(inputs.str("file")?)?.into()))
}

/// Accepts any file that is there, also one that is not in the list of choices.
fn file_exists(host: &dyn Host, inputs: &Inputs, _: &Map<String, serde_json::Value>) -> Validation {
    let fault = match inputs.get("file") {
        Some(Value::String(name)) if host.fingerprint(name).is_ok() => None,
        Some(other) => Some(format!("Invalid video file: {}", crate::pytext::text(other))),
        // A link: its value is not known yet.
        None => None,
    };
    Validation { takes_over: vec!["file".into()], fault }
}

fn load_video_schema(host: &dyn Host) -> NodeSchema {
    v3("LoadVideo", "image/video", "video")
        .display("Load Video")
        .extra("display_name", "Load Video")
        .input(choice("file", host.input_names(&["video"])).opt("video_upload", true))
        .output(OutputSpec::new("VIDEO"))
}
fn load_video(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("file")?.to_owned();
    let bytes = ctx.host().read(&name)?;
    Ok(NodeOutput::one(Value::object("VIDEO", Video::File { name, bytes })))
}

fn get_video_components_schema(_: &dyn Host) -> NodeSchema {
    v3("GetVideoComponents", "image/video", "video")
        .display("Get Video Components")
        .extra("display_name", "Get Video Components")
        .input(InputSpec::new("video", "VIDEO"))
        .output(OutputSpec::named("IMAGE", "images"))
        .output(OutputSpec::named("AUDIO", "audio"))
        .output(OutputSpec::named("FLOAT", "fps"))
}
fn get_video_components(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let video = video(inputs, "video")?;
    match video.as_ref() {
        Video::Made { images, audio, rate } => {
            let audio = audio.clone().map_or(Value::None, Value::Audio);
            Ok(NodeOutput::values([Value::Image(images.clone()), audio, Value::Float(*rate)]))
        }
        Video::File { name, bytes } => {
            let cancel = &ctx.run.cancel;
            let source = Source::new(bytes)?;
            let description = source.describe(name, cancel)?;
            let images = source.pictures(name, &description, cancel)?;
            let audio = if description.sound {
                match decode(name, bytes.clone(), cancel) {
                    Ok(audio) => Value::Audio(Arc::new(audio)),
                    Err(Unread::Failed(NodeError::Interrupted)) => return Err(NodeError::Interrupted),
                    Err(_) => Value::Audio(Arc::new(by_ffmpeg::sound(name, bytes, cancel)?)),
                }
            } else {
                Value::None
            };
            Ok(NodeOutput::values([Value::Image(images), audio, Value::Float(description.rate)]))
        }
    }
}

/// Saves the file of a video of that size.
fn save(
    ctx: &NodeContext,
    inputs: &Inputs,
    (width, height): (usize, usize),
    extension: &str,
    file: &[u8],
) -> Result<NodeOutput, NodeError> {
    let request = SaveRequest {
        folder: FileFolder::Output,
        prefix: inputs.str("filename_prefix")?,
        suffix: "",
        width,
        height,
        batch_index: 0,
        extension,
    };
    let saved = ctx.host().save(&request, file)?;
    Ok(NodeOutput::default().with_ui("images", json!([saved])).with_ui("animated", json!([true])))
}

fn save_video_schema(_: &dyn Host) -> NodeSchema {
    v3("SaveVideo", "image/video", "video")
        .display("Save Video")
        .extra("display_name", "Save Video")
        .input(InputSpec::new("video", "VIDEO"))
        .input(line("filename_prefix", "video/ComfyUI"))
        .input(choice("format", ["auto", "mp4"]).default("auto"))
        .input(choice("codec", ["auto", "h264"]).default("auto"))
        .input(InputSpec::hidden("prompt", "PROMPT").bare())
        .input(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO").bare())
        .output_node()
}
fn save_video(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (video, text, cancel) = (video(inputs, "video")?, metadata(ctx, inputs), &ctx.run.cancel);
    match video.as_ref() {
        Video::Made { images, audio, rate } => {
            let (_, height, width, _) = images.dims4()?;
            let file = encode(images, *rate, audio.as_deref(), Codec::H264, &text, cancel)?;
            save(ctx, inputs, (width, height), "mp4", &file)
        }
        Video::File { name, bytes } => {
            let source = Source::new(bytes)?;
            let description = source.describe(name, cancel)?;
            // What is already as it is asked for is not coded again.
            let is_mp4 = bytes.get(4..8) == Some(b"ftyp");
            let same_format = inputs.str("format")? == "auto" || is_mp4;
            let same_codec =
                matches!(inputs.str("codec")?, codec if codec == "auto" || codec == description.codec);
            let file = source.rewritten(!(same_format && same_codec), &text, cancel)?;
            save(ctx, inputs, (description.width, description.height), "mp4", &file)
        }
    }
}

fn save_webm_schema(_: &dyn Host) -> NodeSchema {
    v3("SaveWEBM", "image/video", "video")
        .input(InputSpec::new("images", "IMAGE"))
        .input(line("filename_prefix", "ComfyUI"))
        .input(choice("codec", ["vp9", "av1"]))
        .input(float("fps", 24.0, 0.01, 1000.0).step(0.01))
        .input(float("crf", 32.0, 0, 63.0).step(1))
        .input(InputSpec::hidden("prompt", "PROMPT").bare())
        .input(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO").bare())
        .output_node()
        .extra("experimental", true)
}
fn save_webm(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let images = inputs.image("images")?;
    let (_, height, width, _) = images.dims4()?;
    let quality = inputs.float("crf")?.clamp(0.0, 63.0);
    let codec = if inputs.str("codec")? == "av1" { Codec::Av1(quality) } else { Codec::Vp9(quality) };
    let file = encode(images, inputs.float("fps")?, None, codec, &metadata(ctx, inputs), &ctx.run.cancel)?;
    save(ctx, inputs, (width, height), "webm", &file)
}
