//! Reads picture files: every frame, turned upright, with its alpha.

use std::io::Cursor;

use image::codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{AnimationDecoder, DynamicImage, Frames, ImageDecoder, ImageFormat, ImageReader, Limits};
use rushlight_runtime::NodeError;

use super::pixels::Pixels;
use crate::memory;

/// Bytes that a decoder may use beside the pixels: colour profiles, dictionaries, what precedes a PNG's pixels.
const DECODER_OVERHEAD: u64 = 64 << 20;
/// Bytes of the widest pixel that is read: four numbers of 32 bits.
const WIDEST_PIXEL: u64 = 16;

/// A decoded file.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Every frame of the first frame's size, RGB.
    pub(crate) image: Pixels,
    /// The alpha of every frame, if the file has any.
    pub(crate) alpha: Option<Pixels>,
}

fn unreadable(name: &str, reason: impl std::fmt::Display) -> NodeError {
    NodeError::new("PIL.UnidentifiedImageError", format!("cannot read image file '{name}': {reason}"))
}

/// Decodes a file named `name`. Its header is checked against `max_pixels` (over all frames) before pixels are made.
///
/// # Errors
/// `UnidentifiedImageError` for a file that is no picture or is cut short, `ValueError` for one that is too large.
pub(crate) fn decode(name: &str, bytes: &[u8], max_pixels: u64) -> Result<Decoded, NodeError> {
    let format = image::guess_format(bytes).map_err(|error| unreadable(name, error))?;
    let mut frames =
        Collector { name, max_pixels, pixels: 0, size: None, rgb: Vec::new(), alpha: Vec::new() };
    let has_alpha = match format {
        ImageFormat::Gif => {
            let decoder = GifDecoder::new(Cursor::new(bytes)).map_err(|error| unreadable(name, error))?;
            frames.check_header(&decoder)?;
            frames.animation(decoder.into_frames(), Orientation::NoTransforms)?;
            frames.alpha.iter().any(|alpha| *alpha < 1.0)
        }
        ImageFormat::WebP => {
            let mut decoder =
                WebPDecoder::new(Cursor::new(bytes)).map_err(|error| unreadable(name, error))?;
            frames.check_header(&decoder)?;
            let alpha = decoder.color_type().has_alpha();
            let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
            if decoder.has_animation() {
                frames.animation(decoder.into_frames(), orientation)?;
            } else {
                frames.still(decoder)?;
            }
            alpha
        }
        ImageFormat::Png => {
            // A colour profile is unpacked while the header is read. It is bounded by a reading of its own, because
            // the same limit would bind the pixels, which are counted apart.
            let mut limits = Limits::default();
            limits.max_alloc = Some(DECODER_OVERHEAD);
            PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(|error| unreadable(name, error))?;
            let decoder = PngDecoder::new(Cursor::new(bytes)).map_err(|error| unreadable(name, error))?;
            frames.check_header(&decoder)?;
            // A single transparent colour (tRNS of grey or RGB) is not an alpha channel; a palette's is.
            let colour_type = bytes.get(25).copied().unwrap_or(0);
            let alpha = decoder.color_type().has_alpha() && !matches!(colour_type, 0 | 2);
            if decoder.is_apng().unwrap_or(false) {
                let animation = decoder.apng().map_err(|error| unreadable(name, error))?;
                frames.animation(animation.into_frames(), Orientation::NoTransforms)?;
            } else {
                frames.still(decoder)?;
            }
            alpha
        }
        _ => {
            let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
            let mut limits = Limits::default();
            limits.max_alloc = Some(max_pixels.saturating_mul(WIDEST_PIXEL).saturating_add(DECODER_OVERHEAD));
            reader.limits(limits);
            let decoder = reader.into_decoder().map_err(|error| unreadable(name, error))?;
            frames.check_header(&decoder)?;
            let alpha = decoder.color_type().has_alpha();
            frames.still(decoder)?;
            alpha
        }
    };
    frames.finish(has_alpha)
}

/// Gathers frames as numbers.
struct Collector<'a> {
    name: &'a str,
    max_pixels: u64,
    pixels: u64,
    size: Option<(u32, u32)>,
    rgb: Vec<f32>,
    alpha: Vec<f32>,
}

