//! WebP files of batches, with the texts that go along.

use rushlight_runtime::NodeError;
use rushlight_webp::{Animation, Options, Picture};

use super::encode::TextChunks;
use super::pixels::Pixels;

fn failed(reason: impl std::fmt::Display) -> NodeError {
    NodeError::new("OSError", format!("cannot write WebP: {reason}"))
}

/// A chunk: name, length, content, padded to an even length.
fn chunk(out: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) -> Result<(), NodeError> {
    let length = u32::try_from(content.len()).map_err(failed)?;
    out.extend_from_slice(name);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(content);
    if content.len() % 2 == 1 {
        out.push(0);
    }
    Ok(())
}

/// The low three bytes of a number, least first.
fn three_bytes(value: u32) -> [u8; 3] {
    let [a, b, c, _] = value.to_le_bytes();
    [a, b, c]
}

/// EXIF with one text a tag, downwards from 0x0110: the prompt first, as clients expect.
fn exif(text: &TextChunks) -> Result<Vec<u8>, NodeError> {
    let mut entries: Vec<(u16, Vec<u8>)> = text
        .iter()
        .zip((0..=0x0110u16).rev())
        .map(|((keyword, text), tag)| (tag, format!("{keyword}:{text}\0").into_bytes()))
        .collect();
    entries.sort_by_key(|entry| entry.0);
    let mut out = b"II*\0\x08\0\0\0".to_vec();
    out.extend_from_slice(&u16::try_from(entries.len()).map_err(failed)?.to_le_bytes());
    let mut offset = 8 + 2 + entries.len() * 12 + 4;
    for (tag, value) in &entries {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&2u16.to_le_bytes());
        out.extend_from_slice(&u32::try_from(value.len()).map_err(failed)?.to_le_bytes());
        out.extend_from_slice(&u32::try_from(offset).map_err(failed)?.to_le_bytes());
        offset += value.len();
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    for (_, value) in entries {
        out.extend(value);
    }
    Ok(out)
}

/// The flags of the extended header: metadata and alpha.
const WITH_EXIF: u8 = 0x08;
const WITH_ALPHA: u8 = 0x10;
/// Where the first chunk begins, and the flags of the extended header if it is that.
const FIRST_CHUNK: usize = 12;
const FLAGS: usize = FIRST_CHUNK + 8;

/// A file of the batch, each picture shown for `delay` milliseconds, again and again; of a single picture, a still.
///
/// # Errors
/// `OSError` when a picture is larger than WebP allows (16,383 pixels a side), `ValueError` for another number of
/// channels than 3 or 4, and what `check` returns between pictures.
pub(crate) fn file(
    p: &Pixels,
    delay: u32,
    options: Options,
    text: &TextChunks,
    check: &dyn Fn() -> Result<(), NodeError>,
) -> Result<Vec<u8>, NodeError> {
    let side = |pixels: usize| u32::try_from(pixels).map_err(failed);
    let (width, height) = (side(p.width)?, side(p.height)?);
    let alpha = match p.channels {
        3 => false,
        4 => true,
        other => return Err(NodeError::value(format!("a picture has 3 or 4 channels, not {other}"))),
    };
    let bytes = p.to_bytes();
    let mut pictures =
        bytes.chunks(p.picture_len().max(1)).map(|bytes| Picture { bytes, width, height, alpha });
    let file = if p.batch == 1 {
        let picture = pictures.next().ok_or_else(|| failed("it has no pixels"))?;
        rushlight_webp::encode(&picture, options).map_err(failed)?
    } else {
        let mut animation = Animation::new(width, height, options).map_err(failed)?;
        let mut start = 0u32;
        for picture in pictures {
            check()?;
            animation.add(&picture, start).map_err(failed)?;
            start = start.saturating_add(delay);
        }
        animation.finish(start).map_err(failed)?
    };
    if text.is_empty() { Ok(file) } else { with_exif(&file, (width, height), alpha, &exif(text)?) }
}

/// The file with metadata behind its pictures.
fn with_exif(
    file: &[u8],
    (width, height): (u32, u32),
    alpha: bool,
    exif: &[u8],
) -> Result<Vec<u8>, NodeError> {
    let mut body = b"WEBP".to_vec();
    let pictures = file.get(FIRST_CHUNK..).unwrap_or_default();
    if pictures.starts_with(b"VP8X") {
        body.extend_from_slice(pictures);
        // Of the body, which begins behind the name and length of the whole file.
        if let Some(flags) = body.get_mut(FLAGS - 8) {
            *flags |= WITH_EXIF;
        }
    } else {
        let mut header = vec![WITH_EXIF | if alpha { WITH_ALPHA } else { 0 }, 0, 0, 0];
        header.extend(three_bytes(width.saturating_sub(1)));
        header.extend(three_bytes(height.saturating_sub(1)));
        chunk(&mut body, b"VP8X", &header)?;
        body.extend_from_slice(pictures);
    }
    chunk(&mut body, b"EXIF", exif)?;
    let mut out = Vec::new();
    chunk(&mut out, b"RIFF", &body)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::decode::decode;

    fn batch(pictures: usize) -> Pixels {
        Pixels::build(pictures, 5, 7, 3, |b, y, x, c| ((b * 31 + y * 7 + x * 3 + c) % 256) as f32 / 255.0)
            .unwrap()
    }

    fn written(p: &Pixels, lossless: bool) -> Vec<u8> {
        let text = vec![("prompt".into(), "{}".into()), ("workflow".into(), "[]".into())];
        file(p, 125, Options { lossless, quality: 80.0, method: 4 }, &text, &|| Ok(())).unwrap()
    }

    #[test]
    fn a_lossless_batch_reads_back_as_it_was_written() {
        for pictures in [1, 3] {
            let p = batch(pictures);
            let file = written(&p, true);
            let read = decode("a.webp", &file, 1000).unwrap();
            assert_eq!((read.image.batch, read.image.height, read.image.width), (pictures, 5, 7));
            // Frames that are laid over the one before lose up to one in the decoder, libwebp's as well as ours.
            let bytes = (read.image.to_bytes(), p.to_bytes());
            let worst = bytes.0.iter().zip(&bytes.1).map(|(read, written)| read.abs_diff(*written)).max();
            assert!(worst <= Some(u8::from(pictures > 1)), "{worst:?}");
            let found = |text: &[u8]| file.windows(text.len()).any(|window| window == text);
            assert!(found(b"prompt:{}") && found(b"workflow:[]"));
            assert_eq!(found(b"ANIM"), pictures > 1);
        }
    }

    #[test]
    fn a_lossy_batch_reads_back_alike() {
        for pictures in [1, 3] {
            let p = batch(pictures);
            let read = decode("a.webp", &written(&p, false), 1000).unwrap();
            assert_eq!(read.image.batch, pictures);
            let worst = read.image.data.iter().zip(&p.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 0.2, "{worst}");
        }
    }
}
