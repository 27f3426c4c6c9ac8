//! The element types that files hold and their conversion to what we compute in.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

use crate::error::Result;

/// Element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FileDtype {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F8E4M3,
    F8E5M2,
    F16,
    BF16,
    F32,
    F64,
}

impl FileDtype {
    /// The type of a safetensors `dtype` name, or `None` when we do not read it.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "BOOL" => Self::Bool,
            "U8" => Self::U8,
            "I8" => Self::I8,
            "U16" => Self::U16,
            "I16" => Self::I16,
            "U32" => Self::U32,
            "I32" => Self::I32,
            "U64" => Self::U64,
            "I64" => Self::I64,
            "F8_E4M3" => Self::F8E4M3,
            "F8_E5M2" => Self::F8E5M2,
            "F16" => Self::F16,
            "BF16" => Self::BF16,
            "F32" => Self::F32,
            "F64" => Self::F64,
            _ => return None,
        })
    }

    /// The safetensors name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "U8",
            Self::I8 => "I8",
            Self::U16 => "U16",
            Self::I16 => "I16",
            Self::U32 => "U32",
            Self::I32 => "I32",
            Self::U64 => "U64",
            Self::I64 => "I64",
            Self::F8E4M3 => "F8_E4M3",
            Self::F8E5M2 => "F8_E5M2",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F32 => "F32",
            Self::F64 => "F64",
        }
    }

    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 | Self::F8E4M3 | Self::F8E5M2 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Whether the elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F8E4M3 | Self::F8E5M2 | Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// Whether the elements are floating-point numbers of one byte.
    pub fn is_eight_bit_float(self) -> bool {
        matches!(self, Self::F8E4M3 | Self::F8E5M2)
    }

    /// The largest number of an eight-bit float type, which the others are far from.
    pub(crate) fn greatest(self) -> f32 {
        match self {
            Self::F8E4M3 => 448.0,
            Self::F8E5M2 => 57344.0,
            _ => f32::INFINITY,
        }
    }

    /// The compute type nearest to the stored one: what "keep the file's precision" means.
    pub fn compute_dtype(self) -> DType {
        match self {
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            _ => DType::F32,
        }
    }
}

/// Little-endian `bytes` of `dtype` as `f32`. Values that `f32` cannot hold are rounded.
pub(crate) fn to_f32(bytes: &[u8], dtype: FileDtype) -> Vec<f32> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (words, _) = bytes.as_chunks::<N>();
        words.iter().map(|w| f(*w)).collect()
    }
    match dtype {
        FileDtype::Bool => each(bytes, |[b]| f32::from(u8::from(b != 0))),
        FileDtype::U8 => each(bytes, |[b]| f32::from(b)),
        FileDtype::I8 => each(bytes, |b| f32::from(i8::from_le_bytes(b))),
        FileDtype::U16 => each(bytes, |b| f32::from(u16::from_le_bytes(b))),
        FileDtype::I16 => each(bytes, |b| f32::from(i16::from_le_bytes(b))),
        FileDtype::U32 => each(bytes, |b| u32::from_le_bytes(b) as f32),
        FileDtype::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
        FileDtype::U64 => each(bytes, |b| u64::from_le_bytes(b) as f32),
        FileDtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
        FileDtype::F8E4M3 => each(bytes, |[b]| f8_e4m3_to_f32(b)),
        FileDtype::F8E5M2 => each(bytes, |[b]| f8_e5m2_to_f32(b)),
        FileDtype::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
        FileDtype::BF16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        FileDtype::F32 => each(bytes, f32::from_le_bytes),
        FileDtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
    }
}

/// Little-endian `bytes` of `dtype` as a tensor of `shape` in `wanted` on `device`. Sixteen-bit
/// files asked for in their own type are not widened on the way.
pub(crate) fn to_tensor(
    bytes: &[u8],
    dtype: FileDtype,
    shape: &[usize],
    wanted: DType,
    device: &Device,
) -> Result<Tensor> {
    let (words, _) = bytes.as_chunks::<2>();
    let tensor = match (dtype, wanted) {
        (FileDtype::F16, DType::F16) => {
            let values: Vec<f16> = words.iter().map(|w| f16::from_le_bytes(*w)).collect();
            Tensor::from_vec(values, shape, device)?
        }
        (FileDtype::BF16, DType::BF16) => {
            let values: Vec<bf16> = words.iter().map(|w| bf16::from_le_bytes(*w)).collect();
            Tensor::from_vec(values, shape, device)?
        }
        (FileDtype::I64, DType::I64) => {
            let (words, _) = bytes.as_chunks::<8>();
            let values: Vec<i64> = words.iter().map(|w| i64::from_le_bytes(*w)).collect();
            Tensor::from_vec(values, shape, device)?
        }
        _ => Tensor::from_vec(to_f32(bytes, dtype), shape, device)?.to_dtype(wanted)?,
    };
    Ok(tensor)
}

