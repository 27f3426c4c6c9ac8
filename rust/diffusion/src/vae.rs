//! Pictures to latents and back.

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::latent_format::LatentFormat;
use crate::models::taesd::Taesd;
use crate::models::vae::AutoEncoder;
use crate::tiled::{TileSize, tiled};
use crate::weights::Weights;

/// A picture autoencoder. Cheap to clone; the network is built when first used.
#[derive(Debug, Clone)]
pub struct Vae {
    weights: Weights,
    kind: Kind,
    network: Arc<OnceLock<Network>>,
}

/// Which network the tensors are of.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The autoencoder of latent diffusion.
    Full,
    /// A tiny one, whose latents are in a format's model space.
    Tiny(&'static LatentFormat),
}

#[derive(Debug)]
enum Network {
    Full(Box<AutoEncoder>),
    Tiny { encoder: Option<Taesd>, decoder: Taesd, format: &'static LatentFormat, device: Device },
}

impl Network {
    fn factor(&self) -> usize {
        match self {
            Self::Full(network) => network.factor(),
            Self::Tiny { .. } => 8,
        }
    }

    fn latent_channels(&self) -> usize {
        match self {
            Self::Full(network) => network.latent_channels(),
            Self::Tiny { format, .. } => format.channels,
        }
    }

    fn device(&self) -> &Device {
        match self {
            Self::Full(network) => network.device(),
            Self::Tiny { device, .. } => device,
        }
    }

    /// Pixels `[B, 3, H, W]` in −1..1 to the unscaled latent.
    fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        match self {
            Self::Full(network) => {
                let moments = network.moments(pixels)?;
                Ok(moments.narrow(1, 0, moments.dim(1)? / 2)?)
            }
            Self::Tiny { encoder: Some(encoder), format, .. } => {
                format.process_out(&encoder.forward(&pixels.affine(0.5, 0.5)?)?)
            }
            Self::Tiny { encoder: None, .. } => Err(Error::MissingTensor {
                key: "encoder.0.weight".to_string(),
                what: "the tiny autoencoder (it has only a decoder)".to_string(),
            }),
        }
    }

    /// Unscaled latent to pixels, about −1..1.
    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        match self {
            Self::Full(network) => network.decode(latent),
            Self::Tiny { decoder, format, .. } => {
                Ok(decoder.forward(&format.process_in(latent)?)?.affine(2.0, -1.0)?)
            }
        }
    }
}

impl Vae {
    /// From the tensors of a VAE (`encoder.…`, `decoder.…`, without a prefix).
    pub fn new(weights: Weights) -> Self {
        Self { weights, kind: Kind::Full, network: Arc::default() }
    }

    /// A tiny autoencoder from its halves' layers (`encoder.0.weight`, `decoder.1.weight`, …), whose latents are in the
    /// model space of `format`.
    pub fn tiny(weights: Weights, format: &'static LatentFormat) -> Self {
        Self { weights, kind: Kind::Tiny(format), network: Arc::default() }
    }

