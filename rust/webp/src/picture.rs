//! What is encoded, and how: the library's structures, filled from safe ones.

use libwebp_sys as sys;

/// The longest side of a WebP picture, in pixels.
const MAX_SIDE: u32 = 16_383;

/// Why there is no file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A side is 0 or longer than the format has room for.
    #[error("a WebP picture has sides of 1 to {MAX_SIDE} pixels, not {width}x{height}")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// There are not as many bytes as the size asks for.
    #[error("{width}x{height} pixels of {channels} channels need another number of bytes than {bytes}")]
    Bytes {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// 3 or 4.
        channels: u32,
        /// Bytes that were given.
        bytes: usize,
    },
    /// A frame is of another size than the animation.
    #[error("a frame of {width}x{height} pixels is not of the animation's size")]
    Frame {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The library has no memory, or the file would be too long.
    #[error("libwebp failed: {0}")]
    Library(String),
}

/// A picture's bytes, row by row.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// `width * height` times red, green, blue, and alpha if there is one.
    pub bytes: &'a [u8],
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Whether there is an alpha channel.
    pub alpha: bool,
}

/// How to encode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Keep every pixel as it is.
    pub lossless: bool,
    /// 0 to 100: of the picture, or the effort where it is lossless.
    pub quality: f32,
    /// 0 (fast) to 6 (small).
    pub method: u8,
}

impl Options {
    /// The library's structure.
    pub(crate) fn config(self) -> Result<sys::WebPConfig, Error> {
        let preset = sys::WebPPreset::WEBP_PRESET_DEFAULT;
        let mut config = sys::WebPConfig::new_with_preset(preset, self.quality.clamp(0.0, 100.0))
            .map_err(|()| Error::Library("the linked library is of another version".into()))?;
        config.lossless = i32::from(self.lossless);
        config.method = i32::from(self.method.min(6));
        config.alpha_quality = 100;
        Ok(config)
    }
}

/// The library's picture, given back to it when dropped.
pub(crate) struct Imported(pub(crate) sys::WebPPicture);

impl Imported {
    /// Copies a picture into the library.
    pub(crate) fn new(picture: &Picture<'_>) -> Result<Self, Error> {
        let Picture { bytes, width, height, alpha } = *picture;
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return Err(Error::Size { width, height });
        }
        let channels = if alpha { 4 } else { 3 };
        // At most 2^14 * 2^14 * 4: fits.
        if bytes.len() as u64 != u64::from(width) * u64::from(height) * u64::from(channels) {
            return Err(Error::Bytes { width, height, channels, bytes: bytes.len() });
        }
        let made = sys::WebPPicture::new()
            .map_err(|()| Error::Library("the linked library is of another version".into()))?;
        let mut imported = Self(made);
        imported.0.width = width as i32;
        imported.0.height = height as i32;
        imported.0.use_argb = 1;
        let stride = (width * channels) as i32;
        // SAFETY: the structure was initialised by the library, and `bytes` holds `height` rows of `stride` bytes, which
        // the library copies.
        let done = unsafe {
            if alpha {
                sys::WebPPictureImportRGBA(&mut imported.0, bytes.as_ptr(), stride)
            } else {
                sys::WebPPictureImportRGB(&mut imported.0, bytes.as_ptr(), stride)
            }
        };
        if done == 0 { Err(Error::Library("no memory for the picture".into())) } else { Ok(imported) }
    }
}

impl Drop for Imported {
    fn drop(&mut self) {
        // SAFETY: the structure was initialised by the library and is freed once.
        unsafe { sys::WebPPictureFree(&mut self.0) }
    }
}