/// `values` as little-endian bytes of `dtype`; floats are rounded to nearest, integers towards zero.
pub(crate) fn from_f32(values: &[f32], dtype: FileDtype) -> Vec<u8> {
    fn each<const N: usize>(values: &[f32], f: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(|value| f(*value)).collect()
    }
    match dtype {
        FileDtype::Bool => each(values, |v| [u8::from(v != 0.0)]),
        FileDtype::U8 => each(values, |v| [v as u8]),
        FileDtype::I8 => each(values, |v| (v as i8).to_le_bytes()),
        FileDtype::U16 => each(values, |v| (v as u16).to_le_bytes()),
        FileDtype::I16 => each(values, |v| (v as i16).to_le_bytes()),
        FileDtype::U32 => each(values, |v| (v as u32).to_le_bytes()),
        FileDtype::I32 => each(values, |v| (v as i32).to_le_bytes()),
        FileDtype::U64 => each(values, |v| (v as u64).to_le_bytes()),
        FileDtype::I64 => each(values, |v| (v as i64).to_le_bytes()),
        FileDtype::F8E4M3 | FileDtype::F8E5M2 => to_eight_bits(values, dtype),
        FileDtype::F16 => each(values, |v| f16::from_f32(v).to_le_bytes()),
        FileDtype::BF16 => each(values, |v| bf16::from_f32(v).to_le_bytes()),
        FileDtype::F32 => each(values, f32::to_le_bytes),
        FileDtype::F64 => each(values, |v| f64::from(v).to_le_bytes()),
    }
}

/// Numbers rounded to the nearest of an eight-bit float type, ties to even. What is too large becomes NaN in E4M3,
/// which has no infinity, and infinite in E5M2, as PyTorch's casts do.
pub(crate) fn to_eight_bits(values: &[f32], dtype: FileDtype) -> Vec<u8> {
    // Mantissa bits, exponent bias, what is beyond the largest number.
    let (mantissa, bias, beyond) = match dtype {
        FileDtype::F8E5M2 => (2, 15, 0x7c),
        _ => (3, 7, 0x7f),
    };
    let greatest = f64::from(dtype.greatest());
    let least_exponent = 1 - bias;
    let one = |value: f32| -> u8 {
        let sign = if value.is_sign_negative() { 0x80 } else { 0 };
        if value.is_nan() {
            return sign | 0x7f;
        }
        let magnitude = f64::from(value.abs());
        if magnitude.is_infinite() {
            return sign | beyond;
        }
        if magnitude == 0.0 {
            return sign;
        }
        let exponent = (magnitude.log2().floor() as i32).max(least_exponent);
        // In units of the last place at this exponent.
        let units = (magnitude / f64::from(exponent - mantissa).exp2()).round_ties_even();
        let rounded = units * f64::from(exponent - mantissa).exp2();
        if rounded > greatest {
            return sign | beyond;
        }
        // Subnormal numbers carry over into the first exponent by themselves.
        let units = units as i32;
        sign | (((exponent - least_exponent) << mantissa) + units) as u8
    };
    values.iter().map(|value| one(*value)).collect()
}

/// One sign, four exponent (bias 7) and three mantissa bits; no infinities, all ones is NaN (the
/// "fn" variant of Micikevicius et al., arXiv 2209.05433).
fn f8_e4m3_to_f32(byte: u8) -> f32 {
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((byte >> 3) & 0x0f);
    let mantissa = f32::from(byte & 0x07);
    let magnitude = match (exponent, byte & 0x07) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 8.0 * 2f32.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    sign * magnitude
}

/// One sign, five exponent and two mantissa bits: the upper half of an IEEE `f16`.
fn f8_e5m2_to_f32(byte: u8) -> f32 {
    f16::from_bits(u16::from(byte) << 8).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp8_e4m3_values_match_the_paper() {
        let cases =
            [(0x00, 0.0), (0x01, 0.001953125), (0x38, 1.0), (0x7e, 448.0), (0xb8, -1.0), (0x08, 0.015625)];
        for (byte, value) in cases {
            assert_eq!(f8_e4m3_to_f32(byte), value, "{byte:#x}");
        }
        assert!(f8_e4m3_to_f32(0x7f).is_nan());
    }

    #[test]
    fn fp8_e5m2_values_match_the_paper() {
        for (byte, value) in [(0x3c, 1.0), (0x7b, 57344.0), (0x01, 2f32.powi(-16)), (0xbc, -1.0)] {
            assert_eq!(f8_e5m2_to_f32(byte), value, "{byte:#x}");
        }
        assert!(f8_e5m2_to_f32(0x7c).is_infinite());
    }

    #[test]
    fn every_eight_bit_number_survives_the_way_back() {
        for dtype in [FileDtype::F8E4M3, FileDtype::F8E5M2] {
            let bytes: Vec<u8> = (0..=255).collect();
            let values = to_f32(&bytes, dtype);
            for ((byte, value), back) in bytes.iter().zip(&values).zip(to_eight_bits(&values, dtype)) {
                if !value.is_nan() {
                    assert_eq!(back, *byte, "{dtype:?} {value}");
                }
            }
        }
        // Between 1 and 1.125 of E4M3: the tie goes to the even one.
        assert_eq!(to_eight_bits(&[1.0625, 1.07, 500.0], FileDtype::F8E4M3), [0x38, 0x39, 0x7f]);
        assert_eq!(to_eight_bits(&[60000.0, 1e9], FileDtype::F8E5M2), [0x7b, 0x7c]);
    }

    #[test]
    fn integers_and_booleans_become_numbers() {
        assert_eq!(to_f32(&(-3i64).to_le_bytes(), FileDtype::I64), [-3.0]);
        assert_eq!(to_f32(&[0, 1, 2], FileDtype::Bool), [0.0, 1.0, 1.0]);
    }
}
