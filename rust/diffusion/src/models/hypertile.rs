//! HyperTile (tfernd/HyperTile, MIT): self-attention of a UNet in tiles, which are drawn anew for every block so that
//! seams wander.
//!
//! Measured of the program that users' pictures are compared with, and kept: tiles are rectangles of a picture whose
//! height and width are exchanged, what they look at are as many consecutive tokens, and the last of the possible tilings
//! is never drawn. The draws go on with the generator of the start noise.

use std::sync::Arc;

use candle_core::Tensor;
use parking_lot::Mutex;

use crate::error::Result;
use crate::model::Hypertile;
use crate::rng::TorchGenerator;

/// Pixels a latent place stands for.
const PIXELS: usize = 8;
/// Smallest side of a tile in pixels.
const LEAST: usize = 32;

/// The generator that a run draws its tilings from.
#[derive(Clone)]
pub struct TileDraws(Arc<Mutex<TorchGenerator>>);

impl TileDraws {
    /// What comes after `drawn` numbers of start noise.
    pub fn after_noise(seed: u64, drawn: usize) -> Self {
        let mut generator = TorchGenerator::new(seed);
        generator.randn(drawn);
        Self(Arc::new(Mutex::new(generator)))
    }

    fn below(&self, count: usize) -> usize {
        self.0.lock().randint(0, count as i64, 1).first().map_or(0, |drawn| *drawn as usize)
    }
}

impl std::fmt::Debug for TileDraws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TileDraws")
    }
}

impl PartialEq for TileDraws {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// How the self-attention of one level is tiled.
#[derive(Debug, Clone, Copy)]
pub struct Tiling<'a> {
    hypertile: &'a Hypertile,
    draws: Option<&'a TileDraws>,
    /// How often the sides of the latent were halved.
    depth: usize,
    /// Height and width of the map.
    size: (usize, usize),
}

impl<'a> Tiling<'a> {
    /// For a map of `size` in a network over a `latent`; `None` where it is left whole.
    pub fn new(
        hypertile: &'a Hypertile,
        draws: Option<&'a TileDraws>,
        latent: (usize, usize),
        size: (usize, usize),
    ) -> Option<Self> {
        if size.0 == 0 || size.1 == 0 {
            return None;
        }
        // Each level halves the sides.
        let depth = (latent.0 / size.0).max(1).ilog2() as usize;
        (depth <= hypertile.max_depth).then_some(Self { hypertile, draws, depth, size })
    }

    /// The tiles of the next block.
    pub fn draw(&self) -> Tiles {
        let (height, width) = (self.size.1, self.size.0);
        let rows = self.count(height);
        Tiles { height, width, rows, columns: self.count(width) }
    }

    /// Into how many tiles a side is cut.
    fn count(&self, side: usize) -> usize {
        let least = self.hypertile.tile_size.max(LEAST) / PIXELS;
        let least = if self.hypertile.scale_depth { least << self.depth.min(16) } else { least };
        let options: Vec<usize> = (least.min(side)..=side)
            .filter(|tile| *tile > 0 && side.is_multiple_of(*tile))
            .map(|tile| side / tile)
            .take(self.hypertile.swap_size.max(1))
            .collect();
        let drawn = match self.draws {
            Some(draws) if options.len() > 1 => draws.below(options.len() - 1),
            _ => 0,
        };
        options.get(drawn).copied().unwrap_or(1)
    }
}

/// A cut of a picture's tokens into equal tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    /// Height of the picture in tokens.
    pub height: usize,
    /// Width of the picture in tokens.
    pub width: usize,
    /// Tiles from top to bottom; divides the height.
    pub rows: usize,
    /// Tiles from left to right; divides the width.
    pub columns: usize,
}

impl Tiles {
    /// Whether there is only one tile.
    pub fn is_whole(self) -> bool {
        self.rows * self.columns <= 1
    }

