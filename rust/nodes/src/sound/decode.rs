//! Reads sound files: the first sound track, whole.

use std::io::{Cursor, ErrorKind};
use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use rushlight_runtime::{Audio, CancelToken, NodeError};
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

use super::edits::leading_samples;
use super::opus::PacketDecoder;
use crate::memory;
use crate::picture::pixels::tensor;

/// More channels than any sound has; a header may claim 65,535.
const MAX_CHANNELS: usize = 64;

/// Why a file gave no sound.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It is not a format or codec of this program; another one may know it.
    Unknown(String),
    /// It failed for good.
    Failed(NodeError),
}

impl From<NodeError> for Unread {
    fn from(error: NodeError) -> Self {
        Unread::Failed(error)
    }
}

/// What clients are told of a file without sound that can be read.
pub(crate) fn unreadable(name: &str, reason: impl std::fmt::Display) -> NodeError {
    NodeError::new("av.error.InvalidDataError", format!("cannot read audio file '{name}': {reason}"))
}

/// The sound of the file `name`, `[1, C, T]`, at the file's own sample rate.
///
/// # Errors
/// [`Unread::Unknown`] for formats and codecs that are not known here, [`Unread::Failed`] for broken files, sounds that
/// do not fit the memory, and interrupted runs.
pub(crate) fn decode(name: &str, bytes: Bytes, cancel: &CancelToken) -> Result<Audio, Unread> {
    // The libraries count with what headers claim; where that overflows, the file is to blame and not the run.
    std::panic::catch_unwind(AssertUnwindSafe(|| decode_track(name, bytes, cancel)))
        .unwrap_or_else(|_| Err(unreadable(name, "its header makes no sense").into()))
}

fn decode_track(name: &str, bytes: Bytes, cancel: &CancelToken) -> Result<Audio, Unread> {
    let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes.clone())), Default::default());
    let mut hint = Hint::new();
    if let Some((_, extension)) = name.rsplit_once('.') {
        hint.with_extension(extension);
    }
    let mut format = symphonia::default::get_probe()
        .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|error| unknown_or(name, error))?;
    let (track_id, parameters) = sound_track(format.as_ref(), name)?;
    let channels = parameters.channels.as_ref().map_or(0, |channels| channels.count());
    if channels > MAX_CHANNELS {
        return Err(unreadable(name, format!("it claims {channels} channels")).into());
    }
    let mut decoder = Decoder::new(&parameters).map_err(|error| unknown_or(name, error))?;
    let mut sound = Gathered { name, planes: Vec::new(), rate: 0, room: 0 };
    let mut fault = None;
    loop {
        cancel.check()?;
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            // A file that is cut short ends where it is cut; another stream behind the first is left out.
            Ok(None) | Err(Error::ResetRequired) => break,
            Err(Error::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) if sound.frames() == 0 => return Err(unreadable(name, error).into()),
            Err(_) => break,
        };
        if packet.track_id != track_id {
            continue;
        }
        // A packet that cannot be decoded is left out, as players do.
        match decoder.decode(&packet) {
            Ok(piece) => sound.add(piece)?,
            Err(error) => fault = Some(error.to_string()),
        }
    }
    if sound.frames() == 0 {
        let reason = fault.unwrap_or_else(|| "it holds no sound".into());
        return Err(unreadable(name, reason).into());
    }
    if matches!(decoder, Decoder::General { .. }) {
        sound.skip(leading_samples(&bytes, sound.rate));
    }
    Ok(sound.into_audio()?)
}

/// Errors of what is not known apart from those of broken files.
fn unknown_or(name: &str, error: Error) -> Unread {
    match error {
        Error::Unsupported(_) => Unread::Unknown(error.to_string()),
        error => Unread::Failed(unreadable(name, error)),
    }
}

