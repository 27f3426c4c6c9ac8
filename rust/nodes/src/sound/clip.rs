//! [`Clip`]: one sound of a batch.

use std::io::{self, Write};

use candle_core::Tensor;
use rushlight_runtime::{Audio, NodeError};

use crate::picture::pixels::values;

/// Samples a channel that are written at a time.
const BLOCK: usize = 1 << 14;

/// One sound, channel behind channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clip<'a> {
    /// `channels * frames` values, full scale at 1.
    pub(crate) data: &'a [f32],
    /// How many channels.
    pub(crate) channels: usize,
    /// Samples a second and channel.
    pub(crate) rate: u32,
}

impl Clip<'_> {
    /// Samples a channel.
    pub(crate) fn frames(&self) -> usize {
        self.data.len().checked_div(self.channels).unwrap_or(0)
    }

    /// Writes all samples, little-endian, channel after channel for each moment.
    ///
    /// # Errors
    /// Those of the writer.
    pub(crate) fn write_floats(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut block = vec![0f32; BLOCK * self.channels];
        let mut start = 0;
        while start < self.frames() {
            let count = BLOCK.min(self.frames() - start);
            block.truncate(count * self.channels);
            self.interleave(start, &mut block);
            let bytes: Vec<u8> = block.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            out.write_all(&bytes)?;
            start += count;
        }
        Ok(())
    }

    /// Fills `out` with samples from `start` on, channel after channel for each moment; silence behind the end.
    pub(crate) fn interleave(&self, start: usize, out: &mut [f32]) {
        let frames = self.frames();
        for (channel, plane) in self.data.chunks(frames.max(1)).take(self.channels).enumerate() {
            let samples = plane.get(start..).unwrap_or_default().iter().copied();
            let places = out.iter_mut().skip(channel).step_by(self.channels);
            for (place, sample) in places.zip(samples.chain(std::iter::repeat(0.0))) {
                // What is no number is silent.
                *place = if sample.is_finite() { sample } else { 0.0 };
            }
        }
    }
}

/// The sounds of a batch, in memory of the host: their values, channels, and samples a second.
///
/// # Errors
/// `ValueError` for a tensor that is not `[B, C, T]`.
pub(crate) fn clips(audio: &Audio) -> Result<(Vec<f32>, usize, usize), NodeError> {
    let (channels, frames) = shape(&audio.waveform)?;
    Ok((values(&audio.waveform)?, channels, frames))
}

fn shape(waveform: &Tensor) -> Result<(usize, usize), NodeError> {
    match waveform.dims() {
        [_, channels, frames] => Ok((*channels, *frames)),
        other => Err(NodeError::value(format!("a sound must have 3 dimensions [B, C, T], got {other:?}"))),
    }
}

/// What clients are told of a file that could not be written.
pub(crate) fn failed(format: &str, reason: impl std::fmt::Display) -> NodeError {
    NodeError::new("OSError", format!("cannot write {format}: {reason}"))
}
