//! FLAC files (RFC 9639).

use flacenc::bitsink::ByteSink;
use flacenc::component::{BitRepr, MetadataBlockData};
use flacenc::error::{SourceError, Verify};
use flacenc::source::{Fill, Source};
use rushlight_runtime::{CancelToken, NodeError};

use super::comments::{Comments, vorbis};
use super::{Clip, failed};

/// The kind of a block of comments.
const COMMENTS: u8 = 4;
/// Bytes that a block of comments may have: its length is a number of 24 bits.
const MAX_COMMENTS: usize = (1 << 24) - 1;
/// Where the header has the smallest block's length, and behind it the largest's: 16 bits each.
const SMALLEST_BLOCK: usize = 8;
/// Where the header has the sample rate.
const RATE: usize = 18;
/// The highest rate that the encoder takes, and one in the place of higher ones: its frames have no way to say it, so
/// they leave it to the file's header, where the true one is put.
const HIGHEST_CODED: u32 = 96_000;
const STAND_IN: u32 = 95_999;
/// Channels and samples a second that the format has room for.
const MAX_CHANNELS: usize = 8;
const MAX_RATE: u32 = 655_350;

/// A FLAC file of the sound with so many bits a sample; comments that do not fit are left out.
///
/// # Errors
/// `ValueError` for channels or rates that FLAC does not have.
pub(crate) fn encode(
    clip: &Clip<'_>,
    bits: u32,
    comments: &Comments,
    cancel: &CancelToken,
) -> Result<Vec<u8>, NodeError> {
    if clip.channels == 0 || clip.channels > MAX_CHANNELS {
        return Err(NodeError::value(format!(
            "FLAC has 1 to {MAX_CHANNELS} channels, not {}",
            clip.channels
        )));
    }
    if clip.rate == 0 || clip.rate > MAX_RATE {
        return Err(NodeError::value(format!(
            "FLAC has up to {MAX_RATE} samples a second, not {}",
            clip.rate
        )));
    }
    let config =
        flacenc::config::Encoder::default().into_verified().map_err(|(_, error)| failed("FLAC", error))?;
    let source = Samples { clip, bits, place: 0, cancel };
    let mut stream = flacenc::encode_with_fixed_block_size(&config, source, config.block_size)
        .map_err(|error| failed("FLAC", error))?;
    // An interrupted source has ended early.
    cancel.check()?;
    let comments = vorbis(comments);
    if comments.len() <= MAX_COMMENTS {
        let block = MetadataBlockData::new_unknown(COMMENTS, &comments).map_err(|e| failed("FLAC", e))?;
        stream.add_metadata_block(block);
    }
    let mut sink = ByteSink::new();
    stream.write(&mut sink).map_err(|_| failed("FLAC", "a number is out of range"))?;
    let mut file = sink.into_inner();
    // The header's smallest block is not to count the last one (RFC 9639, 8.2), which the encoder does count.
    let size = (config.block_size as u16).to_be_bytes();
    if let Some(place) = file.get_mut(SMALLEST_BLOCK..SMALLEST_BLOCK + 4) {
        place.copy_from_slice(&[size, size].concat());
    }
    if clip.rate > HIGHEST_CODED {
        set_rate(&mut file, clip.rate);
    }
    Ok(file)
}

/// Writes another rate into the file's header, of which it is 20 bits.
fn set_rate(file: &mut [u8], rate: u32) {
    if let Some([high, middle, low]) = file.get_mut(RATE..RATE + 3) {
        *high = (rate >> 12) as u8;
        *middle = (rate >> 4) as u8;
        *low = (rate << 4) as u8 | (*low & 0x0f);
    }
}

/// The sound as whole numbers, block by block.
struct Samples<'a> {
    clip: &'a Clip<'a>,
    bits: u32,
    place: usize,
    cancel: &'a CancelToken,
}

impl Source for Samples<'_> {
    fn channels(&self) -> usize {
        self.clip.channels
    }

    fn bits_per_sample(&self) -> usize {
        self.bits as usize
    }

    fn sample_rate(&self) -> usize {
        if self.clip.rate > HIGHEST_CODED { STAND_IN as usize } else { self.clip.rate as usize }
    }

    fn read_samples<F: Fill>(&mut self, block_size: usize, dest: &mut F) -> Result<usize, SourceError> {
        let count = block_size.min(self.clip.frames().saturating_sub(self.place));
        if count == 0 || self.cancel.is_cancelled() {
            return Ok(0);
        }
        let mut block = vec![0f32; count * self.clip.channels];
        self.clip.interleave(self.place, &mut block);
        let scale = f64::from(1u32 << (self.bits - 1));
        let whole: Vec<i32> = block
            .into_iter()
            .map(|value| (f64::from(value) * scale).round_ties_even().clamp(-scale, scale - 1.0) as i32)
            .collect();
        dest.fill_interleaved(&whole)?;
        self.place += count;
        Ok(count)
    }

    fn len_hint(&self) -> Option<usize> {
        Some(self.clip.frames())
    }
}
