//! Masks and areas brought to the latent's size.

use candle_core::{DType, Device, Tensor};

use crate::conditioning::Area;
use crate::{Error, Result};

/// A rectangle of the latent, in latent pixels, inside the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Top edge.
    pub y: usize,
    /// Left edge.
    pub x: usize,
    /// Height.
    pub height: usize,
    /// Width.
    pub width: usize,
}

impl Rect {
    /// The whole picture.
    pub fn whole(height: usize, width: usize) -> Self {
        Self { y: 0, x: 0, height, width }
    }

    /// The rectangle cut to a picture; `None` where nothing is left.
    fn within(self, height: usize, width: usize) -> Option<Self> {
        let (y, x) = (self.y.min(height), self.x.min(width));
        let rect = Self { y, x, height: self.height.min(height - y), width: self.width.min(width - x) };
        (rect.height > 0 && rect.width > 0).then_some(rect)
    }

    /// Whether `other` lies inside.
    pub fn contains(&self, other: &Self) -> bool {
        self.y <= other.y
            && self.x <= other.x
            && self.y + self.height >= other.y + other.height
            && self.x + self.width >= other.x + other.width
    }

    /// Number of pixels.
    pub fn size(&self) -> usize {
        self.height * self.width
    }

    /// Cuts the rectangle out of the last two dimensions.
    pub fn crop(&self, tensor: &Tensor) -> Result<Tensor> {
        let rank = tensor.rank();
        if rank < 2 {
            return Err(Error::shape("latent", "[…, H, W]", tensor.dims()));
        }
        Ok(tensor.narrow(rank - 2, self.y, self.height)?.narrow(rank - 1, self.x, self.width)?)
    }

    /// Pads the last two dimensions with zeros to a picture, the rectangle in its place.
    pub fn place(&self, tensor: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        let rank = tensor.rank();
        let below = height.saturating_sub(self.y + self.height);
        let right = width.saturating_sub(self.x + self.width);
        let rows = tensor.pad_with_zeros(rank - 2, self.y, below)?;
        Ok(rows.pad_with_zeros(rank - 1, self.x, right)?)
    }
}

/// Latent pixels of an area on a latent of `height` × `width`; `None` if it lies outside.
pub fn resolve_area(area: Area, height: usize, width: usize) -> Option<Rect> {
    let rect = match area {
        Area::Latent { height, width, y, x } => Rect { y, x, height, width },
        Area::Percent { height: h, width: w, y, x } => {
            // `as` saturates: negative and NaN become 0, infinity the largest.
            let scale = |part: f64, size: usize| (part * size as f64).round_ties_even() as usize;
            Rect {
                y: scale(y, height),
                x: scale(x, width),
                height: scale(h, height).max(1),
                width: scale(w, width).max(1),
            }
        }
    };
    rect.within(height, width)
}

/// Bounding box of what a mask `[B, H, W]` covers in any picture, at least 8 each way where the
/// picture allows.
pub fn mask_bounds(mask: &Tensor) -> Result<Rect> {
    const MIN_SIDE: usize = 8;
    let (_, height, width) = mask.dims3()?;
    let rows = mask.abs()?.max(0)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let mut bounds: Option<(usize, usize, usize, usize)> = None;
    for (y, row) in rows.iter().enumerate() {
        for (x, value) in row.iter().enumerate() {
            if *value > 0.0 {
                let (top, left, bottom, right) = bounds.unwrap_or((y, x, y, x));
                bounds = Some((top.min(y), left.min(x), bottom.max(y), right.max(x)));
            }
        }
    }
    let (top, left, bottom, right) = bounds.unwrap_or((0, 0, 0, 0));
    let rect = Rect {
        y: top,
        x: left,
        height: (bottom - top + 1).max(MIN_SIDE),
        width: (right - left + 1).max(MIN_SIDE),
    };
    Ok(rect.within(height, width).unwrap_or(Rect::whole(height, width)))
}

/// Weights `[1, 1, h, w]` of an area without a mask: edges inside the picture fade linearly over a
/// quarter of the side, at most 8 pixels.
pub fn feather(rect: &Rect, height: usize, width: usize, device: &Device) -> Result<Tensor> {
    let side = |length: usize, start: usize, total: usize| -> Vec<f32> {
        let over = 8.min(length / 4);
        let mut weights = vec![1.0f32; length];
        for t in 0..over {
            let weight = (1.0 / over as f32) * (t + 1) as f32;
            if start != 0
                && let Some(value) = weights.get_mut(t)
            {
                *value *= weight;
            }
            if start + length < total
                && let Some(value) = weights.get_mut(length - 1 - t)
            {
                *value *= weight;
            }
        }
        weights
    };
    let rows = Tensor::from_vec(side(rect.height, rect.y, height), (1, 1, rect.height, 1), device)?;
    let columns = Tensor::from_vec(side(rect.width, rect.x, width), (1, 1, 1, rect.width), device)?;
    Ok(rows.broadcast_mul(&columns)?)
}

