//! Sound files: loaded, recorded, saved and previewed.

use std::sync::Arc;

use bytes::Bytes;
use rushlight_runtime::host::{FileFolder, SaveRequest, SavedFile};
use rushlight_runtime::{Audio, Fingerprint, Validation};
use serde_json::Map;

use super::edit::value;
use crate::image::io::{metadata, preview_suffix};
use crate::media::{decode as by_ffmpeg, find};
use crate::prelude::*;
use crate::sound::comments::Comments;
use crate::sound::decode::{Unread, decode, unreadable};
use crate::sound::mp3::Quality;
use crate::sound::resample::resample;
use crate::sound::{Clip, clips, flac, mp3, opus};

/// Bits a sample of the FLAC files that are written.
const FLAC_BITS: u32 = 16;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    let load = Define::new(load_audio_schema, load_audio).fingerprint(file_changed).validate(file_exists);
    registry.register("LoadAudio", Arc::new(load));
    add(registry, "RecordAudio", record_audio_schema, load_audio);
    add_saving(registry, "SaveAudio", save_audio_schema, save_audio);
    add_saving(registry, "SaveAudioOpus", save_audio_opus_schema, save_audio_opus);
    add(registry, "PreviewAudio", preview_audio_schema, preview_audio);
    // No permissive library writes MP3.
    if find::ffmpeg().is_some() {
        add_saving(registry, "SaveAudioMP3", save_audio_mp3_schema, save_audio_mp3);
    }
}

/// The input's file as it is now, so that a changed file is read again.
fn file_changed(ctx: &NodeContext, inputs: &Inputs) -> Result<Fingerprint, NodeError> {
    Ok(Fingerprint::Value(ctx.host().fingerprint(inputs.str("audio")?)?.into()))
}

/// Accepts any file that is there, also one that is not in the list of choices.
fn file_exists(host: &dyn Host, inputs: &Inputs, _: &Map<String, serde_json::Value>) -> Validation {
    let fault = match inputs.get("audio") {
        Some(Value::String(name)) if host.fingerprint(name).is_ok() => None,
        Some(other) => Some(format!("Invalid audio file: {}", crate::pytext::text(other))),
        // A link: its value is not known yet.
        None => None,
    };
    Validation { takes_over: vec!["audio".into()], fault }
}

fn load_audio_schema(host: &dyn Host) -> NodeSchema {
    v3("LoadAudio", "audio", "audio")
        .display("Load Audio")
        .extra("display_name", "Load Audio")
        .input(choice("audio", host.input_names(&["audio", "video"])).opt("audio_upload", true))
        .output(OutputSpec::new("AUDIO"))
}

fn record_audio_schema(_: &dyn Host) -> NodeSchema {
    v3("RecordAudio", "audio", "audio")
        .display("Record Audio")
        .extra("display_name", "Record Audio")
        .input(InputSpec::new("audio", "AUDIO_RECORD"))
        .output(OutputSpec::new("AUDIO"))
}

/// A recording is a file that the client has uploaded.
fn load_audio(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("audio")?;
    let Audio { waveform, sample_rate } = read(ctx, name, ctx.host().read(name)?)?;
    Ok(NodeOutput::one(value(waveform, sample_rate)))
}

/// Reads a sound, by `ffmpeg` what is not known here.
fn read(ctx: &NodeContext, name: &str, bytes: Bytes) -> Result<Audio, NodeError> {
    match decode(name, bytes.clone(), &ctx.run.cancel) {
        Ok(audio) => Ok(audio),
        Err(Unread::Failed(error)) => Err(error),
        Err(Unread::Unknown(_)) if find::ffmpeg().is_some() => {
            by_ffmpeg::sound(name, &bytes, &ctx.run.cancel)
        }
        Err(Unread::Unknown(reason)) => Err(unreadable(
            name,
            format!("{reason}; more formats can be read where an ffmpeg executable is installed"),
        )),
    }
}

/// The texts that go into the file.
fn comments(ctx: &NodeContext, inputs: &Inputs) -> Comments {
    metadata(ctx, inputs)
}

