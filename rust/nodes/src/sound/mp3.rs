//! MP3 files, by LAME in an `ffmpeg` executable: no permissive library writes them.

use std::time::Duration;

use rushlight_runtime::{CancelToken, NodeError};

use super::Clip;
use super::comments::Comments;
use crate::media::ffmpeg::{Run, Workspace, arguments};

/// How long the executable may take.
const TIME: Duration = Duration::from_secs(3600);
/// Bytes that the file may have: a day of the highest bitrate.
const MAX_BYTES: u64 = 4 << 30;

/// How much of the sound is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quality {
    /// The same quality all along: LAME's `V0` to `V9`.
    Variable(u8),
    /// The same number of bits each second.
    Constant(u32),
}

/// An MP3 file of the sound.
///
/// # Errors
/// Those of the executable, also for sample rates and channels that MP3 does not have.
pub(crate) fn encode(
    clip: &Clip<'_>,
    quality: Quality,
    comments: &Comments,
    cancel: &CancelToken,
) -> Result<Vec<u8>, NodeError> {
    let folder = Workspace::new()?;
    let (rate, channels) = (clip.rate.to_string(), clip.channels.to_string());
    let (option, value) = match quality {
        Quality::Variable(level) => ("-q:a", level.to_string()),
        Quality::Constant(bits) => ("-b:a", bits.to_string()),
    };
    let file = folder.path("sound.mp3");
    // To a file, not a pipe: the length, which players need, is written into its start at the end.
    let run = Run {
        what: "encoding MP3",
        arguments: arguments([
            &"-f",
            &"f32le",
            &"-ar",
            &rate,
            &"-ac",
            &channels,
            &"-i",
            &"pipe:0",
            &"-c:a",
            &"libmp3lame",
            &option,
            &value,
            &"-map_metadata",
            &"-1",
            &"-id3v2_version",
            &"0",
            &"-f",
            &"mp3",
            &file,
        ]),
        time: TIME,
        output: 0,
        cancel,
    };
    run.run(&mut |stdin| clip.write_floats(stdin), &mut |_| Ok(()))?;
    let sound = folder.read("sound.mp3", MAX_BYTES)?;
    Ok([tag(comments), sound].concat())
}

/// An ID3v2.4 tag with a text of the user's for each comment; none where there are no comments.
fn tag(comments: &Comments) -> Vec<u8> {
    let mut frames = Vec::new();
    for (keyword, text) in comments {
        // UTF-8, the keyword, 0, the text.
        let content = [b"\x03", keyword.as_bytes(), b"\0", text.as_bytes()].concat();
        // A frame has at most 2^28 bytes.
        let Some(length) = seven_bits(content.len()) else { continue };
        frames.extend_from_slice(b"TXXX");
        frames.extend_from_slice(&length);
        frames.extend_from_slice(&[0, 0]);
        frames.extend(content);
    }
    match seven_bits(frames.len()) {
        Some(length) if !frames.is_empty() => [b"ID3\x04\0\0", &length[..], &frames].concat(),
        _ => Vec::new(),
    }
}

/// A number of 28 bits, seven in a byte.
fn seven_bits(number: usize) -> Option<[u8; 4]> {
    (number < 1 << 28).then(|| [21, 14, 7, 0].map(|shift| (number >> shift) as u8 & 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_says_its_length_in_seven_bits() {
        let tag = tag(&vec![("prompt".into(), "x".repeat(200))]);
        // 200 characters, the keyword, two bytes around it.
        assert_eq!(tag[..10], *b"ID3\x04\0\0\0\0\x01\x5a");
        assert_eq!(tag[10..20], *b"TXXX\0\0\x01\x50\0\0");
        assert_eq!(&tag[20..28], b"\x03prompt\0");
        assert_eq!(tag.len(), 20 + 208);
        assert!(super::tag(&Vec::new()).is_empty());
    }
}