/// Bilinear resize of the last two dimensions (half-pixel centres, no antialiasing), as
/// `torch.nn.functional.interpolate(mode="bilinear")`.
pub fn resize_bilinear(tensor: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let rank = tensor.rank();
    if rank < 2 {
        return Err(Error::shape("mask", "[…, H, W]", tensor.dims()));
    }
    let mut shape = tensor.dims().to_vec();
    let (from_height, from_width) = (tensor.dim(rank - 2)?, tensor.dim(rank - 1)?);
    if (from_height, from_width) == (height, width) {
        return Ok(tensor.clone());
    }
    let planes = tensor.elem_count() / (from_height * from_width).max(1);
    shape.truncate(rank - 2);
    shape.extend([height, width]);
    // Two products with sparse matrices: rows, then columns.
    let flat = tensor.to_dtype(DType::F32)?.reshape((planes, from_height, from_width))?;
    let rows = interpolation(from_height, height, tensor.device())?;
    let columns = interpolation(from_width, width, tensor.device())?;
    let rows = rows.broadcast_left(planes)?.contiguous()?;
    let columns = columns.t()?.broadcast_left(planes)?.contiguous()?;
    let resized = rows.matmul(&flat.contiguous()?)?.matmul(&columns)?;
    Ok(resized.reshape(shape)?.to_dtype(tensor.dtype())?)
}

/// The matrix `[to, from]` of linear interpolation along one side.
fn interpolation(from: usize, to: usize, device: &Device) -> Result<Tensor> {
    let scale = from as f32 / to as f32;
    let last = from.saturating_sub(1);
    let mut matrix = vec![0f32; from * to];
    for (row, weights) in matrix.chunks_exact_mut(from.max(1)).enumerate() {
        let place = ((row as f32 + 0.5) * scale - 0.5).max(0.0);
        let low = (place as usize).min(last);
        let weight = place - low as f32;
        if let Some(value) = weights.get_mut(low) {
            *value += 1.0 - weight;
        }
        if let Some(value) = weights.get_mut((low + 1).min(last)) {
            *value += weight;
        }
    }
    Ok(Tensor::from_vec(matrix, (to, from), device)?)
}

/// Repeats a batch in order until it has `batch` entries, or cuts it.
pub fn repeat_to_batch(tensor: &Tensor, batch: usize) -> Result<Tensor> {
    let have = tensor.dim(0)?;
    if have == batch {
        return Ok(tensor.clone());
    }
    if have == 0 {
        return Err(Error::shape("batch", "at least one entry", tensor.dims()));
    }
    if have > batch {
        return Ok(tensor.narrow(0, 0, batch)?);
    }
    let copies = vec![tensor; batch.div_ceil(have)];
    Ok(Tensor::cat(&copies, 0)?.narrow(0, 0, batch)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_edges_inside_the_picture_fade() -> Result<()> {
        let rect = Rect { y: 0, x: 4, height: 8, width: 8 };
        let weights = feather(&rect, 16, 12, &Device::Cpu)?.squeeze(0)?.squeeze(0)?.to_vec2::<f32>()?;
        assert_eq!(weights[0], [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(weights[7][2], 0.5);
        Ok(())
    }

    #[test]
    fn an_area_outside_the_picture_is_nothing() {
        let area = Area::Latent { height: 8, width: 8, y: 20, x: 0 };
        assert_eq!(resolve_area(area, 16, 16), None);
        let area = Area::Percent { height: 0.0, width: f64::NAN, y: 0.5, x: -3.0 };
        assert_eq!(resolve_area(area, 16, 16), Some(Rect { y: 8, x: 0, height: 1, width: 1 }));
    }

    #[test]
    fn halving_averages_and_doubling_interpolates() -> Result<()> {
        let line = Tensor::new(&[[0f32, 1., 2., 3.]], &Device::Cpu)?;
        assert_eq!(resize_bilinear(&line, 1, 2)?.to_vec2::<f32>()?, [[0.5, 2.5]]);
        let doubled = resize_bilinear(&line, 1, 8)?.to_vec2::<f32>()?;
        assert_eq!(doubled, [[0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]]);
        Ok(())
    }
}
