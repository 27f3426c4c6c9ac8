//! Videos, written and read by an `ffmpeg` executable.

use std::io::{self, Write};
use std::time::Duration;

use candle_core::Tensor;
use rushlight_runtime::{Audio, CancelToken, NodeError};

use super::ffmpeg::{CONTAINERS, Run, Workspace, arguments, blame};
use crate::memory;
use crate::picture::encode::TextChunks;
use crate::picture::pixels::{to_byte, values};
use crate::sound::{Clip, clips};

/// How long one run may take.
const TIME: Duration = Duration::from_secs(6 * 3600);
/// Bytes that a written video may have.
const MAX_BYTES: u64 = 8 << 30;
/// Bytes that the description of a video and one picture of it may have.
const MAX_PROBE: u64 = 1 << 30;
/// How colours are converted.
const FLAGS: &str = "bilinear";
/// Pictures a second are kept to a thousandth.
const RATE_SCALE: f64 = 1000.0;

/// How the pictures are coded, and in which file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Codec {
    /// H.264 in MP4.
    H264,
    /// VP9 in WebM, with a quality from 0 to 63 (lower is better).
    Vp9(f64),
    /// AV1 in WebM, with a quality from 0 to 63.
    Av1(f64),
}

impl Codec {
    fn arguments(self) -> Vec<String> {
        // Some versions of the encoders know whole qualities only.
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        match self {
            Codec::H264 => {
                owned(&["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "use_metadata_tags"])
            }
            Codec::Vp9(quality) => [
                owned(&["-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-b:v", "0", "-crf"]),
                vec![quality.round().to_string()],
            ]
            .concat(),
            Codec::Av1(quality) => [
                owned(&["-c:v", "libsvtav1", "-pix_fmt", "yuv420p10le", "-preset", "6", "-crf"]),
                vec![quality.round().to_string()],
            ]
            .concat(),
        }
    }

    fn format(self) -> &'static str {
        if self == Codec::H264 { "mp4" } else { "webm" }
    }
}

/// Pictures a second as a fraction.
pub(crate) fn fraction(rate: f64) -> Result<String, NodeError> {
    let thousandths = (rate * RATE_SCALE).round();
    if !(1.0..=1e9).contains(&thousandths) {
        return Err(NodeError::value(format!("{rate} pictures a second are out of range")));
    }
    Ok(format!("{thousandths}/{RATE_SCALE}"))
}

/// Metadata in the form that `ffmpeg` reads from a file: the command line has no room for a workflow.
fn metadata_file(text: &TextChunks) -> String {
    let escaped = |text: &str| {
        text.chars().fold(String::new(), |mut out, character| {
            if matches!(character, '=' | ';' | '#' | '\\' | '\n') {
                out.push('\\');
            }
            out.push(character);
            out
        })
    };
    let mut out = String::from(";FFMETADATA1\n");
    for (keyword, text) in text {
        out += &format!("{}={}\n", escaped(keyword), escaped(text));
    }
    out
}

/// A sound that goes with pictures: at most as long as they are, in two channels if it has one.
fn sound_beside(audio: &Audio, seconds: f64) -> Result<(Vec<f32>, usize), NodeError> {
    let (all, channels, frames) = clips(audio)?;
    let kept = ((seconds * f64::from(audio.sample_rate)).ceil() as usize).min(frames);
    // Only the first of a batch is heard.
    let planes = all.chunks(frames.max(1)).take(channels).map(|plane| plane.get(..kept).unwrap_or(plane));
    let data: Vec<f32> = planes.flatten().copied().collect();
    Ok(if channels == 1 { (data.repeat(2), 2) } else { (data, channels) })
}

/// Writes a batch of pictures `[B, H, W, C]` as 24-bit colours.
fn write_pictures(images: &Tensor, stdin: &mut dyn Write) -> io::Result<()> {
    let count = images.dim(0).map_err(io::Error::other)?;
    for index in 0..count {
        // One at a time: all of them once more would take much memory.
        let picture = images.narrow(0, index, 1).map_err(io::Error::other)?;
        let channels = picture.dim(3).map_err(io::Error::other)?;
        let numbers = values(&picture).map_err(|error| io::Error::other(error.to_string()))?;
        let bytes: Vec<u8> = numbers
            .chunks(channels.max(1))
            .flat_map(|pixel| pixel.iter().take(3))
            .map(|v| to_byte(*v))
            .collect();
        stdin.write_all(&bytes)?;
    }
    Ok(())
}

/// A video of the pictures `[B, H, W, C]`, `rate` a second, with a sound if there is one.
///
/// # Errors
/// `ValueError` for pictures without three channels, for odd sides where the codec takes none, and those of the
/// executable.
pub(crate) fn encode(
    images: &Tensor,
    rate: f64,
    audio: Option<&Audio>,
    codec: Codec,
    text: &TextChunks,
    cancel: &CancelToken,
) -> Result<Vec<u8>, NodeError> {
    let (count, height, width, channels) = images.dims4()?;
    if channels < 3 || count == 0 {
        return Err(NodeError::value("a video needs pictures of three channels"));
    }
    if codec == Codec::H264 && (height % 2 == 1 || width % 2 == 1) {
        return Err(NodeError::value(format!("H.264 has even sides only, not {width}x{height}")));
    }
    let folder = Workspace::new()?;
    let described = folder.write("metadata", metadata_file(text).as_bytes())?;
    let (size, rate_text) = (format!("{width}x{height}"), fraction(rate)?);
    let mut list = arguments([
        &"-f",
        &"rawvideo",
        &"-pix_fmt",
        &"rgb24",
        &"-s",
        &size,
        &"-framerate",
        &rate_text,
        &"-i",
        &"pipe:0",
        &"-f",
        &"ffmetadata",
        &"-i",
        &described,
    ]);
    if let Some(audio) = audio {
        let (data, channels) = sound_beside(audio, count as f64 / rate)?;
        let clip = Clip { data: &data, channels, rate: audio.sample_rate };
        let mut bytes = Vec::new();
        clip.write_floats(&mut bytes).map_err(|error| NodeError::new("OSError", error.to_string()))?;
        let sound = folder.write("sound", &bytes)?;
        let (rate, channels) = (audio.sample_rate.to_string(), channels.to_string());
        list.extend(arguments([&"-f", &"f32le", &"-ar", &rate, &"-ac", &channels, &"-i", &sound]));
    }
    // Streams come in the order in which they are named.
    list.extend(arguments([&"-map", &"0:v", &"-map_metadata", &"1", &"-sws_flags", &FLAGS]));
    if audio.is_some() {
        list.extend(arguments([&"-map", &"2:a", &"-c:a", &"aac"]));
    }
    list.extend(codec.arguments().into_iter().map(Into::into));
    list.extend(arguments([&"-f", &codec.format(), &folder.path("video")]));
    let run = Run { what: "encoding a video", arguments: list, time: TIME, output: 0, cancel };
    run.run(&mut |stdin| write_pictures(images, stdin), &mut |_| Ok(()))?;
    folder.read("video", MAX_BYTES)
}

/// What a file says of its first video track.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Description {
    /// Columns.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
    /// Pictures a second.
    pub(crate) rate: f64,
    /// As `ffmpeg` names it.
    pub(crate) codec: String,
    /// Whether there is a sound track.
    pub(crate) sound: bool,
}