    /// `[B, H·W, C]` to `[B·rows·columns, tile, C]`: a rectangle's tokens to a tile.
    pub fn cut(self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, channels) = x.dims3()?;
        let (h, w) = (self.height / self.rows, self.width / self.columns);
        let x = x.reshape(&[batch, self.rows, h, self.columns, w, channels][..])?;
        let x = x.permute((0, 1, 3, 2, 4, 5))?.contiguous()?;
        Ok(x.reshape((batch * self.rows * self.columns, h * w, channels))?)
    }

    /// `[B, H·W, C]` to `[B·rows·columns, tile, C]`: consecutive tokens to a tile.
    pub fn cut_along(self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, channels) = x.dims3()?;
        let tiles = self.rows * self.columns;
        Ok(x.contiguous()?.reshape((batch * tiles, tokens / tiles, channels))?)
    }

    /// The inverse of [`Self::cut`].
    pub fn join(self, x: &Tensor) -> Result<Tensor> {
        let (tiles, _, channels) = x.dims3()?;
        let batch = tiles / (self.rows * self.columns);
        let (h, w) = (self.height / self.rows, self.width / self.columns);
        let x = x.reshape(&[batch, self.rows, self.columns, h, w, channels][..])?;
        let x = x.permute((0, 1, 3, 2, 4, 5))?.contiguous()?;
        Ok(x.reshape((batch, self.height * self.width, channels))?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn hypertile(tile_size: usize, swap_size: usize) -> Hypertile {
        Hypertile { tile_size, swap_size, max_depth: 0, scale_depth: false }
    }

    #[test]
    fn tiles_are_at_least_as_large_as_asked_for_and_deep_levels_stay_whole() {
        let hypertile = hypertile(128, 3);
        let draws = TileDraws::after_noise(3, 16);
        let tiling = Tiling::new(&hypertile, Some(&draws), (64, 96), (64, 96)).unwrap();
        for _ in 0..20 {
            let tiles = tiling.draw();
            assert!(96 / tiles.rows >= 16 && 64 / tiles.columns >= 16, "{tiles:?}");
            assert!(96 % tiles.rows == 0 && 64 % tiles.columns == 0);
        }
        assert!(Tiling::new(&hypertile, None, (64, 96), (32, 48)).is_none());
        let small = Tiling::new(&hypertile, Some(&draws), (8, 8), (8, 8)).unwrap();
        assert!(small.draw().is_whole());
    }

    /// As recorded: a picture of 128x96 pixels with four numbers of tiles to choose from.
    #[test]
    fn draws_go_on_behind_the_start_noise() {
        let hypertile = hypertile(32, 4);
        for (seed, rows, columns) in [(7, 4, 2), (8, 2, 3), (9, 2, 2), (10, 2, 2)] {
            let draws = TileDraws::after_noise(seed, 4 * 12 * 16);
            let tiles = Tiling::new(&hypertile, Some(&draws), (12, 16), (12, 16)).unwrap().draw();
            assert_eq!((tiles.rows, tiles.columns), (rows, columns), "seed {seed}");
        }
    }

    #[test]
    fn a_tile_is_a_rectangle_and_comes_back_to_its_place() -> Result<()> {
        let tiles = Tiles { height: 2, width: 4, rows: 1, columns: 2 };
        let x = Tensor::arange(0f32, 8.0, &Device::Cpu)?.reshape((1, 8, 1))?;
        let numbers = |x: &Tensor| -> Result<Vec<f32>> { Ok(x.flatten_all()?.to_vec1()?) };
        let cut = tiles.cut(&x)?;
        assert_eq!(numbers(&cut)?, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        assert_eq!(numbers(&tiles.join(&cut)?)?, numbers(&x)?);
        let along = tiles.cut_along(&x)?;
        assert_eq!((along.dims(), numbers(&along)?), (&[2, 4, 1][..], numbers(&x)?));
        Ok(())
    }
}