type Write<'a> = &'a dyn Fn(&Clip<'_>, &Comments) -> Result<Vec<u8>, NodeError>;

/// A file of each sound of the batch.
fn save_batch(
    ctx: &NodeContext,
    inputs: &Inputs,
    folder: FileFolder,
    name: (&str, &str, &str),
    write: Write<'_>,
) -> Result<NodeOutput, NodeError> {
    let audio = inputs.audio("audio")?;
    let comments = comments(ctx, inputs);
    let (values, channels, frames) = clips(audio)?;
    let (prefix, suffix, extension) = name;
    let mut saved: Vec<SavedFile> = Vec::new();
    for (batch_index, data) in values.chunks((channels * frames).max(1)).enumerate() {
        ctx.check()?;
        let file = write(&Clip { data, channels, rate: audio.sample_rate }, &comments)?;
        let request = SaveRequest { folder, prefix, suffix, width: 0, height: 0, batch_index, extension };
        saved.push(ctx.host().save(&request, &file)?);
    }
    Ok(NodeOutput::default().with_ui("audio", json!(saved)))
}

fn saving(name: &str, display: &str) -> NodeSchema {
    v3(name, "audio", "audio")
        .display(display)
        .extra("display_name", display)
        .input(InputSpec::new("audio", "AUDIO"))
        .input(line("filename_prefix", "audio/ComfyUI"))
}

fn with_hidden(schema: NodeSchema) -> NodeSchema {
    schema
        .input(InputSpec::hidden("prompt", "PROMPT").bare())
        .input(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO").bare())
        .output_node()
}

fn save_audio_schema(_: &dyn Host) -> NodeSchema {
    with_hidden(saving("SaveAudio", "Save Audio (FLAC)"))
}
fn save_audio(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let name = (inputs.str("filename_prefix")?, "", "flac");
    save_batch(ctx, inputs, FileFolder::Output, name, &|clip, comments| {
        flac::encode(clip, FLAC_BITS, comments, &ctx.run.cancel)
    })
}

fn preview_audio_schema(_: &dyn Host) -> NodeSchema {
    let schema = v3("PreviewAudio", "audio", "audio")
        .display("Preview Audio")
        .extra("display_name", "Preview Audio")
        .input(InputSpec::new("audio", "AUDIO"));
    with_hidden(schema)
}
fn preview_audio(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let suffix = preview_suffix();
    save_batch(ctx, inputs, FileFolder::Temp, ("ComfyUI", &suffix, "flac"), &|clip, comments| {
        flac::encode(clip, FLAC_BITS, comments, &ctx.run.cancel)
    })
}

fn save_audio_mp3_schema(_: &dyn Host) -> NodeSchema {
    let schema = saving("SaveAudioMP3", "Save Audio (MP3)");
    with_hidden(schema.input(choice("quality", ["V0", "128k", "320k"]).default("V0")))
}
fn save_audio_mp3(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let quality = match inputs.str("quality")? {
        "V0" => Quality::Variable(0),
        other => Quality::Constant(bitrate(other)?),
    };
    let name = (inputs.str("filename_prefix")?, "", "mp3");
    save_batch(ctx, inputs, FileFolder::Output, name, &|clip, comments| {
        mp3::encode(clip, quality, comments, &ctx.run.cancel)
    })
}

fn save_audio_opus_schema(_: &dyn Host) -> NodeSchema {
    let schema = saving("SaveAudioOpus", "Save Audio (Opus)");
    with_hidden(schema.input(choice("quality", ["64k", "96k", "128k", "192k", "320k"]).default("128k")))
}
fn save_audio_opus(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let bitrate = bitrate(inputs.str("quality")?)?;
    let name = (inputs.str("filename_prefix")?, "", "opus");
    // At the next higher rate that Opus has, or its highest.
    let audio = inputs.audio("audio")?;
    let rate = opus::RATES.into_iter().find(|rate| *rate >= audio.sample_rate).unwrap_or(opus::RATE);
    let waveform = resample(&audio.waveform, audio.sample_rate, rate)?;
    let mut inputs = inputs.clone();
    inputs.insert("audio", value(waveform, rate));
    save_batch(ctx, &inputs, FileFolder::Output, name, &|clip, comments| {
        opus::encode(clip, bitrate, comments, &ctx.run.cancel)
    })
}

/// `128k` as bits a second.
fn bitrate(quality: &str) -> Result<u32, NodeError> {
    let thousands = quality.strip_suffix('k').and_then(|digits| digits.parse::<u32>().ok());
    thousands
        .and_then(|thousands| thousands.checked_mul(1000))
        .ok_or_else(|| NodeError::value(format!("'{quality}' is no quality: a bitrate such as 128k")))
}
