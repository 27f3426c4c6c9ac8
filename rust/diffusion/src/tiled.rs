//! Networks over pictures too large for them at once: tile by tile, the seams blended.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};

/// How a picture is cut into tiles, in places of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileSize {
    /// Height of a tile.
    pub height: usize,
    /// Width of a tile.
    pub width: usize,
    /// Places that neighbours share; less than either side.
    pub overlap: usize,
}

impl TileSize {
    /// Square tiles.
    ///
    /// # Errors
    /// When the overlap is not smaller than the side.
    pub fn square(side: usize, overlap: usize) -> Result<Self> {
        if side == 0 || overlap >= side {
            return Err(Error::invalid("overlap of tiles", overlap, format!("0 to {side}, without the end")));
        }
        Ok(Self { height: side, width: side, overlap })
    }

    /// How many tiles a picture is cut into.
    pub fn count(&self, height: usize, width: usize) -> usize {
        starts(height, self.height, self.overlap).len() * starts(width, self.width, self.overlap).len()
    }

    /// Half and double the sides, and the tile itself: passes whose seams lie at different places, to be
    /// averaged.
    pub fn three_shapes(self) -> [Self; 3] {
        let half = |side: usize| (side / 2).max(self.overlap + 1);
        [
            Self { height: half(self.height), width: self.width * 2, ..self },
            Self { height: self.height * 2, width: half(self.width), ..self },
            self,
        ]
    }
}

/// Applies `f` to tiles of `x` `[1, C, H, W]` and blends the results into `[1, C', H·scale, W·scale]`, on
/// the CPU in `f32`. `scale` is a whole number or one over one. `done` is called after each tile; an error from it
/// stops the work.
///
/// # Errors
/// When `f` or `done` fails, or a result has another size than `scale` says.
pub fn tiled(
    x: &Tensor,
    size: TileSize,
    scale: f64,
    mut f: impl FnMut(&Tensor) -> Result<Tensor>,
    mut done: impl FnMut() -> Result<()>,
) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let scaled = |n: usize| (n as f64 * scale).round() as usize;
    let rows = starts(height, size.height, size.overlap);
    let columns = starts(width, size.width, size.overlap);
    let (out_height, out_width) = (scaled(height), scaled(width));
    let mut sums: Vec<f32> = Vec::new();
    let mut weights = vec![0f32; out_height * out_width];
    let mut channels = 0;
    for (&y, &x0) in rows.iter().flat_map(|y| columns.iter().map(move |x| (y, x))) {
        let (h, w) = (size.height.min(height - y), size.width.min(width - x0));
        let tile = f(&x.narrow(2, y, h)?.narrow(3, x0, w)?.contiguous()?)?;
        let (_, c, tile_height, tile_width) = tile.dims4()?;
        if (tile_height, tile_width) != (scaled(h), scaled(w)) {
            let expected = format!("[1, C, {}, {}]", scaled(h), scaled(w));
            return Err(Error::shape("result of a tile", expected, tile.dims()));
        }
        if sums.is_empty() {
            channels = c;
            sums = vec![0.0; c * out_height * out_width];
        }
        let values = tile.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let feather = scaled(size.overlap).max(1);
        let place = Blend {
            top: scaled(y),
            left: scaled(x0),
            height: tile_height,
            width: tile_width,
            feather,
            out_width,
            plane: out_height * out_width,
        };
        place.add(&values, &mut sums, &mut weights);
        done()?;
    }
    for plane in sums.chunks_mut((out_height * out_width).max(1)) {
        plane.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum /= weight.max(f32::MIN_POSITIVE));
    }
    Ok(Tensor::from_vec(sums, (1, channels, out_height, out_width), &Device::Cpu)?)
}

/// Where tiles start so that they cover `length`: `overlap` before the end of the one before, the last one as short as
/// what is left.
fn starts(length: usize, tile: usize, overlap: usize) -> Vec<usize> {
    if length <= tile {
        return vec![0];
    }
    let step = (tile - overlap.min(tile - 1)).max(1);
    (0..length - overlap.min(length - 1)).step_by(step).collect()
}

/// One tile's place in the result.
struct Blend {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
    feather: usize,
    out_width: usize,
    plane: usize,
}

impl Blend {
    /// Adds a tile, its edges faded in linearly, and its weights.
    fn add(&self, values: &[f32], sums: &mut [f32], weights: &mut [f32]) {
        // Both edges of a tile that is shorter than two of them.
        let edge = |from: usize| from.min(self.feather) as f32 / self.feather as f32;
        let fade = |at: usize, length: usize| edge(at + 1) * edge(length - at);
        for (row, values) in values.chunks(self.width.max(1)).enumerate() {
            let (channel, y) = (row / self.height.max(1), row % self.height.max(1));
            let start = (self.top + y) * self.out_width + self.left;
            let target = sums.get_mut(channel * self.plane + start..).unwrap_or_default();
            for (x, (sum, value)) in target.iter_mut().zip(values).enumerate() {
                let weight = fade(y, self.height) * fade(x, self.width);
                *sum += value * weight;
                if channel == 0
                    && let Some(total) = weights.get_mut(start + x)
                {
                    *total += weight;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_any_size_put_a_picture_together_again() {
        let x =
            Tensor::arange(0f32, 2.0 * 23.0 * 17.0, &Device::Cpu).unwrap().reshape((1, 2, 23, 17)).unwrap();
        for (side, overlap) in [(8, 3), (5, 0), (64, 8), (17, 16)] {
            let size = TileSize::square(side, overlap).unwrap();
            for size in size.three_shapes() {
                let mut calls = 0;
                let done = || {
                    calls += 1;
                    Ok(())
                };
                let out =
                    tiled(&x, size, 2.0, |t| Ok(t.upsample_nearest2d(t.dim(2)? * 2, t.dim(3)? * 2)?), done);
                let out = out.unwrap();
                let expected = x.upsample_nearest2d(46, 34).unwrap();
                let worst = (out - expected).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
                assert!(worst.to_scalar::<f32>().unwrap() < 1e-2, "{size:?}");
                assert_eq!(calls, size.count(23, 17));
            }
        }
    }

    /// As measured, a picture of 264x200 pixels in tiles of 128 that share 32.
    #[test]
    fn the_last_tile_is_what_is_left() {
        assert_eq!(starts(264, 128, 32), [0, 96, 192]);
        assert_eq!(starts(200, 128, 32), [0, 96]);
        assert_eq!(starts(224, 128, 32), [0, 96]);
        assert_eq!(starts(128, 128, 32), [0]);
    }

    #[test]
    fn an_overlap_as_large_as_the_tile_is_an_error() {
        assert!(TileSize::square(8, 8).is_err());
    }
}
