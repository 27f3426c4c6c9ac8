//! Sound: made, cut, joined and mixed.

use std::sync::Arc;

use rushlight_runtime::Audio;

use crate::memory;
use crate::picture::pixels::{tensor, values};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "EmptyAudio", empty_audio_schema, empty_audio);
    add(registry, "AudioAdjustVolume", audio_adjust_volume_schema, audio_adjust_volume);
    add(registry, "SplitAudioChannels", split_audio_channels_schema, split_audio_channels);
    add(registry, "TrimAudioDuration", trim_audio_duration_schema, trim_audio_duration);
    add(registry, "AudioConcat", audio_concat_schema, audio_concat);
    add(registry, "AudioMerge", audio_merge_schema, audio_merge);
}

fn value(waveform: Tensor, sample_rate: u32) -> Value {
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

/// Zero crossings of the filter each way.
const FILTER_WIDTH: f64 = 6.0;
/// Part of the band that is kept.
const ROLLOFF: f64 = 0.99;

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Another sample rate, by a windowed sinc as torchaudio (BSD-2-Clause) does it.
pub(crate) fn resample(waveform: &Tensor, from: u32, to: u32) -> Result<Tensor, NodeError> {
    if from == to {
        return Ok(waveform.clone());
    }
    if from == 0 || to == 0 {
        return Err(NodeError::value("a sample rate is zero"));
    }
    let divisor = common_divisor(from as usize, to as usize);
    let (from, to) = (from as usize / divisor, to as usize / divisor);
    let base = from.min(to) as f64 * ROLLOFF;
    let width = (FILTER_WIDTH * from as f64 / base).ceil() as usize;
    let (batch, channels, length) = waveform.dims3()?;
    let new_length = to.saturating_mul(length).div_ceil(from);
    // Rates without a common divisor have a long kernel for each of many phases.
    memory::check_shape("the filter of the resampling", &[to, 2 * width + from], size_of::<f32>())?;
    let mut data = memory::numbers(&[batch, channels, new_length])?;
    // One kernel for each place of a new sample between old ones.
    let kernels: Vec<Vec<f32>> = (0..to)
        .map(|phase| {
            (0..2 * width + from)
                .map(|i| {
                    let t = (i as f64 - width as f64) / from as f64 - phase as f64 / to as f64;
                    let t = (t * base).clamp(-FILTER_WIDTH, FILTER_WIDTH);
                    let window = (t * std::f64::consts::PI / FILTER_WIDTH / 2.0).cos().powi(2);
                    let t = t * std::f64::consts::PI;
                    let sinc = if t == 0.0 { 1.0 } else { t.sin() / t };
                    (sinc * window * base / from as f64) as f32
                })
                .collect()
        })
        .collect();
    for channel in values(waveform)?.chunks(length.max(1)) {
        for index in 0..new_length {
            let (block, phase) = (index / to, index % to);
            let start = (block * from) as i64 - width as i64;
            let kernel = kernels.get(phase).map(Vec::as_slice).unwrap_or(&[]);
            let sum = kernel.iter().enumerate().map(|(i, weight)| {
                let source = usize::try_from(start + i as i64).ok().and_then(|place| channel.get(place));
                weight * source.copied().unwrap_or(0.0)
            });
            data.push(sum.sum());
        }
    }
    tensor(data, &[batch, channels, new_length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_wave_survives_another_sample_rate() {
        let wave =
            |rate: usize| (0..rate / 10).map(move |i| (i as f32 / rate as f32 * 440.0 * 6.2831855).sin());
        let from = tensor(wave(16000).collect(), &[1, 1, 1600]).unwrap();
        let resampled = values(&resample(&from, 16000, 22050).unwrap()).unwrap();
        assert_eq!(resampled.len(), 2205);
        let worst = resampled.iter().zip(wave(22050)).skip(100).take(2000).map(|(a, b)| (a - b).abs());
        assert!(worst.fold(0.0, f32::max) < 0.01);
    }
}
