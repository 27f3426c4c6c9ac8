//! T2I-Adapter (Mou et al., arXiv 2302.08453) of Stable Diffusion 1.x, full and light: features of a control picture,
//! added to the outputs of a UNet's input blocks. Named as TencentARC's and diffusers' files name it.

use candle_core::{DType, Device, Tensor};

use super::layers::{Conv2d, pack_pixels};
use crate::conditioning::{ControlInput, ControlModel};
use crate::error::{Error, Result};
use crate::model::ControlResiduals;
use crate::weights::Weights;

/// Pixels each way that a latent place stands for.
const PIXELS: usize = 8;
/// Input blocks a level has; features belong to the last of each.
const BLOCKS: usize = 3;

/// The network.
#[derive(Debug)]
pub struct Adapter {
    conv_in: Option<Conv2d>,
    levels: Vec<Level>,
    /// Channels of the control picture.
    channels: usize,
    dtype: DType,
    device: Device,
}

/// Residual blocks of one size of feature map.
#[derive(Debug)]
struct Level {
    halves: bool,
    in_conv: Option<Conv2d>,
    blocks: Vec<(Conv2d, Conv2d)>,
    out_conv: Option<Conv2d>,
}

impl Adapter {
    /// Reads the network whose keys are directly under `weights` (`conv_in`, `body.N.resnets.M.block1`).
    ///
    /// # Errors
    /// When the tensors are not of an adapter for Stable Diffusion 1.x.
    pub fn new(weights: &Weights) -> Result<Self> {
        let optional = |part: &Weights| match part.contains("weight") {
            true => Conv2d::same(part).map(Some),
            false => Ok(None),
        };
        let conv_in = optional(&weights.sub("conv_in"))?;
        let inputs = match conv_in {
            Some(_) => weights.dim("conv_in.weight", 1)?,
            None => weights.dim("body.0.in_conv.weight", 1)?,
        };
        let channels = inputs / (PIXELS * PIXELS);
        if !matches!(channels, 1 | 3) || inputs % (PIXELS * PIXELS) != 0 {
            return Err(Error::Unsupported {
                what: format!("a T2I adapter of {inputs} input channels"),
                why: "adapters for Stable Diffusion 1.x (64 or 192 channels) are read".to_string(),
            });
        }
        let levels = (0..weights.count("body"))
            .map(|i| {
                let level = weights.sub(format_args!("body.{i}"));
                let blocks = (0..level.count("resnets"))
                    .map(|j| {
                        let block = level.sub(format_args!("resnets.{j}"));
                        Ok((Conv2d::same(&block.sub("block1"))?, Conv2d::same(&block.sub("block2"))?))
                    })
                    .collect::<Result<Vec<_>>>()?;
                Ok(Level {
                    halves: i > 0,
                    in_conv: optional(&level.sub("in_conv"))?,
                    blocks,
                    out_conv: optional(&level.sub("out_conv"))?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { conv_in, levels, channels, dtype: weights.dtype(), device: weights.device().clone() })
    }

    /// Features of a control picture `[B, 3, 8h, 8w]`, one a level.
    ///
    /// # Errors
    /// When the picture is smaller than the network needs.
    pub fn features(&self, hint: &Tensor) -> Result<Vec<Tensor>> {
        let hint = hint.to_device(&self.device)?.to_dtype(self.dtype)?;
        let hint = match self.channels {
            1 => hint.mean_keepdim(1)?,
            _ => hint,
        };
        let mut x = pack_pixels(&hint, PIXELS)?;
        if let Some(conv) = &self.conv_in {
            x = conv.forward(&x)?;
        }
        let mut features = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            x = level.forward(&x)?;
            features.push(x.clone());
        }
        Ok(features)
    }
}

impl Level {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = if self.halves { halved(x)? } else { x.clone() };
        if let Some(conv) = &self.in_conv {
            x = conv.forward(&x)?;
        }
        for (first, second) in &self.blocks {
            x = (second.forward(&first.forward(&x)?.relu()?)? + x)?;
        }
        match &self.out_conv {
            Some(conv) => conv.forward(&x),
            None => Ok(x),
        }
    }
}

/// Means of two by two places; the last row and column of an odd side are means of what is there.
fn halved(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    // Repeating the edge gives the mean of what is there.
    let x = x.pad_with_same(2, 0, height % 2)?.pad_with_same(3, 0, width % 2)?;
    Ok(x.avg_pool2d(2)?)
}

impl ControlModel for Adapter {
    fn forward(&self, input: &ControlInput<'_>) -> Result<ControlResiduals> {
        let mut residuals = ControlResiduals::default();
        for (level, feature) in self.features(input.hint)?.into_iter().enumerate() {
            residuals.input.resize((level + 1) * BLOCKS - 1, None);
            residuals.input.push(Some(feature.to_dtype(input.x.dtype())?));
        }
        Ok(residuals)
    }
}
