//! The transformer blocks between the UNet's residual blocks: self-attention over the places of a
//! picture, cross-attention to the text.

use std::sync::Arc;

use candle_core::Tensor;
use parking_lot::Mutex;

use super::hypertile::Tiling;
use super::layers::{GroupNorm, LayerNorm, Linear};
use crate::error::Result;
use crate::ops::{Mask, attention, attention_received};
use crate::weights::Weights;

/// How many attention heads a width is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// A fixed number (SD 1.x: 8).
    Count(usize),
    /// A fixed size of each (SD 2.x, SDXL: 64).
    Size(usize),
}

impl Heads {
    /// Number of heads for a width.
    pub fn count(self, width: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Size(size) => (width / size.max(1)).max(1),
        }
    }
}

/// What a forward pass changes inside self-attention.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttentionOptions<'a> {
    /// Self-attention passes its values through (perturbed-attention guidance).
    pub identity: bool,
    /// Self-attention in tiles.
    pub tiling: Option<Tiling<'a>>,
    /// Where to leave how much each place is looked at (self-attention guidance).
    pub record: Option<&'a AttentionRecord>,
}

/// How much each place of the middle block is looked at: the weights of its last self-attention, averaged over heads
/// and summed over queries, `[B, H, W]`.
#[derive(Debug, Clone, Default)]
pub struct AttentionRecord(Arc<Mutex<Option<Tensor>>>);

impl AttentionRecord {
    /// Takes what was recorded.
    pub fn take(&self) -> Option<Tensor> {
        self.0.lock().take()
    }

    fn put(&self, weights: Tensor) {
        *self.0.lock() = Some(weights);
    }
}

impl PartialEq for AttentionRecord {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A stack of transformer blocks over the places of a feature map, with projections in and out.
#[derive(Debug)]
pub struct SpatialTransformer {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<Block>,
    proj_out: Linear,
}

impl SpatialTransformer {
    /// Reads the stack. The projections may be matrices or 1×1 convolutions; both are the same
    /// product over channels.
    ///
    /// # Errors
    /// When a tensor is missing.
    pub fn new(weights: &Weights, heads: Heads) -> Result<Self> {
        let proj_in = Linear::new(&weights.sub("proj_in"))?;
        let heads = heads.count(proj_in.out_features());
        let transformer_blocks = (0..weights.count("transformer_blocks"))
            .map(|i| Block::new(&weights.sub(format_args!("transformer_blocks.{i}")), heads))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            norm: GroupNorm::new(&weights.sub("norm"), 1e-6)?,
            proj_in,
            transformer_blocks,
            proj_out: Linear::new(&weights.sub("proj_out"))?,
        })
    }

    /// `x` `[B, C, H, W]`, `context` `[B, T, D]`.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn forward(&self, x: &Tensor, context: Option<&Tensor>, options: AttentionOptions) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let tokens = self.norm.forward(x)?.reshape((batch, channels, height * width))?.transpose(1, 2)?;
        let mut tokens = self.proj_in.forward(&tokens.contiguous()?)?;
        for block in &self.transformer_blocks {
            if let Some(record) = options.record {
                let looked_at = block.looked_at(&tokens)?;
                record.put(looked_at.reshape((batch, height, width))?);
            }
            tokens = block.forward(&tokens, context, options)?;
        }
        let tokens = self.proj_out.forward(&tokens)?;
        let out = tokens.transpose(1, 2)?.contiguous()?.reshape((batch, channels, height, width))?;
        Ok((out + x)?)
    }
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl Block {
    fn new(weights: &Weights, heads: usize) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(&weights.sub("norm1"))?,
            attn1: Attention::new(&weights.sub("attn1"), heads)?,
            norm2: LayerNorm::new(&weights.sub("norm2"))?,
            attn2: Attention::new(&weights.sub("attn2"), heads)?,
            norm3: LayerNorm::new(&weights.sub("norm3"))?,
            ff: FeedForward::new(&weights.sub("ff"))?,
        })
    }

    /// How much the self-attention looks at each place: `[B, H·W]`.
    fn looked_at(&self, x: &Tensor) -> Result<Tensor> {
        self.attn1.looked_at(&self.norm1.forward(x)?)
    }

    fn forward(&self, x: &Tensor, context: Option<&Tensor>, options: AttentionOptions) -> Result<Tensor> {
        let y = self.norm1.forward(x)?;
        let x = (self.attn1.self_attention(&y, options)? + x)?;
        let y = self.norm2.forward(&x)?;
        let x = (self.attn2.forward(&y, context.unwrap_or(&y))? + x)?;
        Ok((self.ff.forward(&self.norm3.forward(&x)?)? + x)?)
    }
}

/// Multi-head attention, `to_q`, `to_k`, `to_v`, `to_out.0`.
#[derive(Debug)]
struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

impl Attention {
    fn new(weights: &Weights, heads: usize) -> Result<Self> {
        Ok(Self {
            to_q: Linear::new(&weights.sub("to_q"))?,
            to_k: Linear::new(&weights.sub("to_k"))?,
            to_v: Linear::new(&weights.sub("to_v"))?,
            to_out: Linear::new(&weights.sub("to_out.0"))?,
            heads,
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let (q, k, v) = (self.to_q.forward(x)?, self.to_k.forward(context)?, self.to_v.forward(context)?);
        self.to_out.forward(&attention(&q, &k, &v, self.heads, Mask::None)?)
    }

    /// How much self-attention over `x` looks at each place: `[B, T]`.
    fn looked_at(&self, x: &Tensor) -> Result<Tensor> {
        attention_received(&self.to_q.forward(x)?, &self.to_k.forward(x)?, self.heads)
    }

    fn self_attention(&self, x: &Tensor, options: AttentionOptions) -> Result<Tensor> {
        if options.identity {
            return self.to_out.forward(&self.to_v.forward(x)?);
        }
        match options.tiling.map(|tiling| tiling.draw()).filter(|tiles| !tiles.is_whole()) {
            Some(tiles) => tiles.join(&self.forward(&tiles.cut(x)?, &tiles.cut_along(x)?)?),
            None => self.forward(x, x),
        }
    }
}

/// A gated MLP: half of the first layer's output gates the other half through a gelu (Shazeer,
/// arXiv 2002.05202).
#[derive(Debug)]
struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    fn new(weights: &Weights) -> Result<Self> {
        Ok(Self { proj: Linear::new(&weights.sub("net.0.proj"))?, out: Linear::new(&weights.sub("net.2"))? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.out.forward(&crate::ops::geglu(&self.proj.forward(x)?)?)
    }
}
