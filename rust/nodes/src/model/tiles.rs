//! Large pictures and latents in overlapping tiles.

use rushlight_runtime::NodeError;

use crate::picture::pixels::{tensor, values};
use crate::prelude::*;

/// How a plane is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiling {
    /// Rows of a tile.
    pub(crate) height: usize,
    /// Columns of a tile.
    pub(crate) width: usize,
    /// Rows and columns that neighbours share; their results are faded into each other over it.
    pub(crate) overlap: usize,
}

/// Starts of tiles along one direction.
fn starts(length: usize, tile: usize, overlap: usize) -> Vec<usize> {
    if length <= tile {
        return vec![0];
    }
    let step = tile.saturating_sub(overlap).max(1);
    (0..length - overlap.min(length - 1)).step_by(step).map(|start| start.min(length - tile)).collect()
}

impl Tiling {
    /// How many tiles a plane is cut into.
    pub(crate) fn count(&self, height: usize, width: usize) -> usize {
        starts(height, self.height, self.overlap).len() * starts(width, self.width, self.overlap).len()
    }

    /// Runs `process` on tiles of `input` `[1, C, H, W]`; it gives `[1, C', s·h, s·w]`, where the scale `s` is
    /// `numerator / denominator`.
    ///
    /// # Errors
    /// What `process` fails with.
    pub(crate) fn run(
        &self,
        input: &Tensor,
        (numerator, denominator): (usize, usize),
        mut process: impl FnMut(&Tensor) -> Result<Tensor, NodeError>,
    ) -> Result<Tensor, NodeError> {
        let (_, _, height, width) = input.dims4()?;
        let scaled = |length: usize| length * numerator / denominator;
        let (out_height, out_width) = (scaled(height), scaled(width));
        let fade = scaled(self.overlap).max(1);
        let mut sum: Vec<f32> = Vec::new();
        let mut weight = vec![0f32; out_height * out_width];
        let mut channels = 0;
        for top in starts(height, self.height, self.overlap) {
            for left in starts(width, self.width, self.overlap) {
                let rows = self.height.min(height - top);
                let columns = self.width.min(width - left);
                let tile = input.narrow(2, top, rows)?.narrow(3, left, columns)?.contiguous()?;
                let result = process(&tile)?;
                let (_, count, tile_height, tile_width) = result.dims4()?;
                channels = count;
                sum.resize(channels * out_height * out_width, 0.0);
                let data = values(&result)?;
                let edge = |place: usize, length: usize| {
                    ((place + 1).min(length - place) as f32 / fade as f32).min(1.0)
                };
                for y in 0..tile_height {
                    let out_y = scaled(top) + y;
                    for x in 0..tile_width {
                        let out_x = scaled(left) + x;
                        if out_y >= out_height || out_x >= out_width {
                            continue;
                        }
                        let share = edge(y, tile_height) * edge(x, tile_width);
                        let place = out_y * out_width + out_x;
                        if let Some(weight) = weight.get_mut(place) {
                            *weight += share;
                        }
                        for channel in 0..channels {
                            let from = data
                                .get((channel * tile_height + y) * tile_width + x)
                                .copied()
                                .unwrap_or(0.0);
                            if let Some(to) = sum.get_mut(channel * out_height * out_width + place) {
                                *to += from * share;
                            }
                        }
                    }
                }
            }
        }
        for plane in sum.chunks_mut((out_height * out_width).max(1)) {
            for (value, weight) in plane.iter_mut().zip(&weight) {
                *value /= weight.max(f32::MIN_POSITIVE);
            }
        }
        tensor(sum, &[1, channels, out_height, out_width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_plane_and_keep_its_values() {
        let data: Vec<f32> = (0..2 * 37 * 53).map(|i| (i % 101) as f32).collect();
        let input = tensor(data, &[1, 2, 37, 53]).unwrap();
        let tiling = Tiling { height: 16, width: 20, overlap: 4 };
        let mut calls = 0;
        let output = tiling
            .run(&input, (2, 1), |tile| {
                calls += 1;
                let (_, _, h, w) = tile.dims4()?;
                Ok(tile.upsample_nearest2d(h * 2, w * 2)?)
            })
            .unwrap();
        assert_eq!(calls, tiling.count(37, 53));
        let expected = values(&input.upsample_nearest2d(74, 106).unwrap()).unwrap();
        let worst =
            values(&output).unwrap().iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "{worst}");
    }
}
