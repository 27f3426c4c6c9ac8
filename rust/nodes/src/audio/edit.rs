//! Sound: made, cut, joined and mixed.

use std::sync::Arc;

use rushlight_runtime::Audio;

use crate::memory;
use crate::picture::pixels::values;
use crate::prelude::*;
use crate::sound::resample::resample;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "EmptyAudio", empty_audio_schema, empty_audio);
    add(registry, "AudioAdjustVolume", audio_adjust_volume_schema, audio_adjust_volume);
    add(registry, "SplitAudioChannels", split_audio_channels_schema, split_audio_channels);
    add(registry, "TrimAudioDuration", trim_audio_duration_schema, trim_audio_duration);
    add(registry, "AudioConcat", audio_concat_schema, audio_concat);
    add(registry, "AudioMerge", audio_merge_schema, audio_merge);
}

pub(crate) fn value(waveform: Tensor, sample_rate: u32) -> Value {
    Value::Audio(Arc::new(Audio { waveform, sample_rate }))
}

fn output(waveform: Tensor, sample_rate: u32) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(value(waveform, sample_rate)))
}

fn empty_audio_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyAudio", "audio", "audio")
        .display("Empty Audio")
        .extra("display_name", "Empty Audio")
        .input(float("duration", 60.0, 0.0, u64::MAX).step(0.01))
        .input(int("sample_rate", 44100, 1, 192000))
        .input(int("channels", 2, 1, 2))
        .output(OutputSpec::new("AUDIO"))
}
fn empty_audio(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let rate = inputs.size("sample_rate")?;
    let length = (inputs.float("duration")? * rate as f64).round_ties_even().max(0.0);
    let rate = u32::try_from(rate).map_err(|_| NodeError::value("sample_rate is out of range"))?;
    output(memory::zeros("a sound", &[1, inputs.size("channels")?, length as usize])?, rate)
}

fn audio_adjust_volume_schema(_: &dyn Host) -> NodeSchema {
    v3("AudioAdjustVolume", "audio", "audio")
        .display("Audio Adjust Volume")
        .extra("display_name", "Audio Adjust Volume")
        .input(InputSpec::new("audio", "AUDIO"))
        .input(int("volume", 1, -100, 100))
        .output(OutputSpec::new("AUDIO"))
}
fn audio_adjust_volume(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let audio = inputs.audio("audio")?;
    // Decibels.
    let gain = 10f64.powf(inputs.float("volume")? / 20.0);
    output((&audio.waveform * gain)?, audio.sample_rate)
}

fn split_audio_channels_schema(_: &dyn Host) -> NodeSchema {
    v3("SplitAudioChannels", "audio", "audio")
        .display("Split Audio Channels")
        .extra("display_name", "Split Audio Channels")
        .input(InputSpec::new("audio", "AUDIO"))
        .output(OutputSpec::named("AUDIO", "left"))
        .output(OutputSpec::named("AUDIO", "right"))
}
fn split_audio_channels(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let audio = inputs.audio("audio")?;
    if audio.waveform.dim(1)? != 2 {
        return Err(NodeError::value("AudioSplit: Input audio has only one channel."));
    }
    let channel = |index| -> Result<Value, NodeError> {
        Ok(value(audio.waveform.narrow(1, index, 1)?.contiguous()?, audio.sample_rate))
    };
    Ok(NodeOutput::values([channel(0)?, channel(1)?]))
}