/// A file of a video from outside, in a folder where `ffmpeg` can read it in any order.
pub(crate) struct Source {
    folder: Workspace,
}

impl Source {
    /// Puts a file there.
    ///
    /// # Errors
    /// `OSError` when the disk does not take it.
    pub(crate) fn new(file: &[u8]) -> Result<Self, NodeError> {
        let folder = Workspace::new()?;
        folder.write("input", file)?;
        Ok(Self { folder })
    }

    fn input(&self) -> Vec<std::ffi::OsString> {
        arguments([
            &"-noautorotate",
            &"-protocol_whitelist",
            &"file",
            &"-format_whitelist",
            &CONTAINERS,
            &"-i",
            &self.folder.path("input"),
        ])
    }

    /// What the file holds.
    ///
    /// # Errors
    /// `InvalidDataError` for a file without a video that can be read.
    pub(crate) fn describe(&self, name: &str, cancel: &CancelToken) -> Result<Description, NodeError> {
        let mut list = self.input();
        let tracks = self.folder.path("tracks");
        // Codecs and kinds of tracks are in the one, size and rate in the other.
        list.extend(arguments([
            &"-map",
            &"0:v:0",
            &"-map",
            &"0:a:0?",
            &"-c",
            &"copy",
            &"-frames:v",
            &"1",
            &"-frames:a",
            &"1",
            &"-f",
            &"framecrc",
            &tracks,
            &"-map",
            &"0:v:0",
            &"-frames:v",
            &"1",
            &"-pix_fmt",
            &"yuv420p",
            &"-f",
            &"yuv4mpegpipe",
            &"pipe:1",
        ]));
        let mut head = Vec::new();
        let run = Run { what: "reading a video", arguments: list, time: TIME, output: MAX_PROBE, cancel };
        run.run(&mut |_| Ok(()), &mut |piece| {
            if head.len() < 256 {
                head.extend_from_slice(piece.get(..piece.len().min(256)).unwrap_or_default());
            }
            Ok(())
        })
        .map_err(|error| blame(error, |error| unreadable(name, error)))?;
        let tracks = self.folder.read("tracks", 1 << 20)?;
        described(&head, &String::from_utf8_lossy(&tracks))
            .ok_or_else(|| unreadable(name, "it tells no size or rate"))
    }

