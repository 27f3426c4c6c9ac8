//! ESRGAN and Real-ESRGAN upscalers (Wang et al., arXiv 1809.00219, arXiv 2107.10833): residual-in-
//! residual dense blocks, then upsampling. Three layouts of names are read.

use candle_core::Tensor;

use super::layers::{Conv2d, pack_pixels};
use crate::error::{Error, Result};
use crate::weights::{StateDict, Weights};

/// The network.
#[derive(Debug)]
pub struct Esrgan {
    conv_first: Conv2d,
    body: Vec<[DenseBlock; 3]>,
    conv_body: Conv2d,
    conv_up: Vec<Conv2d>,
    conv_hr: Conv2d,
    conv_last: Conv2d,
    /// Pixels each way that are packed into channels before the first convolution.
    shuffle: usize,
}

impl Esrgan {
    /// Reads the network from any of the layouts, after [`canonical`].
    ///
    /// # Errors
    /// When a tensor is missing or has an impossible shape.
    pub fn new(weights: &Weights) -> Result<Self> {
        let conv = |name: &str| Conv2d::same(&weights.sub(name));
        let body = (0..weights.count("body"))
            .map(|i| {
                let dense = |j: usize| DenseBlock::new(&weights.sub(format_args!("body.{i}.rdb{j}")));
                Ok([dense(1)?, dense(2)?, dense(3)?])
            })
            .collect::<Result<Vec<_>>>()?;
        let conv_up = (1..)
            .map(|i| weights.sub(format_args!("conv_up{i}")))
            .take_while(|part| part.contains("weight"))
            .map(|part| Conv2d::same(&part))
            .collect::<Result<Vec<_>>>()?;
        let conv_last = conv("conv_last")?;
        let inputs = weights.dim("conv_first.weight", 1)?;
        let shuffle = match inputs / conv_last.out_channels().max(1) {
            4 => 2,
            16 => 4,
            _ => 1,
        };
        Ok(Self {
            conv_first: conv("conv_first")?,
            body,
            conv_body: conv("conv_body")?,
            conv_up,
            conv_hr: conv("conv_hr")?,
            conv_last,
            shuffle,
        })
    }

    /// Factor of the picture's sides.
    pub fn scale(&self) -> f64 {
        (1u64 << self.conv_up.len().min(16)) as f64 / self.shuffle as f64
    }

    /// `[B, 3, H, W]` in 0..1 to `[B, 3, H·scale, W·scale]`.
    ///
    /// # Errors
    /// When the channels do not match.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let x = pack_pixels(x, self.shuffle)?;
        let first = self.conv_first.forward(&x)?;
        let mut h = first.clone();
        for block in &self.body {
            let mut y = h.clone();
            for dense in block {
                y = dense.forward(&y)?;
            }
            h = ((y * 0.2)? + h)?;
        }
        let mut h = (first + self.conv_body.forward(&h)?)?;
        for conv in &self.conv_up {
            let (_, _, height, width) = h.dims4()?;
            h = leaky(&conv.forward(&h.upsample_nearest2d(height * 2, width * 2)?)?)?;
        }
        let out = self.conv_last.forward(&leaky(&self.conv_hr.forward(&h)?)?)?;
        // Padding for the packing is cut off again.
        let size = |side: usize| (side as f64 * self.scale()) as usize;
        Ok(out.narrow(2, 0, size(height))?.narrow(3, 0, size(width))?)
    }
}

/// Five convolutions, each of which sees all before it.
#[derive(Debug)]
struct DenseBlock {
    convs: Vec<Conv2d>,
}

impl DenseBlock {
    fn new(weights: &Weights) -> Result<Self> {
        let convs = (1..=5)
            .map(|i| Conv2d::same(&weights.sub(format_args!("conv{i}"))))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { convs })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut seen = x.clone();
        let mut last = x.clone();
        for (index, conv) in self.convs.iter().enumerate() {
            last = conv.forward(&seen)?;
            if index + 1 < self.convs.len() {
                seen = Tensor::cat(&[&seen, &leaky(&last)?], 1)?;
            }
        }
        Ok(((last * 0.2)? + x)?)
    }
}

fn leaky(x: &Tensor) -> Result<Tensor> {
    Ok(candle_nn::ops::leaky_relu(x, 0.2)?)
}

/// Any published layout in the one of Real-ESRGAN (`conv_first`, `body.N.rdbM.convK`, `conv_up1`, …).
///
/// # Errors
/// When the tensors are not of an ESRGAN.
pub fn canonical(dict: &StateDict) -> Result<StateDict> {
    if dict.contains("conv_first.weight") && dict.has_prefix("body.") {
        return Ok(dict.clone());
    }
    if dict.has_prefix("RRDB_trunk.") {
        return Ok(dict.rename(|name| Some(from_first_release(name))));
    }
    if dict.contains("model.0.weight") && dict.has_prefix("model.1.sub.") {
        return sequence(dict);
    }
    let first: Vec<&str> = dict.iter().take(3).map(|(name, _)| name).collect();
    Err(Error::Unsupported {
        what: "this upscale model".to_string(),
        why: format!("only ESRGAN and Real-ESRGAN files are read; its tensors start with {first:?}"),
    })
}

/// The first release's own names.
fn from_first_release(name: &str) -> String {
    let tables = [
        ("RRDB_trunk.", "body."),
        ("trunk_conv.", "conv_body."),
        ("upconv", "conv_up"),
        ("HRconv.", "conv_hr."),
    ];
    let renamed = tables.iter().fold(name.to_string(), |name, (from, to)| name.replace(from, to));
    renamed.replace(".RDB", ".rdb")
}

/// The numbered layout: `model.0`, the blocks in `model.1.sub`, then upsampling convolutions, and the
/// last two.
fn sequence(dict: &StateDict) -> Result<StateDict> {
    let mut numbers: Vec<usize> = dict
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("model.")?.strip_suffix(".weight")?.parse().ok())
        .filter(|&number: &usize| number > 1)
        .collect();
    numbers.sort_unstable();
    let [ups @ .., hr, last] = numbers.as_slice() else {
        let key = "model.N.weight".to_string();
        return Err(Error::MissingTensor { key, what: "the upscale model".to_string() });
    };
    let trunk = dict.count_blocks("model.1.sub.").saturating_sub(1);
    Ok(dict.rename(|name| {
        let rest = name.strip_prefix("model.")?;
        if let Some(rest) = rest.strip_prefix("1.sub.") {
            let (block, rest) = rest.split_once('.')?;
            return Some(match block.parse() == Ok(trunk) {
                true => format!("conv_body.{rest}"),
                // `RDB1.conv1.0.weight`: each convolution is a sequence of its own.
                false => format!("body.{block}.{}", rest.replace("RDB", "rdb").replace(".0.", ".")),
            });
        }
        let (number, leaf) = rest.split_once('.')?;
        let number: usize = number.parse().ok()?;
        let module = match number {
            0 => "conv_first".to_string(),
            n if n == *hr => "conv_hr".to_string(),
            n if n == *last => "conv_last".to_string(),
            n => format!("conv_up{}", ups.iter().position(|&up| up == n)? + 1),
        };
        Some(format!("{module}.{leaf}"))
    }))
}