impl Collector<'_> {
    fn check_header(&self, decoder: &impl ImageDecoder) -> Result<(), NodeError> {
        let (width, height) = decoder.dimensions();
        self.check_pixels(u64::from(width) * u64::from(height))
    }

    fn check_pixels(&self, pixels: u64) -> Result<(), NodeError> {
        if pixels > self.max_pixels {
            return Err(NodeError::value(format!(
                "image '{}' has {pixels} pixels, the limit is {}",
                self.name, self.max_pixels
            )));
        }
        Ok(())
    }

    fn still(&mut self, mut decoder: impl ImageDecoder) -> Result<(), NodeError> {
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let image = DynamicImage::from_decoder(decoder).map_err(|error| unreadable(self.name, error))?;
        self.add(image, orientation)
    }

    fn animation(&mut self, frames: Frames<'_>, orientation: Orientation) -> Result<(), NodeError> {
        for frame in frames {
            let frame = frame.map_err(|error| unreadable(self.name, error))?;
            self.add(DynamicImage::ImageRgba8(frame.into_buffer()), orientation)?;
        }
        Ok(())
    }

    /// Adds a frame; one of another size than the first is left out.
    fn add(&mut self, mut image: DynamicImage, orientation: Orientation) -> Result<(), NodeError> {
        image.apply_orientation(orientation);
        let size = (image.width(), image.height());
        if *self.size.get_or_insert(size) != size {
            return Ok(());
        }
        self.pixels += u64::from(size.0) * u64::from(size.1);
        self.check_pixels(self.pixels)?;
        // Colours and alpha as numbers of 32 bits.
        memory::check_bytes(&format!("image '{}'", self.name), self.pixels.saturating_mul(WIDEST_PIXEL))?;
        let rgba = to_rgba8(image);
        for pixel in rgba.pixels() {
            let [r, g, b, a] = pixel.0;
            self.rgb.extend([r, g, b].map(|value| f32::from(value) / 255.0));
            self.alpha.push(f32::from(a) / 255.0);
        }
        Ok(())
    }

    fn finish(self, has_alpha: bool) -> Result<Decoded, NodeError> {
        let (width, height) = self.size.ok_or_else(|| unreadable(self.name, "it has no frames"))?;
        let (width, height) = (width as usize, height as usize);
        let batch = self.alpha.len().checked_div(width * height).unwrap_or(0);
        Ok(Decoded {
            image: Pixels { batch, height, width, channels: 3, data: self.rgb },
            alpha: has_alpha.then_some(Pixels { batch, height, width, channels: 1, data: self.alpha }),
        })
    }
}

