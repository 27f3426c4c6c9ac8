//! A layer's numbers as memory holds them, which may be narrower than what is computed with.

use candle_core::{DType, Device, Storage, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Numbers that a thread widens at a time.
const BLOCK: usize = 1 << 16;

/// A weight in the type that it is kept in. Operations widen it for the time that they take. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Weight {
    /// The numbers, or the bytes of eight-bit ones.
    kept: Tensor,
    /// What the bytes stand for; `None` when the numbers are as they are.
    eight_bit: Option<EightBit>,
}

/// What the bytes of an eight-bit weight stand for.
#[derive(Debug, Clone)]
struct EightBit {
    /// The number of each byte, `[256]`, `f32`.
    table: Tensor,
    /// Factors on the rows, `[rows]`, `f32`.
    row_scales: Option<Tensor>,
}

impl From<Tensor> for Weight {
    fn from(kept: Tensor) -> Self {
        Self { kept, eight_bit: None }
    }
}

impl Weight {
    /// A weight of one byte a number: `bytes` (`u8`, of any shape), the number of each of the 256 bytes, and factors on
    /// the rows (the first dimension).
    ///
    /// # Errors
    /// When there are not 256 numbers, or not as many factors as rows.
    pub fn eight_bit(bytes: Tensor, table: Vec<f32>, row_scales: Option<Vec<f32>>) -> Result<Self> {
        let device = bytes.device();
        let table = Tensor::from_vec(table, 256, device)?;
        let row_scales = match row_scales {
            Some(scales) => {
                let rows = bytes.dim(0)?;
                if scales.len() != rows {
                    return Err(Error::shape("scales of a weight", format!("[{rows}]"), &[scales.len()]));
                }
                Some(Tensor::from_vec(scales, rows, device)?)
            }
            None => None,
        };
        Ok(Self { kept: bytes, eight_bit: Some(EightBit { table, row_scales }) })
    }

    /// Dimensions.
    pub fn dims(&self) -> &[usize] {
        self.kept.dims()
    }

    /// One dimension, 0 when there are not so many.
    pub fn dim(&self, index: usize) -> usize {
        self.dims().get(index).copied().unwrap_or(0)
    }

    /// Where it is kept.
    pub fn device(&self) -> &Device {
        self.kept.device()
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        self.kept.elem_count() * self.kept.dtype().size_in_bytes()
    }

    /// The same numbers in another shape with as many rows.
    ///
    /// # Errors
    /// When the shape has another number of elements.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        Ok(Self { kept: self.kept.reshape(shape)?, eight_bit: self.eight_bit.clone() })
    }

    /// The numbers in `dtype`. What is already in it is shared; all else is a copy that lives as long as its user wants.
    ///
    /// # Errors
    /// When the device fails.
    pub fn wide(&self, dtype: DType) -> Result<Tensor> {
        let on_cpu = matches!(self.device(), Device::Cpu);
        match (&self.eight_bit, self.kept.dtype()) {
            (None, kept) if kept == dtype => Ok(self.kept.clone()),
            (None, DType::F16 | DType::BF16) if on_cpu && dtype == DType::F32 => widen_halves(&self.kept),
            (None, _) => Ok(self.kept.to_dtype(dtype)?),
            (Some(eight_bit), _) => {
                let numbers = match on_cpu {
                    true => look_up(&self.kept, &eight_bit.table)?.to_dtype(dtype)?,
                    false => {
                        let bytes = self.kept.flatten_all()?;
                        let table = eight_bit.table.to_dtype(dtype)?;
                        table.index_select(&bytes, 0)?.reshape(self.kept.shape())?
                    }
                };
                let Some(scales) = &eight_bit.row_scales else { return Ok(numbers) };
                let mut shape = vec![1; self.dims().len()];
                if let Some(rows) = shape.first_mut() {
                    *rows = self.dim(0);
                }
                Ok(numbers.broadcast_mul(&scales.to_dtype(dtype)?.reshape(shape)?)?)
            }
        }
    }

    /// Some of the rows, `ids` of `u32`.
    ///
    /// # Errors
    /// When an id is beyond the last row.
    pub fn rows(&self, ids: &Tensor) -> Result<Self> {
        let eight_bit = match &self.eight_bit {
            Some(EightBit { table, row_scales }) => {
                let row_scales = row_scales.as_ref().map(|scales| scales.index_select(ids, 0)).transpose()?;
                Some(EightBit { table: table.clone(), row_scales })
            }
            None => None,
        };
        Ok(Self { kept: self.kept.index_select(ids, 0)?, eight_bit })
    }
}

