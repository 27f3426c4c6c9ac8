#![allow(clippy::unwrap_used)]

use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, DynamicImage};

use super::*;

fn gradient(width: u32, height: u32, shift: u32) -> Vec<u8> {
    (0..width * height)
        .flat_map(|at| {
            let (x, y) = (at % width, at / width);
            [(x * 4 + shift) as u8, (y * 4) as u8, ((x + y) * 2) as u8]
        })
        .collect()
}

fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn a_lossless_picture_reads_back_as_it_was() {
    let bytes = gradient(33, 20, 0);
    let picture = Picture { bytes: &bytes, width: 33, height: 20, alpha: false };
    let file = encode(&picture, Options { lossless: true, quality: 80.0, method: 4 }).unwrap();
    assert_eq!(image::load_from_memory(&file).unwrap().into_rgb8().into_raw(), bytes);
}

#[test]
fn lower_quality_is_smaller_and_further_away() {
    let bytes = gradient(64, 64, 0);
    let picture = Picture { bytes: &bytes, width: 64, height: 64, alpha: false };
    let at = |quality| encode(&picture, Options { lossless: false, quality, method: 4 }).unwrap();
    let (good, bad) = (at(95.0), at(5.0));
    assert!(bad.len() < good.len());
    let read = |file: &[u8]| image::load_from_memory(file).unwrap().into_rgb8().into_raw();
    let (good, bad) = (largest_difference(&read(&good), &bytes), largest_difference(&read(&bad), &bytes));
    assert!(good < 24 && good < bad, "{good} {bad}");
}

#[test]
fn alpha_is_kept() {
    let bytes: Vec<u8> = (0..16 * 16).flat_map(|at| [200, 100, 50, (at % 256) as u8]).collect();
    let picture = Picture { bytes: &bytes, width: 16, height: 16, alpha: true };
    let file = encode(&picture, Options { lossless: false, quality: 90.0, method: 4 }).unwrap();
    let DynamicImage::ImageRgba8(read) = image::load_from_memory(&file).unwrap() else { panic!() };
    assert!(read.pixels().zip(bytes.chunks(4)).all(|(read, written)| read.0[3] == written[3]));
}

#[test]
fn an_animation_has_its_frames_and_times() {
    for lossless in [true, false] {
        let options = Options { lossless, quality: 90.0, method: 0 };
        let mut animation = Animation::new(40, 30, options).unwrap();
        for frame in 0..4 {
            let bytes = gradient(40, 30, frame * 20);
            let frame_ = Picture { bytes: &bytes, width: 40, height: 30, alpha: false };
            animation.add(&frame_, frame * 125).unwrap();
        }
        let file = animation.finish(500).unwrap();
        let decoder = WebPDecoder::new(std::io::Cursor::new(&file)).unwrap();
        let frames = decoder.into_frames().collect_frames().unwrap();
        assert_eq!(frames.len(), 4);
        for (index, frame) in frames.into_iter().enumerate() {
            assert_eq!(frame.delay().numer_denom_ms(), (125, 1));
            let read = DynamicImage::ImageRgba8(frame.into_buffer()).into_rgb8().into_raw();
            let difference = largest_difference(&read, &gradient(40, 30, index as u32 * 20));
            // Frames that are laid over the one before lose up to one when they are read.
            assert!(difference <= if lossless { 1 } else { 40 }, "{difference}");
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let options = Options { lossless: false, quality: 80.0, method: 4 };
    let picture = |bytes: &'static [u8], width, height| Picture { bytes, width, height, alpha: false };
    assert!(matches!(encode(&picture(&[], 0, 4), options), Err(Error::Size { .. })));
    assert!(matches!(encode(&picture(&[], 16_384, 1), options), Err(Error::Size { .. })));
    assert!(matches!(encode(&picture(&[1, 2, 3], 2, 1), options), Err(Error::Bytes { .. })));
    assert!(matches!(Animation::new(0, 1, options), Err(Error::Size { .. })));
    let mut animation = Animation::new(1, 1, options).unwrap();
    assert!(matches!(animation.add(&picture(&[0; 6], 2, 1), 0), Err(Error::Frame { .. })));
    assert!(animation.finish(10).is_err());
}