    /// Every picture of the video, `[B, H, W, 3]`.
    ///
    /// # Errors
    /// Those of the executable, and when the pictures do not fit the memory.
    pub(crate) fn pictures(
        &self,
        name: &str,
        description: &Description,
        cancel: &CancelToken,
    ) -> Result<Tensor, NodeError> {
        let mut list = self.input();
        list.extend(arguments([
            &"-map",
            &"0:v:0",
            &"-vsync",
            &"0",
            &"-sws_flags",
            &FLAGS,
            &"-pix_fmt",
            &"rgb24",
            &"-f",
            &"rawvideo",
            &"pipe:1",
        ]));
        let mut data: Vec<f32> = Vec::new();
        let mut room = 0;
        let run = Run { what: "decoding a video", arguments: list, time: TIME, output: u64::MAX, cancel };
        run.run(&mut |_| Ok(()), &mut |piece| {
            let wanted = data.len() + piece.len();
            if wanted > room {
                room = wanted.max(2 * room);
                memory::check_shape(&format!("the pictures of '{name}'"), &[room], size_of::<f32>())?;
                data.try_reserve_exact(room - data.len())
                    .map_err(|error| memory::exhausted(format!("the pictures of '{name}': {error}")))?;
            }
            data.extend(piece.iter().map(|value| f32::from(*value) / 255.0));
            Ok(())
        })?;
        let picture = description.height * description.width * 3;
        let count = data.len().checked_div(picture).unwrap_or(0);
        if count == 0 {
            return Err(unreadable(name, "it holds no pictures"));
        }
        data.truncate(count * picture);
        crate::picture::pixels::tensor(data, &[count, description.height, description.width, 3])
    }

    /// The video in another file with `text` beside what the file says of itself: as it is coded, or anew as H.264.
    ///
    /// # Errors
    /// Those of the executable.
    pub(crate) fn rewritten(
        &self,
        anew: bool,
        text: &TextChunks,
        cancel: &CancelToken,
    ) -> Result<Vec<u8>, NodeError> {
        let described = self.folder.write("metadata", metadata_file(text).as_bytes())?;
        let mut list = self.input();
        list.extend(arguments([
            &"-f",
            &"ffmetadata",
            &"-i",
            &described,
            &"-map",
            &"0:v:0",
            &"-map",
            &"0:a:0?",
        ]));
        // The first one that names a keyword counts.
        list.extend(arguments([&"-map_metadata", &"1", &"-map_metadata", &"0"]));
        if anew {
            list.extend(arguments([&"-sws_flags", &FLAGS, &"-c:a", &"aac"]));
            list.extend(Codec::H264.arguments().into_iter().map(Into::into));
        } else {
            list.extend(arguments([&"-c", &"copy", &"-movflags", &"use_metadata_tags"]));
        }
        list.extend(arguments([&"-strict", &"-2", &"-f", &"mp4", &self.folder.path("video")]));
        let run = Run { what: "writing a video", arguments: list, time: TIME, output: 0, cancel };
        run.run(&mut |_| Ok(()), &mut |_| Ok(()))?;
        self.folder.read("video", MAX_BYTES)
    }
}

fn unreadable(name: &str, reason: impl std::fmt::Display) -> NodeError {
    NodeError::new("av.error.InvalidDataError", format!("cannot read video file '{name}': {reason}"))
}

/// Size and rate from the head of a YUV4MPEG2 stream, codec and tracks from the head of a list of checksums.
fn described(head: &[u8], tracks: &str) -> Option<Description> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("YUV4MPEG2 ")?;
    let field = |name: char| line.split(' ').find_map(|field| field.strip_prefix(name));
    let (numerator, denominator) = field('F')?.split_once(':')?;
    let rate = numerator.parse::<f64>().ok()? / denominator.parse::<f64>().ok()?;
    Some(Description {
        width: field('W')?.parse().ok()?,
        height: field('H')?.parse().ok()?,
        rate: Some(rate).filter(|rate| rate.is_finite() && *rate > 0.0)?,
        codec: values_of(tracks, "#codec_id 0:").next()?.to_owned(),
        sound: values_of(tracks, "#media_type 1:").any(|kind| kind == "audio"),
    })
}

/// What follows a name at the start of a line.
fn values_of<'a>(lines: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    lines.lines().filter_map(move |line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_from_what_ffmpeg_writes() {
        let head = b"YUV4MPEG2 W128 H96 F2997:125 Ip A1:1 C420mpeg2\nFRAME\n";
        let tracks =
            "#software: x\n#tb 0: 1/11988\n#media_type 0: video\n#codec_id 0: h264\n#media_type 1: audio\n";
        let found = described(head, tracks).unwrap();
        assert_eq!((found.width, found.height, found.rate), (128, 96, 23.976));
        assert_eq!((found.codec.as_str(), found.sound), ("h264", true));
        assert_eq!(described(b"YUV4MPEG2 W1 H1 F0:0\n", tracks), None);
        assert_eq!(described(b"", ""), None);
    }

    #[test]
    fn metadata_is_escaped() {
        let text = vec![("a=b".into(), "{\"x\": \"1;2#\\n\"}\n".into())];
        assert_eq!(metadata_file(&text), ";FFMETADATA1\na\\=b={\"x\": \"1\\;2\\#\\\\n\"}\\\n\n");
    }

    #[test]
    fn rates_are_kept_to_a_thousandth() {
        assert_eq!(fraction(23.976).unwrap(), "23976/1000");
        assert_eq!(fraction(24.0).unwrap(), "24000/1000");
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(fraction(rate).is_err());
        }
    }
}