/// Calls `widen` with stretches of the numbers of `narrow` and as many places for wide ones, on all threads.
fn in_blocks<T: Sync>(narrow: &[T], widen: impl Fn(&[T], &mut [f32]) + Sync) -> Vec<f32> {
    let mut wide = vec![0f32; narrow.len()];
    let blocks = wide.par_chunks_mut(BLOCK).zip(narrow.par_chunks(BLOCK));
    blocks.for_each(|(wide, narrow)| widen(narrow, wide));
    wide
}

/// Numbers of sixteen bits on the CPU as `f32`.
fn widen_halves(kept: &Tensor) -> Result<Tensor> {
    let kept = kept.contiguous()?;
    let (storage, layout) = kept.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Ok(kept.to_dtype(DType::F32)?);
    };
    let wide = match kept.dtype() {
        DType::F16 => in_blocks(
            storage.as_slice::<f16>()?.get(start..end).unwrap_or_default(),
            HalfFloatSliceExt::convert_to_f32_slice,
        ),
        _ => in_blocks(
            storage.as_slice::<bf16>()?.get(start..end).unwrap_or_default(),
            HalfFloatSliceExt::convert_to_f32_slice,
        ),
    };
    Ok(Tensor::from_vec(wide, kept.shape(), &Device::Cpu)?)
}

/// The numbers of bytes on the CPU by their table, as `f32`.
fn look_up(bytes: &Tensor, table: &Tensor) -> Result<Tensor> {
    let bytes = bytes.contiguous()?;
    let mut numbers = [0f32; 256];
    for (number, entry) in numbers.iter_mut().zip(table.to_vec1::<f32>()?) {
        *number = entry;
    }
    let (storage, layout) = bytes.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Ok(table.index_select(&bytes.flatten_all()?, 0)?.reshape(bytes.shape())?);
    };
    let narrow = storage.as_slice::<u8>()?.get(start..end).unwrap_or_default();
    let wide = in_blocks(narrow, |narrow, wide| {
        for (wide, byte) in wide.iter_mut().zip(narrow) {
            // A byte is always an index of 256 numbers, and the compiler knows.
            *wide = numbers[usize::from(*byte)];
        }
    });
    Ok(Tensor::from_vec(wide, bytes.shape(), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_are_widened_exactly() {
        let values = Tensor::arange(-300f32, 300.0, &Device::Cpu).unwrap().affine(0.37, 0.1).unwrap();
        for dtype in [DType::F16, DType::BF16, DType::F32] {
            let kept = values.to_dtype(dtype).unwrap().reshape((20, 30)).unwrap();
            let wide = Weight::from(kept.clone()).wide(DType::F32).unwrap();
            let expected = kept.to_dtype(DType::F32).unwrap();
            assert_eq!(wide.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
        }
    }

    #[test]
    fn bytes_are_looked_up_and_their_rows_scaled() {
        let bytes = Tensor::from_vec(vec![0u8, 1, 255, 7], (2, 2), &Device::Cpu).unwrap();
        let table: Vec<f32> = (0..256).map(|byte| byte as f32 * 0.5).collect();
        let plain = Weight::eight_bit(bytes.clone(), table.clone(), None).unwrap();
        assert_eq!(plain.wide(DType::F32).unwrap().to_vec2::<f32>().unwrap(), [[0.0, 0.5], [127.5, 3.5]]);
        assert_eq!(plain.bytes(), 4);
        let scaled = Weight::eight_bit(bytes.clone(), table.clone(), Some(vec![2.0, -1.0])).unwrap();
        assert_eq!(scaled.wide(DType::F32).unwrap().to_vec2::<f32>().unwrap(), [[0.0, 1.0], [-127.5, -3.5]]);
        let ids = Tensor::new(&[1u32, 1], &Device::Cpu).unwrap();
        let rows = scaled.rows(&ids).unwrap().wide(DType::F32).unwrap();
        assert_eq!(rows.to_vec2::<f32>().unwrap(), [[-127.5, -3.5], [-127.5, -3.5]]);
        assert!(Weight::eight_bit(bytes, table, Some(vec![1.0])).is_err());
    }
}
