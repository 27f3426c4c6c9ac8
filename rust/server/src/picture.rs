//! Decoding of one picture within limits, for previews and masks.
//!
//! The size is read from the header and checked before any pixel is made, so that a small file cannot ask for much
//! memory. Only the first frame of an animation is ever decoded.

use std::io::{BufReader, Cursor, Read, Seek};

use axum::http::StatusCode;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use rushlight_webp::{Options, Picture};

use crate::error::ApiError;

/// Bytes a decoder may use beside the pixels (colour profiles, dictionaries).
const DECODER_OVERHEAD: u64 = 64 << 20;

/// Decodes a picture of at most `max_pixels`, turned upright.
///
/// # Errors
/// 413 beyond the limit, 415 when it is no picture or a broken one.
pub fn decode(file: impl Read + Seek, max_pixels: u64) -> Result<DynamicImage, ApiError> {
    let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(unreadable)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(match reader.format() {
        // Counts unpacked chunks (colour profiles) and rows, not the picture.
        Some(ImageFormat::Png) => DECODER_OVERHEAD,
        // Eight bytes are the widest pixel (16-bit RGBA) of the formats that are read.
        _ => max_pixels.saturating_mul(8).saturating_add(DECODER_OVERHEAD),
    });
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > max_pixels {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "image_too_large",
            "The picture has too many pixels",
            format!("{width}x{height} is {pixels} pixels, the limit is {max_pixels}"),
        ));
    }
    let orientation = decoder.orientation().map_err(unreadable)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn unreadable(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not_an_image",
        "The file is not a picture that can be read",
        error.to_string(),
    )
}

/// Encodes for a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// WebP of a quality from 1 to 100.
    WebP(u8),
    /// JPEG of a quality from 1 to 100; alpha is dropped.
    Jpeg(u8),
    /// PNG.
    Png,
}

impl Encoding {
    /// The MIME type.
    pub fn mime(self) -> &'static str {
        match self {
            Encoding::WebP(_) => "image/webp",
            Encoding::Jpeg(_) => "image/jpeg",
            Encoding::Png => "image/png",
        }
    }
}

/// Encodes a picture.
///
/// # Errors
/// 413 when the format does not take its size.
pub fn encode(image: &DynamicImage, encoding: Encoding) -> Result<Vec<u8>, ApiError> {
    let mut out = Cursor::new(Vec::new());
    let written = match encoding {
        Encoding::Jpeg(quality) => {
            image.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut out, quality))
        }
        Encoding::WebP(quality) => return webp(image, quality),
        Encoding::Png => image.write_to(&mut out, ImageFormat::Png),
    };
    match written {
        Ok(()) => Ok(out.into_inner()),
        Err(error) => Err(does_not_fit(error)),
    }
}

fn does_not_fit(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "cannot_encode",
        "The picture does not fit the format asked for",
        error.to_string(),
    )
}

/// With the effort that Pillow takes when none is asked for.
fn webp(image: &DynamicImage, quality: u8) -> Result<Vec<u8>, ApiError> {
    let alpha = image.color().has_alpha();
    let bytes = if alpha { image.to_rgba8().into_raw() } else { image.to_rgb8().into_raw() };
    let picture = Picture { bytes: &bytes, width: image.width(), height: image.height(), alpha };
    let options = Options { lossless: false, quality: f32::from(quality), method: 4 };
    rushlight_webp::encode(&picture, options).map_err(does_not_fit)
}

/// Most bytes of text chunks that are carried over into a new PNG.
const MAX_TEXT: usize = 16 << 20;

/// The text chunks (`tEXt`, `zTXt`, `iTXt`) of a PNG, byte for byte; empty for anything else. Nothing is unpacked.
pub fn text_chunks(png: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(mut rest) = png.strip_prefix(b"\x89PNG\r\n\x1a\n") else { return out };
    while let Some((chunk, kind)) = next_chunk(rest) {
        if matches!(kind, b"tEXt" | b"zTXt" | b"iTXt") && out.len() + chunk.len() <= MAX_TEXT {
            out.extend_from_slice(chunk);
        }
        rest = rest.get(chunk.len()..).unwrap_or_default();
    }
    out
}

/// A PNG with raw chunks put in behind its header.
pub fn with_chunks(png: Vec<u8>, chunks: &[u8]) -> Vec<u8> {
    // Signature and IHDR have a fixed length: 8 + 4 + 4 + 13 + 4.
    const HEADER: usize = 33;
    if chunks.is_empty() || png.len() < HEADER {
        return png;
    }
    let (header, rest) = png.split_at(HEADER);
    [header, chunks, rest].concat()
}

/// The first chunk, whole (length, kind, data, checksum), and its kind.
fn next_chunk(bytes: &[u8]) -> Option<(&[u8], &[u8; 4])> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?);
    let kind = bytes.get(4..)?.first_chunk()?;
    let whole = usize::try_from(length).ok()?.checked_add(12)?;
    Some((bytes.get(..whole)?, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        encode(&DynamicImage::new_rgba8(width, height), Encoding::Png).unwrap()
    }

    /// A PNG header that claims a size, with nothing behind it.
    pub(crate) fn claiming(width: u32, height: u32) -> Vec<u8> {
        let mut png = png(1, 1);
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        let mut crc = 0xffff_ffff_u32;
        for byte in &png[12..29] {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            }
        }
        png[29..33].copy_from_slice(&(!crc).to_be_bytes());
        png
    }

    #[test]
    fn too_many_pixels_are_refused_by_the_header_alone() {
        let error = decode(Cursor::new(claiming(20_000, 20_000)), 64 << 20).unwrap_err();
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(decode(Cursor::new(png(3, 2)), 6).unwrap().width(), 3);
        assert!(decode(Cursor::new(png(3, 2)), 5).is_err());
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for bytes in [&b"<svg/>"[..], b"", b"\x89PNG\r\n\x1a\n", b"GIF89a"] {
            let error = decode(Cursor::new(bytes), 1 << 20).unwrap_err();
            assert_eq!(error.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
    }

    #[test]
    fn text_chunks_are_carried_over() {
        let chunk = b"\0\0\0\x05tEXtk\0abc\0\0\0\0";
        let with = with_chunks(png(1, 1), chunk);
        assert_eq!(text_chunks(&with), chunk);
        assert!(text_chunks(&png(1, 1)).is_empty());
        assert!(text_chunks(&with[..40]).is_empty(), "a cut chunk is left out");
        assert!(text_chunks(b"no png").is_empty());
    }
}
