//! What the CPU paths share: access to a tensor's numbers, matrix products on slices, and element
//! functions written so that the compiler can vectorise them.

use candle_core::{DType, Device, Storage, Tensor};
use gemm::Parallelism;

use crate::error::{Error, Result};

/// Whether an operation on these tensors may take the CPU path.
pub(super) fn is_f32_on_cpu(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32 && matches!(t.device(), Device::Cpu))
}

/// Whether these tensors are of sixteen bits on the CPU, whose products are computed in `f32` and rounded back: that is
/// faster than products of narrow numbers, and there are none of `bf16`.
pub(super) fn is_narrow_on_cpu(tensor: &Tensor) -> bool {
    matches!(tensor.dtype(), DType::F16 | DType::BF16) && matches!(tensor.device(), Device::Cpu)
}

/// Calls `f` with the numbers of contiguous `f32` tensors on the CPU.
pub(super) fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices = [&[][..]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let (Storage::Cpu(storage), Some((start, end))) = (&**storage, layout.contiguous_offsets()) else {
            return Err(Error::Unsupported {
                what: "a strided tensor".to_string(),
                why: "CPU kernels take contiguous ones".to_string(),
            });
        };
        *slice = storage.as_slice::<f32>()?.get(start..end).unwrap_or(&[]);
    }
    f(slices)
}

/// A matrix inside a slice: element (r, c) is at `offset + r·row_stride + c·column_stride`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) offset: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl Place {
    /// Index just after the last element of a `rows × columns` matrix.
    fn end(self, rows: usize, columns: usize) -> usize {
        match (rows.checked_sub(1), columns.checked_sub(1)) {
            (Some(r), Some(c)) => self.offset + r * self.row_stride + c * self.column_stride + 1,
            _ => 0,
        }
    }
}

/// A buffer that several threads write to, each its own elements.
#[derive(Clone, Copy)]
pub(super) struct SharedBuffer {
    start: *mut f32,
    len: usize,
}

// SAFETY: the buffer is only a pointer and a length; writing through it is unsafe and its callers
// promise that no two threads touch the same element.
unsafe impl Send for SharedBuffer {}
// SAFETY: as above.
unsafe impl Sync for SharedBuffer {}

impl SharedBuffer {
    pub(super) fn new(buffer: &mut [f32]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len() }
    }

    /// A part of the buffer.
    ///
    /// # Safety
    /// Nobody else touches that part while the slice lives, and the buffer outlives it.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn slice<'a>(self, offset: usize, len: usize) -> &'a mut [f32] {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: the assert keeps the part inside the buffer; the caller promises exclusivity and lifetime.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(offset), len) }
    }
}

/// `dst = keep·dst + lhs · rhs` for an `m × k` by `k × n` product.
///
/// # Safety
/// Nobody else touches the elements of `dst` that the product writes, and its buffer is alive.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn product(
    (m, n, k): (usize, usize, usize),
    dst: SharedBuffer,
    dst_place: Place,
    keep: bool,
    lhs: &[f32],
    lhs_place: Place,
    rhs: &[f32],
    rhs_place: Place,
    threads: Parallelism,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(dst_place.end(m, n) <= dst.len);
    assert!(lhs_place.end(m, k) <= lhs.len() && rhs_place.end(k, n) <= rhs.len());
    // SAFETY: the asserts above keep every element that the product reads or writes inside its
    // buffer; strides fit isize because they are inside a slice; the caller promises exclusivity.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.start.add(dst_place.offset),
            dst_place.column_stride as isize,
            dst_place.row_stride as isize,
            keep,
            lhs.as_ptr().add(lhs_place.offset),
            lhs_place.column_stride as isize,
            lhs_place.row_stride as isize,
            rhs.as_ptr().add(rhs_place.offset),
            rhs_place.column_stride as isize,
            rhs_place.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

/// Products below this many multiplications are not worth a second thread.
const PARALLEL_FROM: usize = 1 << 16;

/// As many threads as the pool has, for products that are worth it.
pub(super) fn threads(m: usize, n: usize, k: usize) -> Parallelism {
    if m * n * k < PARALLEL_FROM { Parallelism::None } else { Parallelism::Rayon(0) }
}

/// e^x within 2e-7 of its value for x in −87..88, 0 below: Cephes' polynomial, without branches.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, so that the reduction is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5·2²³ rounds to the nearest integer and leaves it in the low bits, without a library
    // call or a checked conversion.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.3, 88.3);
    let rounded = clamped * LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    let scale = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    if x < -87.3 { 0.0 } else { value * scale }
}

/// `x · sigmoid(x)`.
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The exact gelu `x · Φ(x)`, with erf by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7).
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_8;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let erf = 1.0 - p * t * exp(-z * z);
    0.5 * x * (1.0 + erf.copysign(x))
}

/// Runs a function compiled for the processor's vector units where it has them. The body must be an
/// `#[inline(always)]` function for this to have an effect.
macro_rules! vectorised {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) = $body:path) => {
        $(#[$doc])*
        fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $type),*) {
                    $body($($arg),*);
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has both features.
                    unsafe { wide($($arg),*) };
                    return;
                }
            }
            $body($($arg),*);
        }
    };
}
pub(super) use vectorised;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_and_gelus_are_accurate_in_single_precision() {
        for i in -2000..2000 {
            let x = i as f32 / 25.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found - expected).abs() <= expected * 4e-7, "exp({x}) = {found}, not {expected}");
        }
        assert_eq!(exp(-200.0), 0.0);
        for (x, expected) in [(0.0, 0.0), (1.0, 0.841_344_7), (-1.0, -0.158_655_3), (3.0, 2.995_950_2)] {
            assert!((gelu(x) - expected).abs() < 1e-6, "gelu({x}) = {}", gelu(x));
        }
        assert!((silu(2.0) - 1.761_594_2).abs() < 1e-6);
    }
}
