//! What is written is read back; what is broken is an error.

use bytes::Bytes;
use rushlight_runtime::{Audio, CancelToken};

use super::decode::{Unread, decode};
use super::*;
use crate::media::find;
use crate::picture::pixels::values;

fn tone(channels: usize, rate: u32, frames: usize) -> Vec<f32> {
    let sample = |channel: usize, at: usize| {
        let time = at as f32 / rate as f32;
        0.5 * (time * std::f32::consts::TAU * (300.0 + 200.0 * channel as f32)).sin()
    };
    (0..channels).flat_map(|channel| (0..frames).map(move |at| sample(channel, at))).collect()
}

fn read(name: &str, file: Vec<u8>) -> Audio {
    decode(name, Bytes::from(file), &CancelToken::default()).unwrap()
}

fn comments() -> comments::Comments {
    vec![("prompt".into(), "{\"1\": \"\\u00e9\"}".into()), ("workflow".into(), "{}".into())]
}

fn contains(file: &[u8], text: &[u8]) -> bool {
    file.windows(text.len()).any(|window| window == text)
}

/// Root of the mean square of the differences over that of the values.
fn error(read: &Audio, data: &[f32]) -> f64 {
    let read = values(&read.waveform).unwrap();
    assert_eq!(read.len(), data.len());
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let difference = square(&mut read.iter().zip(data).map(|(a, b)| a - b));
    (difference / square(&mut data.iter().copied())).sqrt()
}

#[test]
fn flac_keeps_sixteen_bits_of_any_shape() {
    for (channels, rate, frames) in
        [(1, 44_100, 10_000), (2, 48_000, 4096), (6, 192_000, 5000), (2, 96_001, 300), (2, 11_025, 1)]
    {
        let data = tone(channels, rate, frames);
        let clip = Clip { data: &data, channels, rate };
        let file = flac::encode(&clip, 16, &comments(), &CancelToken::default()).unwrap();
        assert!(contains(&file, b"prompt={\"1\"") && contains(&file, b"workflow={}"));
        let length = file.len();
        let sound = decode("a.flac", file.into(), &CancelToken::default()).unwrap_or_else(|error| {
            panic!("{channels} channels, {frames} samples, {length} bytes: {error:?}")
        });
        assert_eq!(sound.sample_rate, rate);
        assert_eq!(sound.waveform.dims(), [1, channels, frames]);
        let worst = values(&sound.waveform)
            .unwrap()
            .iter()
            .zip(&data)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst <= 0.5 / 32768.0, "{worst}");
    }
}

#[test]
fn flac_is_cut_off_at_full_scale_and_silent_where_there_is_no_number() {
    let data = [2.0, -2.0, f32::NAN, f32::INFINITY, 0.25, 0.0, 0.0, 0.0];
    let clip = Clip { data: &data, channels: 1, rate: 8000 };
    let sound = read("a.flac", flac::encode(&clip, 16, &Vec::new(), &CancelToken::default()).unwrap());
    assert_eq!(values(&sound.waveform).unwrap(), [32767.0 / 32768.0, -1.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.0]);
}

#[test]
fn opus_reads_back_in_length_and_sound() {
    for (channels, rate, frames) in
        [(1, 48_000, 48_000), (2, 48_000, 70_001), (2, 16_000, 16_000), (1, 8000, 5)]
    {
        let data = tone(channels, rate, frames);
        let clip = Clip { data: &data, channels, rate };
        let file = opus::encode(&clip, 128_000, &comments(), &CancelToken::default()).unwrap();
        assert!(contains(&file, b"OpusTags") && contains(&file, b"workflow={}"));
        let sound = read("a.opus", file);
        assert_eq!(sound.sample_rate, 48_000);
        let scale = 48_000 / rate as usize;
        assert_eq!(sound.waveform.dims(), [1, channels, frames * scale], "{rate}");
        if rate == 48_000 {
            assert!(error(&sound, &data) < 0.02, "{}", error(&sound, &data));
        }
    }
}

#[test]
fn a_prompt_longer_than_a_page_goes_into_opus() {
    let long = vec![("prompt".to_owned(), "x".repeat(200_000))];
    let data = tone(1, 48_000, 4800);
    let clip = Clip { data: &data, channels: 1, rate: 48_000 };
    let sound = read("a.opus", opus::encode(&clip, 64_000, &long, &CancelToken::default()).unwrap());
    assert_eq!(sound.waveform.dims(), [1, 1, 4800]);
}

