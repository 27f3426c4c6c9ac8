//! Two-dimensional convolution.

use candle_core::{DType, Device, Tensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::Weight;
use super::cpu::{self, Place, SharedBuffer};
use crate::error::{Error, Result};

/// `x` `[B, in, H, W]`, `weight` `[out, in, kh, kw]`, `bias` `[out]` to `[B, out, H', W']`.
///
/// # Errors
/// When the shapes do not go together.
pub fn conv2d(
    x: &Tensor,
    weight: &Weight,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    if cpu::is_narrow_on_cpu(x) {
        let bias = bias.map(|bias| bias.to_dtype(DType::F32)).transpose()?;
        let wide = conv2d(&x.to_dtype(DType::F32)?, weight, bias.as_ref(), stride, padding)?;
        return Ok(wide.to_dtype(x.dtype())?);
    }
    let weight = &weight.wide(x.dtype())?;
    if !cpu::is_f32_on_cpu(&[x, weight]) {
        let y = x.conv2d(weight, padding, stride, 1, 1)?;
        return Ok(match bias {
            Some(bias) => y.broadcast_add(&bias.reshape((1, bias.elem_count(), 1, 1))?)?,
            None => y,
        });
    }
    let shape = Shape::new(x, weight, stride, padding)?;
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let bias = bias.map(|b| b.flatten_all()?.to_vec1::<f32>()).transpose()?.unwrap_or_default();
    let out = cpu::with_slices([&x, &weight], |[x, weight]| {
        let mut out = vec![0.0; shape.batch * shape.out * shape.places()];
        if shape.is_pointwise() {
            pointwise(&shape, x, weight, &bias, &mut out);
        } else {
            im2col(&shape, x, weight, &bias, &mut out);
        }
        Ok(out)
    })?;
    Ok(Tensor::from_vec(out, (shape.batch, shape.out, shape.out_height, shape.out_width), &Device::Cpu)?)
}

/// Sizes of one convolution.
struct Shape {
    batch: usize,
    input: usize,
    height: usize,
    width: usize,
    out: usize,
    kernel_height: usize,
    kernel_width: usize,
    out_height: usize,
    out_width: usize,
    stride: usize,
    padding: usize,
}

impl Shape {
    fn new(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Self> {
        let (batch, input, height, width) = x.dims4()?;
        let (out, channels, kernel_height, kernel_width) = weight.dims4()?;
        let fits = height + 2 * padding >= kernel_height && width + 2 * padding >= kernel_width;
        if channels != input || stride == 0 || !fits {
            let expected =
                format!("[B, {channels}, ≥{kernel_height}, ≥{kernel_width}] with padding {padding}");
            return Err(Error::shape("input of a convolution", expected, x.dims()));
        }
        Ok(Self {
            batch,
            input,
            height,
            width,
            out,
            kernel_height,
            kernel_width,
            out_height: (height + 2 * padding - kernel_height) / stride + 1,
            out_width: (width + 2 * padding - kernel_width) / stride + 1,
            stride,
            padding,
        })
    }

    /// Places of one output channel.
    fn places(&self) -> usize {
        self.out_height * self.out_width
    }

    fn is_pointwise(&self) -> bool {
        (self.kernel_height, self.kernel_width, self.stride, self.padding) == (1, 1, 1, 0)
    }
}

/// Puts the bias into every place, so that the product can be added to it.
fn fill_bias(shape: &Shape, bias: &[f32], out: &mut [f32]) {
    if bias.is_empty() || shape.places() == 0 {
        return;
    }
    for (channel, bias) in out.chunks_mut(shape.places()).zip(bias.iter().cycle()) {
        channel.fill(*bias);
    }
}

/// A 1×1 convolution is a matrix product over channels.
fn pointwise(shape: &Shape, x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    fill_bias(shape, bias, out);
    let places = shape.places();
    let dst = SharedBuffer::new(out);
    for image in 0..shape.batch {
        let row_major = |offset, width| Place { offset, row_stride: width, column_stride: 1 };
        // SAFETY: one image after the other; each writes its own part of `out`.
        unsafe {
            cpu::product(
                (shape.out, places, shape.input),
                dst,
                row_major(image * shape.out * places, places),
                !bias.is_empty(),
                weight,
                row_major(0, shape.input),
                x,
                row_major(image * shape.input * places, places),
                cpu::threads(shape.out, places, shape.input),
            );
        }
    }
}

/// Bytes of unfolded input that a thread works on at a time.
const COLUMN_BYTES: usize = 4 << 20;

/// Unfolds a stretch of output places into a `in·kh·kw × places` matrix and multiplies the weights with
/// it, stretch by stretch on all threads: the unfolded input never exists as a whole.
fn im2col(shape: &Shape, x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    fill_bias(shape, bias, out);
    let depth = shape.input * shape.kernel_height * shape.kernel_width;
    let places = shape.places();
    let workers = rayon::current_num_threads().max(1);
    // Rows of the output a thread takes at a time: as its buffer allows, but with work for everybody.
    let by_memory = (COLUMN_BYTES / 4 / (depth * shape.out_width).max(1)).max(1);
    let by_workers = (shape.batch * shape.out_height).div_ceil(workers).max(1);
    let rows = by_memory.min(by_workers).min(shape.out_height.max(1));
    let per_image = shape.out_height.div_ceil(rows);
    let image_size = shape.input * shape.height * shape.width;
    let dst = SharedBuffer::new(out);
    (0..shape.batch * per_image).into_par_iter().for_each_init(Vec::new, |columns, job| {
        let (image, first) = (job / per_image, job % per_image * rows);
        let count = rows.min(shape.out_height - first);
        let width = count * shape.out_width;
        columns.resize(depth * width, 0.0);
        let x = x.get(image * image_size..(image + 1) * image_size).unwrap_or_default();
        unfold(shape, x, first, count, columns);
        // SAFETY: every job writes the columns of its own rows of its own image.
        unsafe {
            cpu::product(
                (shape.out, width, depth),
                dst,
                Place {
                    offset: image * shape.out * places + first * shape.out_width,
                    row_stride: places,
                    column_stride: 1,
                },
                !bias.is_empty(),
                weight,
                Place { offset: 0, row_stride: depth, column_stride: 1 },
                columns,
                Place { offset: 0, row_stride: width, column_stride: 1 },
                Parallelism::None,
            );
        }
    });
}

/// Fills `columns` `[in·kh·kw, count·out_width]` for the output rows from `first`.
fn unfold(shape: &Shape, x: &[f32], first: usize, count: usize, columns: &mut [f32]) {
    let width = count * shape.out_width;
    let plane = shape.height * shape.width;
    if width == 0 {
        return;
    }
    for (index, target) in columns.chunks_mut(width).enumerate() {
        let kx = index % shape.kernel_width;
        let ky = index / shape.kernel_width % shape.kernel_height;
        let channel = index / (shape.kernel_width * shape.kernel_height);
        for (row, target) in target.chunks_mut(shape.out_width).enumerate() {
            let y = ((first + row) * shape.stride + ky).wrapping_sub(shape.padding);
            if y >= shape.height {
                target.fill(0.0);
                continue;
            }
            let start = channel * plane + y * shape.width;
            let source = x.get(start..start + shape.width).unwrap_or_default();
            unfold_row(target, source, kx, shape.stride, shape.padding);
        }
    }
}

/// `target[i] = source[i·stride + kx − padding]`, zero outside.
fn unfold_row(target: &mut [f32], source: &[f32], kx: usize, stride: usize, padding: usize) {
    if stride == 1 {
        let left = padding.saturating_sub(kx).min(target.len());
        let skip = kx.saturating_sub(padding);
        let count = source.len().saturating_sub(skip).min(target.len() - left);
        let (before, rest) = target.split_at_mut(left);
        let (middle, after) = rest.split_at_mut(count);
        before.fill(0.0);
        middle.copy_from_slice(source.get(skip..skip + count).unwrap_or_default());
        after.fill(0.0);
    } else {
        for (i, value) in target.iter_mut().enumerate() {
            let at = (i * stride + kx).wrapping_sub(padding);
            *value = source.get(at).copied().unwrap_or(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_stride_and_padding_matches_the_plain_convolution() {
        let cases = [
            // batch, in, height, width, out, kernel, stride, padding
            (1, 3, 5, 7, 4, 3, 1, 1),
            (2, 4, 8, 8, 6, 3, 2, 1),
            (1, 4, 9, 5, 2, 3, 2, 0),
            (2, 5, 6, 4, 3, 1, 1, 0),
            (1, 2, 4, 4, 3, 1, 2, 0),
            (1, 2, 6, 6, 3, 5, 1, 2),
            (1, 1, 1, 1, 1, 3, 1, 1),
            (1, 8, 40, 33, 8, 3, 1, 1),
        ];
        for (batch, input, height, width, out, kernel, stride, padding) in cases {
            let values = |shape: (usize, usize, usize, usize)| {
                let n = shape.0 * shape.1 * shape.2 * shape.3;
                let values: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
                Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
            };
            let x = values((batch, input, height, width));
            let weight = values((out, input, kernel, kernel));
            let bias = Tensor::arange(0f32, out as f32, &Device::Cpu).unwrap();
            let expected = x.conv2d(&weight, padding, stride, 1, 1).unwrap();
            let expected = expected.broadcast_add(&bias.reshape((1, out, 1, 1)).unwrap()).unwrap();
            let found = conv2d(&x, &weight.into(), Some(&bias), stride, padding).unwrap();
            assert_eq!(found.dims(), expected.dims());
            let worst = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
            assert!(worst.to_scalar::<f32>().unwrap() < 1e-4);
        }
    }

    #[test]
    fn a_picture_smaller_than_the_kernel_is_an_error() {
        let x = Tensor::zeros((1, 1, 2, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let weight = Tensor::zeros((1, 1, 3, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(conv2d(&x, &weight.into(), None, 1, 0).is_err());
    }
}
