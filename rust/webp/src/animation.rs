//! Files of many pictures.

use std::ffi::CStr;
use std::slice;

use libwebp_sys as sys;

use crate::picture::{Error, Imported, Options, Picture};

/// An animation that is being made.
pub struct Animation {
    encoder: *mut sys::WebPAnimEncoder,
    config: sys::WebPConfig,
    width: u32,
    height: u32,
}

impl Animation {
    /// An animation without frames, which will be repeated without end.
    ///
    /// # Errors
    /// For sizes that the format does not have.
    pub fn new(width: u32, height: u32, options: Options) -> Result<Self, Error> {
        let config = options.config()?;
        let side = |pixels: u32| i32::try_from(pixels).ok().filter(|side| *side > 0);
        let (Some(wide), Some(high)) = (side(width), side(height)) else {
            return Err(Error::Size { width, height });
        };
        let version = sys::WEBP_MUX_ABI_VERSION as i32;
        let mut settings = sys::WebPAnimEncoderOptions {
            anim_params: sys::WebPMuxAnimParams { bgcolor: 0, loop_count: 0 },
            minimize_size: 0,
            kmin: 0,
            kmax: 0,
            allow_mixed: 0,
            verbose: 0,
            padding: [0; 4],
        };
        // SAFETY: the library fills the structure, which has its layout, and copies it into the encoder.
        let encoder = unsafe {
            if sys::WebPAnimEncoderOptionsInitInternal(&mut settings, version) == 0 {
                return Err(Error::Library("the linked library is of another version".into()));
            }
            settings.anim_params.bgcolor = 0;
            // How often a frame that needs no other is put in, as Pillow (MIT-CMU) does it.
            (settings.kmin, settings.kmax) = if options.lossless { (9, 17) } else { (3, 5) };
            sys::WebPAnimEncoderNewInternal(wide, high, &settings, version)
        };
        if encoder.is_null() {
            return Err(Error::Size { width, height });
        }
        Ok(Self { encoder, config, width, height })
    }

    /// Adds a frame that is shown from `start` on, in milliseconds; starts grow from frame to frame.
    ///
    /// # Errors
    /// For a frame of another size, bytes that are not of its size, and when the library has no memory.
    pub fn add(&mut self, frame: &Picture<'_>, start: u32) -> Result<(), Error> {
        if (frame.width, frame.height) != (self.width, self.height) {
            return Err(Error::Frame { width: frame.width, height: frame.height });
        }
        let mut frame = Imported::new(frame)?;
        let start = i32::try_from(start).unwrap_or(i32::MAX);
        // SAFETY: the encoder lives until `self` is dropped; the library copies what it needs of frame and settings.
        let done = unsafe { sys::WebPAnimEncoderAdd(self.encoder, &mut frame.0, start, &self.config) };
        if done == 0 { Err(self.error()) } else { Ok(()) }
    }

    /// The file; the last frame is shown until `end`, in milliseconds.
    ///
    /// # Errors
    /// When there is no frame, and when the library has no memory.
    pub fn finish(self, end: u32) -> Result<Vec<u8>, Error> {
        let end = i32::try_from(end).unwrap_or(i32::MAX);
        let mut data = sys::WebPData::default();
        // SAFETY: the encoder lives until `self` is dropped. Without a frame the library marks the end of the last one.
        let done = unsafe {
            sys::WebPAnimEncoderAdd(self.encoder, std::ptr::null_mut(), end, std::ptr::null()) != 0
                && sys::WebPAnimEncoderAssemble(self.encoder, &mut data) != 0
        };
        if !done || data.bytes.is_null() {
            return Err(self.error());
        }
        // SAFETY: the library has written `size` bytes at `bytes`, which are given back to it after the copy.
        let file = unsafe {
            let file = slice::from_raw_parts(data.bytes, data.size).to_vec();
            sys::WebPDataClear(&mut data);
            file
        };
        Ok(file)
    }

    /// What the library says of its last failure.
    fn error(&self) -> Error {
        // SAFETY: the library returns a text that lives as long as the encoder, or none.
        let text = unsafe {
            let text = sys::WebPAnimEncoderGetError(self.encoder);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        };
        Error::Library(text.filter(|text| !text.is_empty()).unwrap_or_else(|| "no reason given".into()))
    }
}

impl Drop for Animation {
    fn drop(&mut self) {
        // SAFETY: the encoder was made by the library and is deleted once.
        unsafe { sys::WebPAnimEncoderDelete(self.encoder) }
    }
}
