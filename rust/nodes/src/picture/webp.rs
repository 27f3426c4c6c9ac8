//! Animated WebP: a RIFF container of losslessly coded frames.

use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use rushlight_runtime::NodeError;

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

/// A file with every picture of the batch shown for `delay` milliseconds, again and again.
///
/// # Errors
/// `OSError` when a picture is larger than WebP allows (16,383 pixels a side).
pub(crate) fn animation(p: &Pixels, delay: u32, text: &TextChunks) -> Result<Vec<u8>, NodeError> {
    let side = |pixels: usize| u32::try_from(pixels).map_err(failed);
    let (width, height) = (side(p.width)?, side(p.height)?);
    let colour = match p.channels {
        3 => ExtendedColorType::Rgb8,
        4 => ExtendedColorType::Rgba8,
        other => return Err(NodeError::value(format!("a picture has 3 or 4 channels, not {other}"))),
    };
    let mut body = b"WEBP".to_vec();
    let (animated, with_exif, with_alpha) = (0x02, 0x08, 0x10);
    let mut flags = animated;
    flags |= if text.is_empty() { 0 } else { with_exif };
    flags |= if p.channels == 4 { with_alpha } else { 0 };
    let mut header = vec![flags, 0, 0, 0];
    header.extend(three_bytes(width.saturating_sub(1)));
    header.extend(three_bytes(height.saturating_sub(1)));
    chunk(&mut body, b"VP8X", &header)?;
    // Background colour, and endless repetition.
    chunk(&mut body, b"ANIM", &[0; 6])?;
    for picture in p.to_bytes().chunks(p.picture_len().max(1)) {
        let mut file = Vec::new();
        WebPEncoder::new_lossless(&mut file).write_image(picture, width, height, colour).map_err(failed)?;
        let mut frame = vec![0; 6];
        frame.extend(three_bytes(width.saturating_sub(1)));
        frame.extend(three_bytes(height.saturating_sub(1)));
        frame.extend(three_bytes(delay));
        // Replaces what was shown before.
        frame.push(0x02);
        // What follows the container's own header is the coded picture.
        frame.extend_from_slice(file.get(12..).unwrap_or(&[]));
        chunk(&mut body, b"ANMF", &frame)?;
    }
    if !text.is_empty() {
        chunk(&mut body, b"EXIF", &exif(text)?)?;
    }
    let mut out = Vec::new();
    chunk(&mut out, b"RIFF", &body)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::decode::decode;

    #[test]
    fn an_animation_reads_back_as_it_was_written() {
        let p = Pixels::build(3, 5, 7, 3, |b, y, x, c| ((b * 31 + y * 7 + x * 3 + c) % 256) as f32 / 255.0)
            .unwrap();
        let text = vec![("prompt".into(), "{}".into()), ("workflow".into(), "[]".into())];
        let file = animation(&p, 125, &text).unwrap();
        let read = decode("a.webp", &file, 1000).unwrap();
        assert_eq!((read.image.batch, read.image.height, read.image.width), (3, 5, 7));
        assert_eq!(read.image.to_bytes(), p.to_bytes());
        let found = |text: &[u8]| file.windows(text.len()).any(|window| window == text);
        assert!(found(b"prompt:{}") && found(b"workflow:[]"));
    }
}
