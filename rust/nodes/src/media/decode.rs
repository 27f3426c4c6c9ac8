//! Files from outside that nothing else reads, through `ffmpeg`.

use std::time::Duration;

use rushlight_runtime::{Audio, CancelToken, NodeError};

use super::ffmpeg::{CONTAINERS, Run, Workspace, arguments, blame};
use crate::memory;
use crate::picture::pixels::tensor;
use crate::sound::decode::unreadable;

/// How long the executable may take.
const TIME: Duration = Duration::from_secs(3600);
/// Bytes that are measured against the memory at a time.
const STEP: usize = 64 << 20;
/// Bytes of the header of the AU format, and its encoding number for 32-bit floats.
const HEADER: usize = 24;
const FLOATS: u32 = 6;

/// The first sound track of the file `name`, `[1, C, T]`, at its own sample rate.
///
/// # Errors
/// Those of the executable, and when the sound does not fit the memory.
pub(crate) fn sound(name: &str, file: &[u8], cancel: &CancelToken) -> Result<Audio, NodeError> {
    let folder = Workspace::new()?;
    // By a name of ours: that of the file could be taken for an option or a pattern.
    let input = folder.write("input", file)?;
    // AU tells rate and channels before the samples, and has no limit of length.
    let run = Run {
        what: "decoding sound",
        arguments: arguments([
            &"-protocol_whitelist",
            &"file",
            &"-format_whitelist",
            &CONTAINERS,
            &"-i",
            &input,
            &"-map",
            &"0:a:0",
            &"-map_metadata",
            &"-1",
            &"-c:a",
            &"pcm_f32be",
            &"-f",
            &"au",
            &"pipe:1",
        ]),
        time: TIME,
        output: u64::MAX,
        cancel,
    };
    let mut bytes: Vec<u8> = Vec::new();
    let mut room = 0;
    run.run(&mut |_| Ok(()), &mut |piece| {
        if bytes.len() + piece.len() > room {
            room = (2 * room).max(bytes.len() + STEP);
            // The bytes, and the numbers made of them.
            memory::check_bytes(&format!("the sound of '{name}'"), 2 * room as u64)?;
        }
        bytes.extend_from_slice(piece);
        Ok(())
    })
    .map_err(|error| blame(error, |error| unreadable(name, error)))?;
    let broken = || unreadable(name, "ffmpeg found no sound in it");
    let word =
        |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_be_bytes(*word));
    let (Some(start), Some(FLOATS), Some(rate), Some(channels)) = (word(4), word(12), word(16), word(20))
    else {
        return Err(broken());
    };
    let samples = bytes.get(usize::try_from(start).unwrap_or(usize::MAX).max(HEADER)..).ok_or_else(broken)?;
    let channels = channels as usize;
    let frames = samples.len().checked_div(4 * channels).unwrap_or(0);
    if frames == 0 {
        return Err(broken());
    }
    let mut data = memory::numbers(&[1, channels, frames])?;
    for channel in 0..channels {
        let sample = samples.as_chunks::<4>().0.iter().skip(channel).step_by(channels).take(frames);
        data.extend(sample.map(|bytes| f32::from_be_bytes(*bytes)));
    }
    Ok(Audio { waveform: tensor(data, &[1, channels, frames])?, sample_rate: rate })
}
