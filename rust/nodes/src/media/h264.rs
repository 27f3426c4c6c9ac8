//! A picture as it looks after compression by x264.

use std::time::Duration;

use rushlight_runtime::{CancelToken, NodeError};

use super::ffmpeg::{Run, arguments};
use crate::picture::Pixels;

/// How long either way may take.
const TIME: Duration = Duration::from_secs(120);
/// Bytes that one compressed picture may have.
const MAX_STREAM: u64 = 1 << 30;
/// How colours are converted, both ways.
const FLAGS: &str = "bilinear";

/// Each picture of an RGB batch compressed by itself with quality `crf` (0 to 51, lower is better), and decompressed;
/// an odd row or column at the end is cut off.
///
/// As Lightricks' LTX-Video (Apache-2.0) does it: one picture a second, preset `veryfast`, 4:2:0.
///
/// # Errors
/// Those of the executable.
pub(crate) fn compressed(pictures: &Pixels, crf: u32, cancel: &CancelToken) -> Result<Pixels, NodeError> {
    let (height, width) = (pictures.height / 2 * 2, pictures.width / 2 * 2);
    if height == 0 || width == 0 || pictures.channels < 3 {
        return Err(NodeError::value("pictures must have three channels, and two pixels a side"));
    }
    let even = pictures.crop(0, 0, height, width)?;
    let mut data = crate::memory::numbers(&[even.batch, height, width, 3])?;
    for picture in even.pictures() {
        let rgb: Vec<u8> = picture
            .chunks(even.channels)
            .flat_map(|pixel| pixel.iter().take(3))
            .map(|value| crate::picture::pixels::to_byte(*value))
            .collect();
        let seen = through(&rgb, &format!("{width}x{height}"), crf, cancel)?;
        if seen.len() != rgb.len() {
            return Err(NodeError::new("OSError", "decoding H.264: ffmpeg gave another number of pixels"));
        }
        data.extend(seen.into_iter().map(|value| f32::from(value) / 255.0));
    }
    Ok(Pixels { batch: even.batch, height, width, channels: 3, data })
}

/// One picture of that size, there and back.
fn through(rgb: &[u8], size: &str, crf: u32, cancel: &CancelToken) -> Result<Vec<u8>, NodeError> {
    let crf = crf.to_string();
    let mut stream = Vec::new();
    let encode = Run {
        what: "encoding H.264",
        arguments: arguments([
            &"-f",
            &"rawvideo",
            &"-pix_fmt",
            &"rgb24",
            &"-s",
            &size,
            &"-r",
            &"1",
            &"-i",
            &"pipe:0",
            &"-sws_flags",
            &FLAGS,
            &"-pix_fmt",
            &"yuv420p",
            &"-c:v",
            &"libx264",
            &"-preset",
            &"veryfast",
            &"-crf",
            &crf,
            &"-f",
            &"h264",
            &"pipe:1",
        ]),
        time: TIME,
        output: MAX_STREAM,
        cancel,
    };
    encode.run(&mut |stdin| stdin.write_all(rgb), &mut |piece| {
        stream.extend_from_slice(piece);
        Ok(())
    })?;
    let mut seen = Vec::with_capacity(rgb.len());
    let decode = Run {
        what: "decoding H.264",
        arguments: arguments([
            &"-f",
            &"h264",
            &"-i",
            &"pipe:0",
            &"-frames:v",
            &"1",
            &"-sws_flags",
            &FLAGS,
            &"-pix_fmt",
            &"rgb24",
            &"-f",
            &"rawvideo",
            &"pipe:1",
        ]),
        time: TIME,
        output: rgb.len() as u64,
        cancel,
    };
    decode.run(&mut |stdin| stdin.write_all(&stream), &mut |piece| {
        seen.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(seen)
}
