//! Writes picture files.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use rushlight_runtime::NodeError;

/// Text chunks of a PNG: keyword and text, both ASCII.
pub(crate) type TextChunks = Vec<(String, String)>;

fn failed(format: &str, reason: impl std::fmt::Display) -> NodeError {
    NodeError::new("OSError", format!("cannot write {format}: {reason}"))
}

/// The PNG colour type of so many channels.
pub(crate) fn png_colour(channels: usize) -> Result<png::ColorType, NodeError> {
    Ok(match channels {
        1 => png::ColorType::Grayscale,
        2 => png::ColorType::GrayscaleAlpha,
        3 => png::ColorType::Rgb,
        4 => png::ColorType::Rgba,
        other => return Err(NodeError::value(format!("a picture has 1 to 4 channels, not {other}"))),
    })
}

fn side(pixels: usize) -> Result<u32, NodeError> {
    u32::try_from(pixels).map_err(|_| NodeError::value(format!("a side of {pixels} pixels is too long")))
}

/// An 8-bit PNG; `level` is zlib's.
///
/// # Errors
/// `ValueError` for a number of channels that PNG does not have, `OSError` when encoding fails.
pub(crate) fn png(
    bytes: &[u8],
    (height, width): (usize, usize),
    channels: usize,
    level: u8,
    text: &TextChunks,
) -> Result<Vec<u8>, NodeError> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, side(width)?, side(height)?);
    encoder.set_color(png_colour(channels)?);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_deflate_compression(png::DeflateCompression::Level(level));
    encoder.set_filter(png::Filter::Adaptive);
    for (keyword, text) in text {
        encoder.add_text_chunk(keyword.clone(), text.clone()).map_err(|error| failed("PNG", error))?;
    }
    let mut writer = encoder.write_header().map_err(|error| failed("PNG", error))?;
    writer.write_image_data(bytes).map_err(|error| failed("PNG", error))?;
    writer.finish().map_err(|error| failed("PNG", error))?;
    Ok(out)
}

/// A JPEG of RGB bytes.
///
/// # Errors
/// `OSError` when encoding fails.
pub(crate) fn jpeg(bytes: &[u8], (height, width): (usize, usize), quality: u8) -> Result<Vec<u8>, NodeError> {
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(&mut out, quality)
        .write_image(bytes, side(width)?, side(height)?, ExtendedColorType::Rgb8)
        .map_err(|error| failed("JPEG", error))?;
    Ok(out)
}

/// JSON as Python's `json.dumps` writes it: ASCII, `, ` and `: ` between items.
pub(crate) fn python_json(value: &serde_json::Value) -> String {
    struct Formatter;
    impl serde_json::ser::Formatter for Formatter {
        fn begin_array_value<W: ?Sized + std::io::Write>(
            &mut self,
            out: &mut W,
            first: bool,
        ) -> std::io::Result<()> {
            if first { Ok(()) } else { out.write_all(b", ") }
        }

        fn begin_object_key<W: ?Sized + std::io::Write>(
            &mut self,
            out: &mut W,
            first: bool,
        ) -> std::io::Result<()> {
            if first { Ok(()) } else { out.write_all(b", ") }
        }

        fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
            out.write_all(b": ")
        }

        fn write_string_fragment<W: ?Sized + std::io::Write>(
            &mut self,
            out: &mut W,
            fragment: &str,
        ) -> std::io::Result<()> {
            let mut units = [0; 2];
            for character in fragment.chars() {
                if character.is_ascii() && character != '\u{7f}' {
                    write!(out, "{character}")?;
                } else {
                    for unit in character.encode_utf16(&mut units) {
                        write!(out, "\\u{unit:04x}")?;
                    }
                }
            }
            Ok(())
        }
    }
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Formatter);
    // Writing a JSON value to memory cannot fail; the fallback keeps this total.
    if serde::Serialize::serialize(value, &mut serializer).is_err() {
        return value.to_string();
    }
    String::from_utf8(out).unwrap_or_else(|_| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_written_as_python_writes_it() {
        let value = json!({"a": [1, 2.5, null, true], "b": {"é😀": "\n\""}});
        assert_eq!(
            python_json(&value),
            r#"{"a": [1, 2.5, null, true], "b": {"\u00e9\ud83d\ude00": "\n\""}}"#
        );
    }

    #[test]
    fn a_png_carries_its_text() {
        let file = png(&[1, 2, 3, 4, 5, 6], (1, 2), 3, 4, &vec![("prompt".into(), "{}".into())]).unwrap();
        let reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap();
        let chunk = &reader.info().uncompressed_latin1_text[0];
        assert_eq!((chunk.keyword.as_str(), chunk.text.as_str()), ("prompt", "{}"));
        assert_eq!(image::load_from_memory(&file).unwrap().into_rgb8().into_raw(), [1, 2, 3, 4, 5, 6]);
    }
}
