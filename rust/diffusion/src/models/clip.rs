//! The text encoder of CLIP (Radford et al., arXiv 2103.00020): a causal transformer over 77
//! tokens, named as in the Hugging Face layout. OpenCLIP files are renamed into it first (see
//! `weights::layouts`).

use candle_core::{DType, Device, Tensor};

use super::layers::{Embedding, LayerNorm, Linear};
use crate::error::{Error, Result};
use crate::ops::{Mask, attention};
use crate::tokenizer::{END, Piece, Token};
use crate::weights::Weights;

/// The function between the two layers of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpActivation {
    /// `x · sigmoid(1.702 x)`: OpenAI's CLIP-L.
    QuickGelu,
    /// The exact (erf) gelu: OpenCLIP's models.
    Gelu,
}

/// Which hidden state becomes the conditioning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Layers left out at the end: 0 is the last layer, 1 the one before it.
    pub skip: usize,
    /// Whether the final norm is applied to that state.
    pub normed: bool,
}

/// What the encoder makes of a batch of chunks.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The chosen hidden state, `[B, T, C]`.
    pub hidden: Tensor,
    /// The last, normed state at the first end token, after the projection if there is one: `[B, P]`.
    pub pooled: Tensor,
}

/// A CLIP text encoder.
#[derive(Debug)]
pub struct ClipText {
    token_embedding: Embedding,
    /// `[places, C]`
    position_embedding: Tensor,
    layers: Vec<Layer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
}

