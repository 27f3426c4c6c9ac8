//! Products with weight matrices, and the gate of gated MLPs.

use candle_core::{D, DType, Device, Tensor};
use rayon::prelude::*;

use super::Weight;
use super::cpu::{self, Place, SharedBuffer};
use crate::error::{Error, Result};

/// `x · Wᵀ + b` over the last dimension: `[…, in]`, `[out, in]`, `[out]` to `[…, out]`.
///
/// # Errors
/// When the shapes do not go together.
pub fn linear(x: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor> {
    let [out, width] = *weight.dims() else {
        return Err(Error::shape("weight of a linear layer", "[out, in]", weight.dims()));
    };
    let mut shape = x.dims().to_vec();
    match shape.last_mut() {
        Some(last) if *last == width && width > 0 => *last = out,
        _ => return Err(Error::shape("input of a linear layer", format!("[…, {width}]"), x.dims())),
    }
    if cpu::is_narrow_on_cpu(x) {
        let bias = bias.map(|bias| bias.to_dtype(DType::F32)).transpose()?;
        return Ok(linear(&x.to_dtype(DType::F32)?, weight, bias.as_ref())?.to_dtype(x.dtype())?);
    }
    let rows = x.elem_count() / width;
    let weight = &weight.wide(x.dtype())?;
    if cpu::is_f32_on_cpu(&[x, weight]) {
        let (x, weight) = (x.contiguous()?, weight.contiguous()?);
        let bias = bias.map(|b| b.flatten_all()?.to_vec1::<f32>()).transpose()?.unwrap_or_default();
        let product = cpu::with_slices([&x, &weight], |[x, weight]| {
            let mut y = vec![0.0; rows * out];
            if !bias.is_empty() {
                y.chunks_mut(out.max(1)).for_each(|row| row.copy_from_slice(&bias));
            }
            // SAFETY: one product writes the whole of its own buffer.
            unsafe {
                cpu::product(
                    (rows, out, width),
                    SharedBuffer::new(&mut y),
                    Place { offset: 0, row_stride: out, column_stride: 1 },
                    !bias.is_empty(),
                    x,
                    Place { offset: 0, row_stride: width, column_stride: 1 },
                    weight,
                    Place { offset: 0, row_stride: 1, column_stride: width },
                    cpu::threads(rows, out, width),
                );
            }
            Ok(y)
        })?;
        return Ok(Tensor::from_vec(product, shape, &Device::Cpu)?);
    }
    // One matrix product over all rows: batched products cost more.
    let y = x.reshape((rows, width))?.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    Ok(y.reshape(shape)?)
}

/// The first half of the last dimension times the exact gelu of the second half.
///
/// # Errors
/// When the last dimension is odd.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    if width == 0 || !width.is_multiple_of(2) {
        return Err(Error::shape("gated layer", "an even last dimension", x.dims()));
    }
    let half = width / 2;
    if cpu::is_f32_on_cpu(&[x]) {
        let x = x.contiguous()?;
        let gated = cpu::with_slices([&x], |[x]| {
            let mut out = vec![0.0; x.len() / 2];
            out.par_chunks_mut(half * 16)
                .zip(x.par_chunks(width * 16))
                .for_each(|(out, x)| gate_rows(x, out, half));
            Ok(out)
        })?;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = half;
        }
        return Ok(Tensor::from_vec(gated, shape, &Device::Cpu)?);
    }
    let (value, gate) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    Ok((value * gate.contiguous()?.gelu_erf()?)?)
}

#[inline(always)]
fn gate_rows_body(x: &[f32], out: &mut [f32], half: usize) {
    for (x, out) in x.chunks(half * 2).zip(out.chunks_mut(half)) {
        let (value, gate) = x.split_at(half);
        for ((out, value), gate) in out.iter_mut().zip(value).zip(gate) {
            *out = value * cpu::gelu(*gate);
        }
    }
}

cpu::vectorised! {
    /// Rows of `2·half` numbers to rows of `half`.
    fn gate_rows(x: &[f32], out: &mut [f32], half: usize) = gate_rows_body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_paths_agree_with_the_general_ones() {
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let worst = |a: &Tensor, b: &Tensor| -> f64 {
            (wide(a) - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
        };
        let x = Tensor::randn(0f32, 1.0, (2, 5, 8), &Device::Cpu).unwrap();
        let w = Tensor::randn(0f32, 1.0, (6, 8), &Device::Cpu).unwrap();
        let b = Tensor::randn(0f32, 1.0, 6, &Device::Cpu).unwrap();
        let general = linear(&wide(&x), &wide(&w).into(), Some(&wide(&b))).unwrap();
        assert!(worst(&linear(&x, &w.into(), Some(&b)).unwrap(), &general) < 1e-5);
        assert!(worst(&geglu(&x).unwrap(), &geglu(&wide(&x)).unwrap()) < 1e-5);
    }

    #[test]
    fn sixteen_bits_on_the_cpu_are_rounded_results_of_wide_ones() {
        let x = Tensor::randn(0f32, 1.0, (2, 5, 8), &Device::Cpu).unwrap();
        let w = Tensor::randn(0f32, 1.0, (6, 8), &Device::Cpu).unwrap();
        let b = Tensor::randn(0f32, 1.0, 6, &Device::Cpu).unwrap();
        let wide = linear(&x, &w.clone().into(), Some(&b)).unwrap();
        for dtype in [DType::F16, DType::BF16] {
            let narrow = |t: &Tensor| t.to_dtype(dtype).unwrap();
            let y = linear(&narrow(&x), &narrow(&w).into(), Some(&narrow(&b))).unwrap();
            assert_eq!(y.dtype(), dtype);
            let worst = (y.to_dtype(DType::F32).unwrap() - &wide).unwrap().abs().unwrap().max_all().unwrap();
            assert!(worst.to_scalar::<f32>().unwrap() < 0.1);
        }
    }

    #[test]
    fn a_wrong_width_is_an_error() {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let w = Tensor::zeros((6, 4), DType::F32, &Device::Cpu).unwrap();
        assert!(linear(&x, &w.into(), None).is_err());
    }
}
