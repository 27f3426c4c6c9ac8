//! Weights of one byte a number: how they become [`Weight`]s, and how changed numbers become bytes again.
//!
//! Files may keep such a weight divided by a scale, so that the type's few exponents fit it: a tensor beside `X.weight`
//! called `X.weight_scale` (`fp8r` of diffusers, Apache-2.0, and compressed-tensors, Apache-2.0) or `X.scale_weight`
//! (musubi-tuner, Apache-2.0) that holds one number for all, or one for each row. The number meant is the byte's number
//! times it.

use candle_core::{DType, Device, Tensor};

use super::dtype;
use super::state_dict::{Entry, StateDict};
use crate::error::{Error, Result};
use crate::ops::Weight;

/// What the numbers of an eight-bit weight are multiplied by.
pub(super) enum Scales {
    /// Nothing.
    None,
    /// The same for all.
    All(f32),
    /// One for each row.
    Rows(Vec<f32>),
}

impl Scales {
    /// The scales of the tensor `name`, whose entry is `entry`.
    ///
    /// # Errors
    /// When there is neither one scale nor as many as rows.
    pub(super) fn of(dict: &StateDict, name: &str, entry: &Entry) -> Result<Self> {
        let Some(stem) = name.strip_suffix("weight").filter(|_| entry.dtype().is_eight_bit_float()) else {
            return Ok(Self::None);
        };
        let beside = ["weight_scale", "scale_weight"];
        let Some(scales) = beside.iter().find_map(|leaf| dict.get(&format!("{stem}{leaf}"))) else {
            return Ok(Self::None);
        };
        let shape = entry.shape();
        let rows = shape.first().copied().unwrap_or(1);
        match scales.to_f32().as_slice() {
            [one] => Ok(Self::All(*one)),
            many if many.len() == rows => Ok(Self::Rows(many.to_vec())),
            many => Err(Error::shape(
                format!("scales of {name:?}"),
                format!("one, or one for each of {rows} rows"),
                &[many.len()],
            )),
        }
    }

    /// `numbers` times the scales, or divided by them.
    fn applied(&self, numbers: &Tensor, divide: bool) -> Result<Tensor> {
        let factor = |scale: f32| match (divide, scale == 0.0) {
            (false, _) => scale,
            // Rows of nothing stay so.
            (true, true) => 0.0,
            (true, false) => scale.recip(),
        };
        match self {
            Self::None => Ok(numbers.clone()),
            Self::All(scale) => Ok((numbers * f64::from(factor(*scale)))?),
            Self::Rows(scales) => {
                let mut shape = vec![1; numbers.rank()];
                if let Some(rows) = shape.first_mut() {
                    *rows = scales.len();
                }
                let factors = scales.iter().map(|scale| factor(*scale)).collect();
                Ok(numbers.broadcast_mul(&Tensor::from_vec(factors, shape, &Device::Cpu)?)?)
            }
        }
    }
}

/// The numbers that an entry stands for, `f32` on the CPU.
pub(super) fn numbers(entry: &Entry, scales: &Scales) -> Result<Tensor> {
    scales.applied(&entry.tensor(DType::F32, &Device::Cpu)?, false)
}

/// An entry of the same type, shape and scales as `entry` for other numbers. Those that the type does not hold are
/// rounded to the nearest that it does.
pub(super) fn with_numbers(entry: &Entry, scales: &Scales, numbers: &Tensor) -> Result<Entry> {
    let numbers = scales.applied(numbers, true)?;
    entry.with_numbers(&numbers.flatten_all()?.to_vec1::<f32>()?)
}

/// An eight-bit entry as a weight.
pub(super) fn weight(entry: &Entry, scales: Scales, device: &Device) -> Result<Weight> {
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let mut table = dtype::to_f32(&bytes, entry.dtype());
    let rows = match scales {
        Scales::None => None,
        Scales::All(scale) => {
            table.iter_mut().for_each(|number| *number *= scale);
            None
        }
        Scales::Rows(scales) => Some(scales),
    };
    Weight::eight_bit(entry.byte_tensor(device)?, table, rows)
}