fn trim_audio_duration_schema(_: &dyn Host) -> NodeSchema {
    v3("TrimAudioDuration", "audio", "audio")
        .display("Trim Audio Duration")
        .extra("display_name", "Trim Audio Duration")
        .input(InputSpec::new("audio", "AUDIO"))
        .input(float("start_index", 0.0, -(u64::MAX as f64), u64::MAX).step(0.01))
        .input(InputSpec::new("duration", "FLOAT").default(60.0).opt("min", 0.0).step(0.01))
        .output(OutputSpec::new("AUDIO"))
}
fn trim_audio_duration(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let audio = inputs.audio("audio")?;
    let length = audio.waveform.dim(2)?;
    let rate = f64::from(audio.sample_rate);
    let start = (inputs.float("start_index")? * rate).round_ties_even();
    // A negative start counts from the end.
    let start = if start < 0.0 { length as f64 + start } else { start };
    let start = start.clamp(0.0, length.saturating_sub(1) as f64);
    let end = (start + (inputs.float("duration")? * rate).round_ties_even()).clamp(0.0, length as f64);
    if start >= end {
        return Err(NodeError::value("start time must be less than end time and within the audio's length"));
    }
    let cut = audio.waveform.narrow(2, start as usize, (end - start) as usize)?;
    output(cut.contiguous()?, audio.sample_rate)
}

/// Both sounds at the higher of their rates.
fn same_rate(a: &Audio, b: &Audio) -> Result<(Tensor, Tensor, u32), NodeError> {
    let rate = a.sample_rate.max(b.sample_rate);
    Ok((resample(&a.waveform, a.sample_rate, rate)?, resample(&b.waveform, b.sample_rate, rate)?, rate))
}

/// One channel made two where the other sound has two.
fn same_channels(a: Tensor, b: Tensor) -> Result<(Tensor, Tensor), NodeError> {
    let widen = |t: Tensor, count: usize| -> Result<Tensor, NodeError> {
        if t.dim(1)? == 1 && count > 1 { Ok(t.repeat((1, count, 1))?) } else { Ok(t) }
    };
    let (channels_a, channels_b) = (a.dim(1)?, b.dim(1)?);
    Ok((widen(a, channels_b)?, widen(b, channels_a)?))
}

fn audio_concat_schema(_: &dyn Host) -> NodeSchema {
    v3("AudioConcat", "audio", "audio")
        .display("Audio Concat")
        .extra("display_name", "Audio Concat")
        .input(InputSpec::new("audio1", "AUDIO"))
        .input(InputSpec::new("audio2", "AUDIO"))
        .input(choice("direction", ["after", "before"]).default("after"))
        .output(OutputSpec::new("AUDIO"))
}
fn audio_concat(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (first, second, rate) = same_rate(inputs.audio("audio1")?, inputs.audio("audio2")?)?;
    let (first, second) = same_channels(first, second)?;
    let joined = match inputs.str("direction")? {
        "before" => memory::cat(&[&second, &first], 2)?,
        _ => memory::cat(&[&first, &second], 2)?,
    };
    output(joined, rate)
}

fn audio_merge_schema(_: &dyn Host) -> NodeSchema {
    v3("AudioMerge", "audio", "audio")
        .display("Audio Merge")
        .extra("display_name", "Audio Merge")
        .input(InputSpec::new("audio1", "AUDIO"))
        .input(InputSpec::new("audio2", "AUDIO"))
        .input(choice("merge_method", ["add", "mean", "subtract", "multiply"]))
        .output(OutputSpec::new("AUDIO"))
}
fn audio_merge(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (first, second, rate) = same_rate(inputs.audio("audio1")?, inputs.audio("audio2")?)?;
    let (first, mut second) = same_channels(first, second)?;
    // The second is cut, or followed by silence, to the length of the first.
    let (length, other) = (first.dim(2)?, second.dim(2)?);
    if other > length {
        second = second.narrow(2, 0, length)?;
    } else if other < length {
        second = second.pad_with_zeros(2, 0, length - other)?;
    }
    let merged = match inputs.str("merge_method")? {
        "add" => first.broadcast_add(&second)?,
        "subtract" => first.broadcast_sub(&second)?,
        "multiply" => first.broadcast_mul(&second)?,
        "mean" => (first.broadcast_add(&second)? / 2.0)?,
        other => return Err(NodeError::value(format!("unknown merge method '{other}'"))),
    };
    // Louder than full scale is brought back to it.
    let peak = values(&merged)?.into_iter().fold(0f32, |peak, value| peak.max(value.abs()));
    let merged = if peak > 1.0 { (merged / f64::from(peak))? } else { merged };
    output(merged, rate)
}
