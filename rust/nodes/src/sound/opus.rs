//! Opus (RFC 6716) and its Ogg files (RFC 7845).

use ropus::opus::multistream::OpusMSDecoder;
use ropus::{Application, Bitrate, Channels, Encoder};
use rushlight_runtime::{CancelToken, NodeError};

use super::comments::{Comments, vorbis};
use super::ogg;
use super::{Clip, failed};

/// Samples a second that Opus counts in, whatever was encoded.
pub(crate) const RATE: u32 = 48_000;
/// Samples that one packet may hold: 120 ms.
const MAX_PACKET: usize = 5760;
/// Sample rates that are encoded as they are.
pub(crate) const RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];
/// Bytes that the longest packet of 20 ms has.
const MAX_ENCODED: usize = 2 * 1276;
/// Packets on a page: a second.
const PAGE: usize = 50;

/// Decodes the packets of one stream.
pub(crate) struct PacketDecoder {
    decoder: OpusMSDecoder,
    channels: usize,
    /// Which channel of the stream each channel of the output is.
    order: &'static [usize],
    /// Samples that are still to be left out: the encoder's run-up.
    skip: usize,
    interleaved: Vec<i16>,
    planes: Vec<Vec<f32>>,
}

/// The channels of Vorbis' order in the order of WAVE files, by their number.
fn wave_order(channels: usize) -> Option<&'static [usize]> {
    const ORDERS: [&[usize]; 8] = [
        &[0],
        &[0, 1],
        &[0, 2, 1],
        &[0, 1, 2, 3],
        &[0, 2, 1, 3, 4],
        &[0, 2, 1, 5, 3, 4],
        &[0, 2, 1, 6, 5, 3, 4],
        &[0, 2, 1, 7, 5, 6, 3, 4],
    ];
    ORDERS.get(channels.checked_sub(1)?).copied()
}

impl PacketDecoder {
    /// A decoder for the stream with that identification header.
    ///
    /// # Errors
    /// Says what of the header is not understood.
    pub(crate) fn new(head: &[u8]) -> Result<Self, &'static str> {
        const CUT: &str = "the Opus header is cut short";
        let byte = |at: usize| head.get(at).copied().ok_or(CUT);
        let word = |at: usize| head.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(CUT);
        if !head.starts_with(b"OpusHead") {
            return Err("the Opus header is missing");
        }
        let channels = usize::from(byte(9)?);
        let order = wave_order(channels).ok_or("Opus has 1 to 8 channels")?;
        let skip = usize::from(u16::from_le_bytes(word(10)?));
        let gain = i16::from_le_bytes(word(16)?);
        let (streams, coupled, mapping) = match byte(18)? {
            0 if channels <= 2 => (1, channels as u8 - 1, &[0, 1][..]),
            1 => (byte(19)?, byte(20)?, head.get(21..21 + channels).ok_or(CUT)?),
            _ => return Err("this mapping of Opus channels is not supported"),
        };
        let mapping = mapping.get(..channels).ok_or(CUT)?;
        let mut decoder =
            OpusMSDecoder::new(RATE as i32, channels as i32, i32::from(streams), i32::from(coupled), mapping)
                .map_err(|_| "the Opus header makes no sense")?;
        decoder.set_gain(i32::from(gain));
        Ok(Self {
            decoder,
            channels,
            order,
            skip,
            interleaved: vec![0; MAX_PACKET * channels],
            planes: vec![Vec::new(); channels],
        })
    }

    /// The samples of a packet by channel, without the run-up and `trim_end` samples at the end.
    ///
    /// # Errors
    /// For a packet that is broken.
    pub(crate) fn decode(&mut self, packet: &[u8], trim_end: usize) -> Result<&[Vec<f32>], &'static str> {
        // An empty packet would ask for what a lost one is replaced by.
        let length = i32::try_from(packet.len()).ok().filter(|length| *length > 0);
        let length = length.ok_or("malformed Opus packet")?;
        let frames = self
            .decoder
            .decode(Some(packet), length, &mut self.interleaved, MAX_PACKET as i32, false)
            .ok()
            .and_then(|frames| usize::try_from(frames).ok())
            .ok_or("malformed Opus packet")?;
        let skip = self.skip.min(frames);
        self.skip -= skip;
        let heard = frames.saturating_sub(skip).saturating_sub(trim_end);
        for (plane, channel) in self.planes.iter_mut().zip(self.order) {
            plane.clear();
            let samples = self.interleaved.iter().skip(skip * self.channels + channel).step_by(self.channels);
            plane.extend(samples.take(heard).map(|sample| f32::from(*sample) / 32768.0));
        }
        Ok(&self.planes)
    }
}

/// An Ogg file of the sound at `bitrate` bits a second.
///
/// # Errors
/// `ValueError` for more than two channels and for rates that are not among [`RATES`].
pub(crate) fn encode(
    clip: &Clip<'_>,
    bitrate: u32,
    comments: &Comments,
    cancel: &CancelToken,
) -> Result<Vec<u8>, NodeError> {
    let wrong = |reason: String| failed("Opus", reason);
    let channels = match clip.channels {
        1 => Channels::Mono,
        2 => Channels::Stereo,
        other => return Err(NodeError::value(format!("Opus is written with 1 or 2 channels, not {other}"))),
    };
    let mut encoder = Encoder::builder(clip.rate, channels, Application::Audio)
        .bitrate(Bitrate::Bits(bitrate))
        .complexity(10)
        .vbr(true)
        .vbr_constraint(false)
        .build()
        .map_err(|error| wrong(format!("{error} ({} samples a second)", clip.rate)))?;
    // In samples of 48 kHz, as all positions are.
    let scale = u64::from(RATE / clip.rate.max(1));
    let skip = u64::from(encoder.lookahead()) * scale;
    let mut writer = ogg::Writer::new(clip.rate ^ clip.frames() as u32);
    writer.packet(&head(clip.channels as u8, skip as u16, clip.rate), 0);
    writer.flush();
    let mut tags = b"OpusTags".to_vec();
    tags.extend(vorbis(comments));
    writer.packet(&tags, 0);
    writer.flush();
    let frame = clip.rate as usize / 50;
    let end = skip + clip.frames() as u64 * scale;
    let packets = usize::try_from(end.div_ceil(frame as u64 * scale)).unwrap_or(usize::MAX);
    let mut pcm = vec![0f32; frame * clip.channels];
    let mut encoded = vec![0; MAX_ENCODED];
    for index in 0..packets {
        cancel.check()?;
        clip.interleave(index * frame, &mut pcm);
        let length = encoder.encode_float(&pcm, &mut encoded).map_err(|error| wrong(error.to_string()))?;
        let position = ((index + 1) * frame) as u64 * scale;
        writer.packet(encoded.get(..length).unwrap_or_default(), position.min(end));
        if index % PAGE == PAGE - 1 && index + 1 < packets {
            writer.flush();
        }
    }
    Ok(writer.finish())
}

/// The identification header.
fn head(channels: u8, skip: u16, rate: u32) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels);
    head.extend_from_slice(&skip.to_le_bytes());
    head.extend_from_slice(&rate.to_le_bytes());
    // No gain, and the mapping of one or two channels.
    head.extend_from_slice(&[0, 0, 0]);
    head
}
