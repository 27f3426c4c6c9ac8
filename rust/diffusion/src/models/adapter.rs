//! T2I-Adapter (Mou et al., arXiv 2302.08453) of Stable Diffusion 1.x, full and light, and of SDXL: features of a control
//! picture, added to the outputs of a UNet's blocks. Named as TencentARC's and diffusers' files name it.

use candle_core::{DType, Device, Tensor};

use super::layers::{Conv2d, pack_pixels};
use crate::conditioning::{ControlInput, ControlModel};
use crate::error::{Error, Result};
use crate::model::ControlResiduals;
use crate::weights::Weights;

/// A family of UNets, and what differs between the adapters for them.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Family {
    StableDiffusion1,
    StableDiffusionXl,
}

impl Family {
    /// By the channels that the first convolution takes: those of a picture of one or three channels, packed.
    fn of_inputs(inputs: usize) -> Option<(Self, usize)> {
        [Self::StableDiffusion1, Self::StableDiffusionXl].into_iter().find_map(|family| {
            let packed = family.pixels() * family.pixels();
            [1, 3].into_iter().find(|channels| channels * packed == inputs).map(|channels| (family, channels))
        })
    }

    /// Pixels each way that are packed into one place.
    fn pixels(self) -> usize {
        match self {
            Self::StableDiffusion1 => 8,
            Self::StableDiffusionXl => 16,
        }
    }

    /// Whether a level works on half the size of the one before it.
    fn halves(self, level: usize) -> bool {
        match self {
            Self::StableDiffusion1 => level > 0,
            Self::StableDiffusionXl => level == 2,
        }
    }

    /// The input block that a level's feature is added to; `None` for the middle block.
    fn input_block(self, level: usize) -> Option<usize> {
        match self {
            // The last of each level's.
            Self::StableDiffusion1 => Some(3 * level + 2),
            // The first level, which has no attention, gives its halved map.
            Self::StableDiffusionXl => [3, 5, 8].get(level).copied(),
        }
    }
}

/// The network.
#[derive(Debug)]
pub struct Adapter {
    family: Family,
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
    /// When the tensors are of no adapter that we know.
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
        let (family, channels) = Family::of_inputs(inputs).ok_or_else(|| Error::Unsupported {
            what: format!("a T2I adapter of {inputs} input channels"),
            why: "adapters for Stable Diffusion 1.x (64 or 192 channels) and SDXL (256 or 768) are read"
                .to_string(),
        })?;
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
                    halves: family.halves(i),
                    in_conv: optional(&level.sub("in_conv"))?,
                    blocks,
                    out_conv: optional(&level.sub("out_conv"))?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            family,
            conv_in,
            levels,
            channels,
            dtype: weights.dtype(),
            device: weights.device().clone(),
        })
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
        let pixels = self.family.pixels();
        let (_, _, height, width) = hint.dims4()?;
        // A latent of odd sides ends within a place.
        let missing = |side: usize| side.next_multiple_of(pixels) - side;
        let hint = hint.pad_with_same(2, 0, missing(height))?.pad_with_same(3, 0, missing(width))?;
        let mut x = pack_pixels(&hint, pixels)?;
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
            let feature = Some(feature.to_dtype(input.x.dtype())?);
            match self.family.input_block(level) {
                Some(block) => {
                    residuals.input.resize(block, None);
                    residuals.input.push(feature);
                }
                None => residuals.middle.push(feature),
            }
        }
        Ok(residuals)
    }
}