/// To 8 bits: 16-bit values keep their high byte, as PIL does.
fn to_rgba8(image: DynamicImage) -> image::RgbaImage {
    match image {
        DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA16(_)
        | DynamicImage::ImageRgb16(_)
        | DynamicImage::ImageRgba16(_) => {
            let wide = image.into_rgba16();
            let (width, height) = wide.dimensions();
            let bytes = wide.into_raw().into_iter().map(|value| (value >> 8) as u8).collect();
            image::RgbaImage::from_raw(width, height, bytes).unwrap_or_default()
        }
        other => other.into_rgba8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32, colour: image::ExtendedColorType, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        image::ImageEncoder::write_image(
            image::codecs::png::PngEncoder::new(&mut out),
            bytes,
            width,
            height,
            colour,
        )
        .unwrap();
        out
    }

    #[test]
    fn alpha_is_kept_apart_from_colours() {
        let file = png(1, 2, image::ExtendedColorType::Rgba8, &[255, 0, 51, 0, 0, 255, 0, 255]);
        let decoded = decode("a.png", &file, 100).unwrap();
        assert_eq!(decoded.image.data, [1.0, 0.0, 0.2, 0.0, 1.0, 0.0]);
        assert_eq!(decoded.alpha.unwrap().data, [0.0, 1.0]);
    }

    #[test]
    fn pictures_without_alpha_have_none() {
        let file = png(1, 1, image::ExtendedColorType::L8, &[128]);
        let decoded = decode("a.png", &file, 100).unwrap();
        assert!(decoded.alpha.is_none());
        assert_eq!(decoded.image.channels, 3);
    }

    #[test]
    fn sixteen_bits_keep_the_high_byte() {
        let file = png(1, 1, image::ExtendedColorType::L16, &0x80ff_u16.to_ne_bytes());
        let decoded = decode("a.png", &file, 100).unwrap();
        assert_eq!(decoded.image.data, [128.0 / 255.0; 3]);
    }

    #[test]
    fn every_frame_of_an_animation_is_read() {
        let mut file = Vec::new();
        {
            let mut encoder = image::codecs::gif::GifEncoder::new(&mut file);
            for value in [0, 255] {
                let frame = image::RgbaImage::from_pixel(3, 2, image::Rgba([value, value, value, 255]));
                encoder.encode_frame(image::Frame::new(frame)).unwrap();
            }
        }
        let decoded = decode("a.gif", &file, 100).unwrap();
        assert_eq!((decoded.image.batch, decoded.image.height, decoded.image.width), (2, 2, 3));
        assert!(decoded.alpha.is_none());
    }

    #[test]
    fn a_picture_over_the_limit_is_refused_before_it_is_decoded() {
        let file = png(20, 10, image::ExtendedColorType::L8, &[0; 200]);
        let error = decode("big.png", &file[..60], 199).unwrap_err().to_string();
        assert!(error.contains("200 pixels, the limit is 199"), "{error}");
    }

    #[test]
    fn the_frames_of_an_animation_count_together() {
        let frames =
            Pixels::build(3, 10, 20, 3, |b, y, x, _| ((b * 50 + y + x) % 256) as f32 / 255.0).unwrap();
        let lossless = rushlight_webp::Options { lossless: true, quality: 80.0, method: 0 };
        let webp = crate::picture::webp::file(&frames, 100, lossless, &Vec::new(), &|| Ok(())).unwrap();
        let mut apng = Vec::new();
        {
            let mut encoder = ::png::Encoder::new(&mut apng, 20, 10);
            encoder.set_color(::png::ColorType::Rgb);
            encoder.set_animated(3, 0).unwrap();
            let mut writer = encoder.write_header().unwrap();
            for picture in frames.to_bytes().chunks(600) {
                writer.write_image_data(picture).unwrap();
            }
            writer.finish().unwrap();
        }
        for file in [webp, apng] {
            assert_eq!(decode("a", &file, 600).unwrap().image.batch, 3);
            let error = decode("a", &file, 599).unwrap_err().to_string();
            assert!(error.contains("600 pixels, the limit is 599"), "{error}");
        }
    }

    #[test]
    fn a_tiff_that_claims_many_pixels_is_refused_by_its_header() {
        let mut file = Vec::new();
        let encoder = image::codecs::tiff::TiffEncoder::new(Cursor::new(&mut file));
        image::ImageEncoder::write_image(encoder, &[9; 6], 3, 2, image::ExtendedColorType::L8).unwrap();
        assert_eq!(decode("a.tiff", &file, 6).unwrap().image.width, 3);
        assert!(decode("a.tiff", &file, 5).unwrap_err().to_string().contains("limit is 5"));
        // Width and height, as two entries of the directory, become 60,000.
        for (tag, side) in [(256u16, 3u32), (257, 2)] {
            let entry = tag.to_le_bytes();
            let place = (0..file.len() - 12)
                .find(|at| {
                    file[*at..].starts_with(&entry) && file[at + 8..].starts_with(&side.to_le_bytes()[..2])
                })
                .unwrap();
            file[place + 8..place + 10].copy_from_slice(&60_000u16.to_le_bytes());
        }
        let error = decode("a.tiff", &file, 64 << 20).unwrap_err().to_string();
        assert!(error.contains("limit"), "{error}");
    }

    #[test]
    fn cut_files_and_other_files_are_errors() {
        let file = png(20, 10, image::ExtendedColorType::L8, &[7; 200]);
        assert!(decode("cut.png", &file[..file.len() / 2], 1000).is_err());
        assert!(decode("text.png", b"not a picture", 1000).is_err());
    }
}
