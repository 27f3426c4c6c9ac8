//! Files of one picture.

use std::slice;

use libwebp_sys as sys;

use crate::picture::{Error, Imported, Options, Picture};

/// What the library has written, freed when dropped.
struct Written(sys::WebPMemoryWriter);

impl Drop for Written {
    fn drop(&mut self) {
        // SAFETY: the writer was initialised by the library and is cleared once.
        unsafe { sys::WebPMemoryWriterClear(&mut self.0) }
    }
}

/// A file of one picture.
///
/// # Errors
/// For sizes that the format does not have, bytes that are not of that size, and when the library has no memory.
pub fn encode(picture: &Picture<'_>, options: Options) -> Result<Vec<u8>, Error> {
    let config = options.config()?;
    let mut picture = Imported::new(picture)?;
    let mut written =
        Written(sys::WebPMemoryWriter { mem: std::ptr::null_mut(), size: 0, max_size: 0, pad: [0] });
    // SAFETY: the writer lives, at one place, until after the call that fills it; `WebPMemoryWrite` expects a pointer
    // to it in `custom_ptr`.
    let done = unsafe {
        sys::WebPMemoryWriterInit(&mut written.0);
        picture.0.writer = Some(sys::WebPMemoryWrite);
        picture.0.custom_ptr = (&raw mut written.0).cast();
        sys::WebPEncode(&config, &mut picture.0)
    };
    if done == 0 {
        return Err(Error::Library(format!("{:?}", picture.0.error_code)));
    }
    if written.0.mem.is_null() {
        return Err(Error::Library("it wrote nothing".into()));
    }
    // SAFETY: the library has written `size` bytes at `mem`, which are freed when `written` is dropped, after the copy.
    Ok(unsafe { slice::from_raw_parts(written.0.mem, written.0.size) }.to_vec())
}