/// The first track of sound whose codec is known.
fn sound_track(format: &dyn FormatReader, name: &str) -> Result<(u32, AudioCodecParameters), Unread> {
    let track = format
        .default_track(TrackType::Audio)
        .ok_or_else(|| Unread::Unknown(format!("no audio stream found in '{name}'")))?;
    match &track.codec_params {
        Some(CodecParameters::Audio(parameters)) => Ok((track.id, parameters.clone())),
        _ => Err(Unread::Unknown("the codec of its sound is not known".into())),
    }
}

/// A decoded packet.
struct Piece<'a> {
    planes: &'a [Vec<f32>],
    rate: u32,
}

/// What decodes the packets of the track.
enum Decoder {
    General { decoder: Box<dyn AudioDecoder>, planes: Vec<Vec<f32>> },
    Opus(Box<PacketDecoder>),
}

impl Decoder {
    fn new(parameters: &AudioCodecParameters) -> Result<Self, Error> {
        if parameters.codec == CODEC_ID_OPUS {
            let head = parameters.extra_data.as_deref().unwrap_or_default();
            return Ok(Decoder::Opus(Box::new(PacketDecoder::new(head).map_err(Error::Unsupported)?)));
        }
        let options = AudioDecoderOptions::default();
        let decoder = symphonia::default::get_codecs().make_audio_decoder(parameters, &options)?;
        Ok(Decoder::General { decoder, planes: Vec::new() })
    }

    fn decode(&mut self, packet: &Packet) -> Result<Piece<'_>, Error> {
        match self {
            Decoder::General { decoder, planes } => {
                let decoded = decoder.decode(packet)?;
                let rate = decoded.spec().rate();
                decoded.copy_to_vecs_planar(planes);
                Ok(Piece { planes, rate })
            }
            Decoder::Opus(decoder) => {
                let end = usize::try_from(packet.trim_end.get()).unwrap_or(usize::MAX);
                let planes = decoder.decode(&packet.data, end).map_err(Error::DecodeError)?;
                Ok(Piece { planes, rate: super::opus::RATE })
            }
        }
    }
}

/// The sound so far.
struct Gathered<'a> {
    name: &'a str,
    planes: Vec<Vec<f32>>,
    rate: u32,
    /// Samples a channel for which memory has been found.
    room: usize,
}

impl Gathered<'_> {
    fn frames(&self) -> usize {
        self.planes.first().map_or(0, Vec::len)
    }

    /// Checks that there is memory for more samples: in planes, and once more joined.
    fn make_room(&mut self, more: usize) -> Result<(), NodeError> {
        let wanted = self.frames().saturating_add(more);
        if wanted <= self.room {
            return Ok(());
        }
        let room = wanted.max(self.room.saturating_mul(2));
        let what = format!("the sound of '{}'", self.name);
        memory::check_shape(&what, &[2, self.planes.len(), room], size_of::<f32>())?;
        self.room = room;
        Ok(())
    }

    fn add(&mut self, piece: Piece<'_>) -> Result<(), NodeError> {
        let frames = piece.planes.first().map_or(0, Vec::len);
        if frames == 0 {
            return Ok(());
        }
        if self.planes.is_empty() {
            self.planes = vec![Vec::new(); piece.planes.len()];
            self.rate = piece.rate;
        }
        if piece.planes.len() != self.planes.len() || piece.rate != self.rate {
            return Err(unreadable(self.name, "its channels or sample rate change midway"));
        }
        self.make_room(frames)?;
        for (plane, more) in self.planes.iter_mut().zip(piece.planes) {
            plane.extend_from_slice(more);
        }
        Ok(())
    }

    /// Takes samples off the start.
    fn skip(&mut self, samples: usize) {
        for plane in &mut self.planes {
            plane.drain(..samples.min(plane.len()));
        }
    }

    fn into_audio(self) -> Result<Audio, NodeError> {
        let shape = [1, self.planes.len(), self.frames()];
        let mut planes = self.planes.into_iter();
        let mut joined = planes.next().unwrap_or_default();
        for plane in planes {
            joined.extend_from_slice(&plane);
        }
        Ok(Audio { waveform: tensor(joined, &shape)?, sample_rate: self.rate })
    }
}
