//! From prompts to conditioning: one or two text encoders with their tokenizers, the choice of the
//! hidden state, and the weighting of tokens.

use std::sync::{Arc, OnceLock};

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::models::clip::{ClipText, Encoded, MlpActivation, Output};
use crate::tokenizer::{Chunks, Embeddings, NoEmbeddings, Token, Tokenizer};
use crate::weights::{PatchSet, Weights};

/// Which family's rules the text encoders follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipFamily {
    /// CLIP-L: last layer, normed.
    StableDiffusion1,
    /// OpenCLIP-H: the layer before the last, normed.
    StableDiffusion2,
    /// CLIP-L and CLIP-G: the layers before the last, not normed, side by side; pooled from CLIP-G.
    StableDiffusionXl,
    /// CLIP-G alone.
    StableDiffusionXlRefiner,
}

/// One text encoder. The network is built when it is first used and shared by clones.
#[derive(Debug, Clone)]
pub struct TextEncoder {
    /// `"l"`, `"g"` or `"h"`: how users and LoRA files tell encoders apart.
    pub name: &'static str,
    tokenizer: Tokenizer,
    weights: Weights,
    activation: MlpActivation,
    network: Arc<OnceLock<ClipText>>,
}

impl TextEncoder {
    /// CLIP-L, from tensors in the Hugging Face layout (`text_model.…`).
    pub fn clip_l(weights: Weights) -> Self {
        Self::new("l", Tokenizer::clip_l(), weights, MlpActivation::QuickGelu)
    }

    /// CLIP-G of SDXL, in the Hugging Face layout.
    pub fn clip_g(weights: Weights) -> Self {
        Self::new("g", Tokenizer::open_clip(), weights, MlpActivation::Gelu)
    }

    /// OpenCLIP-H of SD 2.x, in the Hugging Face layout.
    pub fn clip_h(weights: Weights) -> Self {
        Self::new("h", Tokenizer::open_clip(), weights, MlpActivation::Gelu)
    }

    fn new(name: &'static str, tokenizer: Tokenizer, weights: Weights, activation: MlpActivation) -> Self {
        Self { name, tokenizer, weights, activation, network: Arc::default() }
    }

    /// The tensors, in the Hugging Face layout.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    fn network(&self) -> Result<&ClipText> {
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        let network = ClipText::new(&self.weights, self.activation)?;
        Ok(self.network.get_or_init(|| network))
    }

    /// Width of a token's state.
    fn width(&self) -> usize {
        let table = self.weights.dict().shape("text_model.embeddings.token_embedding.weight");
        table.and_then(|shape| shape.get(1).copied()).unwrap_or(0)
    }

    /// Tokens of a prompt, with the textual inversions that were made for this encoder.
    fn tokenize(&self, prompt: &str, embeddings: &dyn Embeddings) -> Chunks {
        let width = self.width();
        let find = |name: &str| {
            let found = embeddings.find_for(name, self.name, width)?;
            // Those of another encoder are left out rather than fail the prompt.
            if found.dim(1).ok() != Some(width) {
                tracing::warn!(name, encoder = self.name, shape = ?found.dims(), "embedding of another encoder");
                return None;
            }
            Some(found)
        };
        self.tokenizer.tokenize(prompt, &find)
    }

    fn patched(&self, patches: PatchSet) -> Self {
        let weights = self.weights.patched(patches);
        Self { weights, network: Arc::default(), ..self.clone() }
    }

    /// Encodes a prompt's chunks: hidden states joined along tokens `[1, 77·n, C]`, pooled from the
    /// first chunk `[1, P]`. A token of weight w is moved from the empty prompt's state at its place:
    /// `empty + (state − empty)·w`.
    ///
    /// # Errors
    /// When a token does not fit the model.
    pub fn encode(&self, chunks: &[Vec<Token>], output: Output) -> Result<Encoded> {
        let network = self.network()?;
        let weighted = chunks.iter().flatten().any(|token| token.weight != 1.0);
        let mut batch = chunks.to_vec();
        if weighted {
            batch.extend(self.tokenizer.tokenize("", &NoEmbeddings));
        }
        let encoded = network.encode(&batch, output)?;
        let (_, places, width) = encoded.hidden.dims3()?;
        let count = chunks.len();
        let mut hidden = encoded.hidden.narrow(0, 0, count)?;
        if weighted {
            let empty = encoded.hidden.narrow(0, count, 1)?;
            let factors: Vec<f32> = chunks.iter().flatten().map(|token| token.weight as f32).collect();
            let factors = Tensor::from_vec(factors, (count, places, 1), hidden.device())?;
            let moved = hidden.broadcast_sub(&empty)?.broadcast_mul(&factors.to_dtype(hidden.dtype())?)?;
            hidden = moved.broadcast_add(&empty)?;
        }
        Ok(Encoded {
            hidden: hidden.contiguous()?.reshape((1, count * places, width))?,
            pooled: encoded.pooled.narrow(0, 0, 1)?,
        })
    }
}