impl ClipText {
    /// Reads the tensors under `text_model.` and `text_projection.`.
    ///
    /// # Errors
    /// When a tensor is missing or the shapes do not go together.
    pub fn new(weights: &Weights, activation: MlpActivation) -> Result<Self> {
        let model = weights.sub("text_model");
        let embeddings = model.sub("embeddings");
        let width = embeddings.dim("token_embedding.weight", 1)?;
        // Every published CLIP text encoder has heads of 64.
        let heads = (width / 64).max(1);
        let layers = (0..model.count("encoder.layers"))
            .map(|i| Layer::new(&model.sub(format_args!("encoder.layers.{i}")), heads, activation))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            token_embedding: Embedding::new(&embeddings.sub("token_embedding"))?,
            position_embedding: embeddings.get("position_embedding.weight")?,
            layers,
            final_layer_norm: LayerNorm::new(&model.sub("final_layer_norm"))?,
            text_projection: match weights.contains("text_projection.weight") {
                true => Some(Linear::new(&weights.sub("text_projection"))?),
                false => None,
            },
        })
    }

    /// Width of a token, `C`.
    pub fn width(&self) -> usize {
        self.position_embedding.dim(1).unwrap_or(0)
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Encodes chunks of equal length.
    ///
    /// # Errors
    /// When chunks are empty, of different lengths or longer than the model has places, or a vector
    /// has another width.
    pub fn encode(&self, chunks: &[Vec<Token>], output: Output) -> Result<Encoded> {
        let mut x = self.embed(chunks)?;
        let wanted = self.layers.len().saturating_sub(output.skip);
        let mut chosen = x.clone();
        for (done, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, Mask::Causal)?;
            if done + 1 == wanted {
                chosen = x.clone();
            }
        }
        let last = self.final_layer_norm.forward(&x)?;
        let hidden = match (output.normed, output.skip) {
            (true, 0) => last.clone(),
            (true, _) => self.final_layer_norm.forward(&chosen)?,
            (false, _) => chosen,
        };
        let rows = chunks
            .iter()
            .enumerate()
            .map(|(row, chunk)| {
                let end = chunk.iter().position(|token| token.id() == Some(END)).unwrap_or(0);
                Ok(last.get(row)?.get(end)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let pooled = Tensor::stack(&rows, 0)?;
        let pooled = match &self.text_projection {
            Some(projection) => projection.forward(&pooled)?,
            None => pooled,
        };
        Ok(Encoded { hidden, pooled })
    }

    /// Tokens and their places, `[B, T, C]`.
    fn embed(&self, chunks: &[Vec<Token>]) -> Result<Tensor> {
        let places = chunks.first().map_or(0, Vec::len);
        let (rows, width) = (self.token_embedding.rows(), self.token_embedding.width());
        if places == 0 || places > self.position_embedding.dim(0)? || chunks.iter().any(|c| c.len() != places)
        {
            let found: Vec<usize> = chunks.iter().map(Vec::len).collect();
            let expected = format!("equal lengths of 1 to {}", self.position_embedding.dim(0)?);
            return Err(Error::shape("prompt chunks", expected, &found));
        }
        let mut ids = Vec::with_capacity(chunks.len() * places);
        let mut vectors = Vec::new();
        for (row, chunk) in chunks.iter().enumerate() {
            for (place, token) in chunk.iter().enumerate() {
                match &token.piece {
                    Piece::Id(id) if (*id as usize) < rows => ids.push(*id),
                    Piece::Id(id) => {
                        return Err(Error::invalid("token id", id, format!("0..{rows}")));
                    }
                    Piece::Vector(vector) => {
                        if vector.elem_count() != width {
                            let what = "textual inversion vector";
                            return Err(Error::shape(what, format!("[{width}]"), vector.dims()));
                        }
                        ids.push(0);
                        vectors.push((row, place, vector));
                    }
                }
            }
        }
        let ids = Tensor::from_vec(ids, (chunks.len(), places), self.token_embedding.device())?;
        let mut x = self.token_embedding.forward(&ids)?;
        for (row, place, vector) in vectors {
            let vector = vector.to_dtype(x.dtype())?.to_device(x.device())?.reshape((1, 1, width))?;
            x = x.slice_assign(&[row..row + 1, place..place + 1, 0..width], &vector)?;
        }
        Ok(x.broadcast_add(&self.position_embedding.narrow(0, 0, places)?)?)
    }

    /// Dtype the encoder computes in.
    pub fn dtype(&self) -> DType {
        self.position_embedding.dtype()
    }

    /// Device of the weights.
    pub fn device(&self) -> &Device {
        self.position_embedding.device()
    }
}

/// One block of CLIP's transformers: self-attention and an MLP, each after a norm and added to its input.
#[derive(Debug)]
pub(super) struct Layer {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    activation: MlpActivation,
}

impl Layer {
    /// Reads the block in the Hugging Face layout.
    ///
    /// # Errors
    /// When a tensor is missing.
    pub(super) fn new(weights: &Weights, heads: usize, activation: MlpActivation) -> Result<Self> {
        let linear = |name: &str| Linear::new(&weights.sub(name));
        Ok(Self {
            layer_norm1: LayerNorm::new(&weights.sub("layer_norm1"))?,
            q_proj: linear("self_attn.q_proj")?,
            k_proj: linear("self_attn.k_proj")?,
            v_proj: linear("self_attn.v_proj")?,
            out_proj: linear("self_attn.out_proj")?,
            layer_norm2: LayerNorm::new(&weights.sub("layer_norm2"))?,
            fc1: linear("mlp.fc1")?,
            fc2: linear("mlp.fc2")?,
            heads,
            activation,
        })
    }

    /// `x` `[B, T, C]` to the same shape.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub(super) fn forward(&self, x: &Tensor, mask: Mask) -> Result<Tensor> {
        let y = self.layer_norm1.forward(x)?;
        let (q, k, v) = (self.q_proj.forward(&y)?, self.k_proj.forward(&y)?, self.v_proj.forward(&y)?);
        let y = attention(&q, &k, &v, self.heads, mask)?;
        let x = (x + self.out_proj.forward(&y)?)?;
        let y = self.fc1.forward(&self.layer_norm2.forward(&x)?)?;
        let y = match self.activation {
            MlpActivation::QuickGelu => (&y * candle_nn::ops::sigmoid(&(&y * 1.702)?)?)?,
            MlpActivation::Gelu => y.gelu_erf()?,
        };
        Ok((x + self.fc2.forward(&y)?)?)
    }
}