    /// The tensors.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    fn network(&self) -> Result<&Network> {
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        let network = match self.kind {
            Kind::Full => Network::Full(Box::new(AutoEncoder::new(&self.weights)?)),
            Kind::Tiny(format) => Network::Tiny {
                encoder: match self.weights.has("encoder") {
                    true => Some(Taesd::encoder(&self.weights.sub("encoder"))?),
                    false => None,
                },
                decoder: Taesd::decoder(&self.weights.sub("decoder"))?,
                format,
                device: self.weights.device().clone(),
            },
        };
        Ok(self.network.get_or_init(|| network))
    }

    /// Pixels a latent place stands for, each way.
    ///
    /// # Errors
    /// When the file is not a whole VAE.
    pub fn factor(&self) -> Result<usize> {
        Ok(self.network()?.factor())
    }

    /// Channels of a latent.
    ///
    /// # Errors
    /// When the file is not a whole VAE.
    pub fn latent_channels(&self) -> Result<usize> {
        Ok(self.network()?.latent_channels())
    }

    /// Pictures `[B, H, W, 3]` in 0..1 to latents `[B, C, h, w]` (mean of the distribution, unscaled).
    /// Pictures are cut, centred, to a multiple of the factor; a fourth channel is left out.
    ///
    /// # Errors
    /// When the picture is smaller than one latent place, or the file has no encoder.
    pub fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        let network = self.network()?;
        let pixels = self.prepare(pixels, network)?;
        // One picture at a time: a batch costs memory and no time.
        self.by_picture(&pixels, |picture| network.encode(picture))
    }

    /// Latents `[B, C, h, w]` (unscaled) to pictures `[B, h·f, w·f, 3]` in 0..1, on the CPU.
    ///
    /// # Errors
    /// When the latent has another number of channels.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let network = self.network()?;
        self.check_latent(latent, network)?;
        let latent = latent.to_device(network.device())?;
        to_pictures(&self.by_picture(&latent, |latent| network.decode(latent))?)
    }

    /// As [`Self::encode`], in tiles of `size` pixels: three passes whose seams lie at different places.
    /// `done` hears of each tile.
    ///
    /// # Errors
    /// As [`Self::encode`], and when `done` stops the work.
    pub fn encode_tiled(
        &self,
        pixels: &Tensor,
        size: TileSize,
        mut done: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Tensor> {
        let network = self.network()?;
        let factor = network.factor();
        // Tiles have to be whole latent places.
        let whole = |n: usize| n.next_multiple_of(factor);
        let shapes = size.three_shapes().map(|size| {
            let overlap = whole(size.overlap);
            let side = |side: usize| whole(side.max(overlap + 1));
            TileSize { height: side(size.height), width: side(size.width), overlap }
        });
        let pixels = self.prepare(pixels, network)?;
        self.by_tile(&pixels, shapes, 1.0 / factor as f64, |tile| network.encode(tile), &mut done)
    }

    /// As [`Self::decode`], in tiles of `size` latent places: three passes whose seams lie at different
    /// places. `done` hears of each tile.
    ///
    /// # Errors
    /// As [`Self::decode`], and when `done` stops the work.
    pub fn decode_tiled(
        &self,
        latent: &Tensor,
        size: TileSize,
        mut done: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Tensor> {
        let network = self.network()?;
        self.check_latent(latent, network)?;
        let latent = latent.to_device(network.device())?;
        let (shapes, scale) = (size.three_shapes(), network.factor() as f64);
        to_pictures(&self.by_tile(&latent, shapes, scale, |tile| network.decode(tile), &mut done)?)
    }

    /// About how many bytes the widest layers need for one picture of so many pixels at once: a residual block at full
    /// size, which holds its input of twice the channels, a normed copy of it and what comes out.
    pub fn working_bytes(&self, pixels: usize) -> u64 {
        const NUMBERS: u64 = 6;
        let key = ["decoder.conv_out.weight", "encoder.conv_in.weight"];
        let shape = key.iter().find_map(|key| self.weights.dict().shape(key));
        let channels = shape.and_then(|shape| shape.iter().take(2).max().copied()).unwrap_or(64) as u64;
        let each = self.weights.dtype().size_in_bytes() as u64;
        (pixels as u64).saturating_mul(channels * NUMBERS * each)
    }

    /// To `[B, 3, H, W]` in −1..1, cut to a multiple of the factor, on the device.
    fn prepare(&self, pixels: &Tensor, network: &Network) -> Result<Tensor> {
        let (_, height, width, channels) = pixels.dims4()?;
        let factor = network.factor();
        let (h, w) = (height / factor * factor, width / factor * factor);
        if h == 0 || w == 0 || channels < 3 {
            let expected = format!("[B, H, W, 3] of at least {factor}×{factor}");
            return Err(Error::shape("picture", expected, pixels.dims()));
        }
        let pixels = pixels.narrow(1, (height - h) / 2, h)?.narrow(2, (width - w) / 2, w)?.narrow(3, 0, 3)?;
        let pixels = pixels.permute((0, 3, 1, 2))?.to_dtype(DType::F32)?.contiguous()?;
        Ok(pixels.affine(2.0, -1.0)?.to_device(network.device())?)
    }

    fn check_latent(&self, latent: &Tensor, network: &Network) -> Result<()> {
        let channels = network.latent_channels();
        match latent.dims() {
            [_, c, h, w] if *c == channels && *h > 0 && *w > 0 => Ok(()),
            found => Err(Error::shape("latent", format!("[B, {channels}, h, w]"), found)),
        }
    }

    /// The mean of a pass with each shape of tiles. `done` hears how many tiles of all are finished.
    fn by_tile(
        &self,
        batch: &Tensor,
        shapes: [TileSize; 3],
        scale: f64,
        f: impl Fn(&Tensor) -> Result<Tensor>,
        done: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Tensor> {
        let (pictures, _, height, width) = batch.dims4()?;
        let total = shapes.iter().map(|shape| shape.count(height, width)).sum::<usize>() * pictures;
        let mut finished = 0;
        self.by_picture(batch, |picture| {
            let mut sum: Option<Tensor> = None;
            for shape in shapes {
                let pass = tiled(picture, shape, scale, &f, || {
                    finished += 1;
                    done(finished, total)
                })?;
                sum = Some(match sum {
                    Some(sum) => (sum + pass)?,
                    None => pass,
                });
            }
            let sum = sum.ok_or_else(|| Error::invalid("shapes of tiles", 0, "at least one"))?;
            Ok((sum / shapes.len() as f64)?)
        })
    }

    fn by_picture(&self, batch: &Tensor, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let parts = (0..batch.dim(0)?)
            .map(|i| Ok(f(&batch.narrow(0, i, 1)?.contiguous()?)?.to_dtype(DType::F32)?))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&parts, 0)?)
    }
}

/// `[B, 3, H, W]` in −1..1 to `[B, H, W, 3]` in 0..1 on the CPU.
fn to_pictures(pixels: &Tensor) -> Result<Tensor> {
    let pixels = pixels.affine(0.5, 0.5)?.clamp(0f32, 1f32)?;
    Ok(pixels.permute((0, 2, 3, 1))?.contiguous()?.to_device(&Device::Cpu)?)
}