#[test]
fn mp3_reads_back_in_length_and_sound() {
    if !find::require("MP3") {
        return;
    }
    let data = tone(2, 44_100, 44_100);
    let clip = Clip { data: &data, channels: 2, rate: 44_100 };
    for quality in [mp3::Quality::Variable(0), mp3::Quality::Constant(320_000)] {
        let file = mp3::encode(&clip, quality, &comments(), &CancelToken::default()).unwrap();
        assert!(contains(&file, b"workflow\0{}"));
        let sound = read("a.mp3", file);
        assert_eq!(sound.waveform.dims(), [1, 2, 44_100]);
        assert!(error(&sound, &data) < 0.02, "{}", error(&sound, &data));
    }
}

#[test]
fn shapes_that_a_format_does_not_have_are_errors() {
    let data = vec![0.0; 90];
    let cancel = CancelToken::default();
    let clip = |channels, rate| Clip { data: &data, channels, rate };
    assert!(flac::encode(&clip(9, 8000), 16, &Vec::new(), &cancel).is_err());
    assert!(flac::encode(&clip(0, 8000), 16, &Vec::new(), &cancel).is_err());
    assert!(flac::encode(&clip(1, 700_000), 16, &Vec::new(), &cancel).is_err());
    assert!(opus::encode(&clip(3, 48_000), 64_000, &Vec::new(), &cancel).is_err());
    assert!(opus::encode(&clip(1, 44_100), 64_000, &Vec::new(), &cancel).is_err());
    assert!(opus::encode(&clip(1, 0), 64_000, &Vec::new(), &cancel).is_err());
    cancel.cancel();
    assert!(flac::encode(&clip(1, 8000), 16, &Vec::new(), &cancel).is_err());
}

/// A WAVE file of 16-bit samples whose header may claim anything.
fn wave(channels: u16, rate: u32, claimed: u32, samples: &[i16]) -> Vec<u8> {
    let mut out = b"RIFF".to_vec();
    out.extend_from_slice(&claimed.saturating_add(36).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0");
    out.extend_from_slice(&channels.to_le_bytes());
    out.extend_from_slice(&rate.to_le_bytes());
    out.extend_from_slice(&rate.wrapping_mul(2 * u32::from(channels)).to_le_bytes());
    out.extend_from_slice(&channels.wrapping_mul(2).to_le_bytes());
    out.extend_from_slice(b"\x10\0data");
    out.extend_from_slice(&claimed.to_le_bytes());
    out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    out
}

#[test]
fn a_wave_file_is_read_to_its_end_whatever_it_claims() {
    let samples = [0, 16384, -32768, 32767];
    for claimed in [8, u32::MAX - 36] {
        let sound = read("a.wav", wave(1, 22_050, claimed, &samples));
        assert_eq!(sound.sample_rate, 22_050);
        assert_eq!(values(&sound.waveform).unwrap(), [0.0, 0.5, -1.0, 32767.0 / 32768.0]);
    }
}

#[test]
fn what_is_no_sound_is_an_error() {
    let cancel = CancelToken::default();
    for file in [
        &b""[..],
        b"no sound",
        b"RIFF\0\0\0\0WAVE",
        b"OggS",
        b"fLaC",
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
        b"\0\0\0\x18ftypM4A ",
    ] {
        assert!(decode("a.wav", Bytes::from_static(file), &cancel).is_err());
    }
    let claims = wave(60_000, 44_100, 1 << 30, &[0; 64]);
    assert!(matches!(decode("a.wav", claims.into(), &cancel), Err(Unread::Failed(_) | Unread::Unknown(_))));
}

#[test]
fn files_cut_or_changed_anywhere_never_panic() {
    let data = tone(2, 48_000, 4800);
    let clip = Clip { data: &data, channels: 2, rate: 48_000 };
    let cancel = CancelToken::default();
    let files = [
        flac::encode(&clip, 16, &comments(), &cancel).unwrap(),
        opus::encode(&clip, 64_000, &comments(), &cancel).unwrap(),
        wave(2, 48_000, 4000, &[1000; 2000]),
    ];
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for file in files {
        for _ in 0..150 {
            let mut broken = file.clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % broken.len();
                broken[at] = random() as u8;
            }
            broken.truncate(1 + random() % (2 * file.len()).min(1 << 20));
            let _ = decode("a", broken.into(), &cancel);
        }
    }
}