/// A prompt's tokens, chunk by chunk, for each of a [`Clip`]'s encoders.
#[derive(Debug, Clone)]
pub struct Tokens(pub Vec<Chunks>);

/// What a prompt becomes.
#[derive(Debug, Clone)]
pub struct TextConditioning {
    /// `[1, T, C]`
    pub cond: Tensor,
    /// `[1, P]`
    pub pooled: Option<Tensor>,
}

/// The text encoders of a model. Cheap to clone; nodes change copies.
#[derive(Debug, Clone)]
pub struct Clip {
    family: ClipFamily,
    encoders: Vec<TextEncoder>,
    /// Layers left out at the end, as the user asked; `None` for the family's own choice.
    skip: Option<usize>,
}

impl Clip {
    /// Text encoders of a family, in its order (SDXL: CLIP-L, CLIP-G).
    pub fn new(family: ClipFamily, encoders: Vec<TextEncoder>) -> Self {
        Self { family, encoders, skip: None }
    }

    /// The family.
    pub fn family(&self) -> ClipFamily {
        self.family
    }

    /// The encoders.
    pub fn encoders(&self) -> &[TextEncoder] {
        &self.encoders
    }

    /// A copy that stops at layer `layer`, counted from the end as users do: −1 is the last.
    ///
    /// # Errors
    /// When `layer` is not negative.
    pub fn stop_at_layer(&self, layer: i64) -> Result<Self> {
        let skip = (layer + 1).checked_neg().and_then(|skip| usize::try_from(skip).ok());
        match skip {
            Some(skip) if layer < 0 => Ok(Self { skip: Some(skip), ..self.clone() }),
            _ => Err(Error::invalid("layer to stop at", layer, "-1 (the last) and below")),
        }
    }

    /// A copy with exactly these patches, one set for each encoder; names are those of the
    /// encoder's [`TextEncoder::weights`].
    pub fn with_patches(&self, patches: Vec<PatchSet>) -> Self {
        let mut patches = patches.into_iter();
        let encoders = self.encoders.iter().map(|e| e.patched(patches.next().unwrap_or_default())).collect();
        Self { encoders, ..self.clone() }
    }

    /// Tokens of a prompt in the emphasis syntax.
    pub fn tokenize(&self, prompt: &str, embeddings: &dyn Embeddings) -> Tokens {
        Tokens(self.encoders.iter().map(|e| e.tokenize(prompt, embeddings)).collect())
    }

    /// Tokens of a prompt for each encoder (SDXL nodes with two text fields). The shorter ones are
    /// filled up with empty chunks.
    pub fn tokenize_each(&self, prompts: &[&str], embeddings: &dyn Embeddings) -> Tokens {
        let last = prompts.last().copied().unwrap_or_default();
        let mut all: Vec<Chunks> = self
            .encoders
            .iter()
            .enumerate()
            .map(|(i, e)| e.tokenize(prompts.get(i).copied().unwrap_or(last), embeddings))
            .collect();
        let longest = all.iter().map(Vec::len).max().unwrap_or(0);
        for (chunks, encoder) in all.iter_mut().zip(&self.encoders) {
            while chunks.len() < longest {
                chunks.extend(encoder.tokenizer.tokenize("", &NoEmbeddings));
            }
        }
        Tokens(all)
    }

    /// Conditioning of tokens.
    ///
    /// # Errors
    /// When the tokens are not of these encoders.
    pub fn encode(&self, tokens: &Tokens) -> Result<TextConditioning> {
        let (skip, normed) = match self.family {
            ClipFamily::StableDiffusion1 => (0, true),
            ClipFamily::StableDiffusion2 => (1, true),
            ClipFamily::StableDiffusionXl | ClipFamily::StableDiffusionXlRefiner => (1, false),
        };
        let output = Output { skip: self.skip.unwrap_or(skip), normed };
        if tokens.0.len() != self.encoders.len() {
            return Err(Error::shape(
                "tokens",
                format!("{} encoders", self.encoders.len()),
                &[tokens.0.len()],
            ));
        }
        let encoded = self
            .encoders
            .iter()
            .zip(&tokens.0)
            .map(|(encoder, chunks)| encoder.encode(chunks, output))
            .collect::<Result<Vec<_>>>()?;
        let length = encoded.iter().map(|e| e.hidden.dim(1)).collect::<std::result::Result<Vec<_>, _>>()?;
        let length = length.into_iter().min().unwrap_or(0);
        let states =
            encoded.iter().map(|e| Ok(e.hidden.narrow(1, 0, length)?)).collect::<Result<Vec<_>>>()?;
        let cond = Tensor::cat(&states, 2)?;
        Ok(TextConditioning { cond, pooled: encoded.last().map(|e| e.pooled.clone()) })
    }

    /// Conditioning of a prompt without textual inversions.
    ///
    /// # Errors
    /// When the device fails.
    pub fn encode_text(&self, prompt: &str) -> Result<TextConditioning> {
        self.encode(&self.tokenize(prompt, &NoEmbeddings))
    }
}
