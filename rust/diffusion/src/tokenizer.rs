//! Prompts to CLIP token ids: emphasis syntax, byte-pair encoding, chunks of 77.
//!
//! - `(text)` multiplies the weight of `text` by 1.1, `(text:1.3)` sets it; parentheses nest,
//!   `\(` and `\)` are literal, unbalanced ones are text.
//! - `embedding:NAME` is replaced by the vectors of a textual inversion.
//! - Every 75 tokens make a chunk between a start and an end token. A stretch of equal weight with
//!   up to seven tokens is not split over two chunks.

use std::sync::{Arc, LazyLock};

use candle_core::Tensor;

mod emphasis;

use emphasis::weighted_segments;

/// Id of the token that starts every chunk.
pub const START: u32 = 49406;
/// Id of the token that ends the text of every chunk.
pub const END: u32 = 49407;
/// Tokens in a chunk, start and end included.
pub const CHUNK: usize = 77;

/// Longest stretch, in tokens, that is kept whole by starting a new chunk before it.
const KEPT_WHOLE: usize = 7;

const EMBEDDING: &str = "embedding:";

/// What stands in one place of a chunk.
#[derive(Debug, Clone)]
pub enum Piece {
    /// A row of the token table.
    Id(u32),
    /// A vector in place of a row, `[C]` (textual inversion).
    Vector(Tensor),
}

/// One place of a chunk.
#[derive(Debug, Clone)]
pub struct Token {
    /// What stands there.
    pub piece: Piece,
    /// Emphasis, 1 for none.
    pub weight: f64,
    /// Number of the stretch of text it belongs to, from 1; 0 for start, end and padding.
    pub word: usize,
}

impl Token {
    fn special(id: u32) -> Self {
        Self { piece: Piece::Id(id), weight: 1.0, word: 0 }
    }

    /// The id, `None` for a vector.
    pub fn id(&self) -> Option<u32> {
        match self.piece {
            Piece::Id(id) => Some(id),
            Piece::Vector(_) => None,
        }
    }
}

/// A prompt as chunks of [`CHUNK`] tokens, at least one.
pub type Chunks = Vec<Vec<Token>>;

/// Finds the vectors of a textual inversion by name.
pub trait Embeddings {
    /// The vectors called `name`, `[N, C]`, or `None` when there are none of that name.
    fn find(&self, name: &str) -> Option<Tensor>;

    /// The vectors called `name` for the text encoder `encoder` (`l`, `g`, `h`), whose tokens are `width` wide.
    fn find_for(&self, name: &str, encoder: &str, width: usize) -> Option<Tensor> {
        let _ = (encoder, width);
        self.find(name)
    }
}

/// No textual inversions at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEmbeddings;

impl Embeddings for NoEmbeddings {
    fn find(&self, _name: &str) -> Option<Tensor> {
        None
    }
}

impl<F: Fn(&str) -> Option<Tensor>> Embeddings for F {
    fn find(&self, name: &str) -> Option<Tensor> {
        self(name)
    }
}

/// The CLIP tokenizer. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer {
    bpe: Arc<instant_clip_tokenizer::Tokenizer>,
    padding: u32,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("padding", &self.padding).finish_non_exhaustive()
    }
}

/// Reading the vocabulary takes tens of milliseconds, and it never changes.
static VOCABULARY: LazyLock<Arc<instant_clip_tokenizer::Tokenizer>> =
    LazyLock::new(|| Arc::new(instant_clip_tokenizer::Tokenizer::new()));

impl Tokenizer {
    /// CLIP-L's: chunks are padded with the end token.
    pub fn clip_l() -> Self {
        Self { bpe: VOCABULARY.clone(), padding: END }
    }

    /// OpenCLIP's (CLIP-G, CLIP-H): chunks are padded with 0.
    pub fn open_clip() -> Self {
        Self { bpe: VOCABULARY.clone(), padding: 0 }
    }

    /// The ids of plain `text`, without emphasis, start or end.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut rest = text;
        loop {
            let special = [("<|startoftext|>", START), ("<|endoftext|>", END)]
                .into_iter()
                .filter_map(|(name, id)| rest.split_once(name).map(|(before, after)| (before, id, after)))
                .min_by_key(|(before, ..)| before.len());
            let Some((before, id, after)) = special else { break };
            self.encode_ordinary(before, &mut ids);
            ids.push(id);
            rest = after;
        }
        self.encode_ordinary(rest, &mut ids);
        ids
    }

    fn encode_ordinary(&self, text: &str, ids: &mut Vec<u32>) {
        let mut tokens = Vec::new();
        // The vocabulary crate has its own marker words; cut after their first character they are
        // ordinary text, and that is a word boundary anyway.
        let mut start = 0;
        for (marker, _) in text.match_indices("<start_of_text>").chain(text.match_indices("<end_of_text>")) {
            if let Some(part) = text.get(start..=marker) {
                self.bpe.encode(part, &mut tokens);
                start = marker + 1;
            }
        }
        self.bpe.encode(text.get(start..).unwrap_or_default(), &mut tokens);
        ids.extend(tokens.into_iter().map(|token| u32::from(token.to_u16())));
    }

    /// A prompt in the emphasis syntax as chunks.
    pub fn tokenize(&self, prompt: &str, embeddings: &dyn Embeddings) -> Chunks {
        let mut words: Vec<Vec<Token>> = Vec::new();
        for (text, weight) in weighted_segments(prompt) {
            for part in split_embeddings(&text) {
                let mut pieces = Vec::new();
                let mut plain = part;
                if let Some(name) = part.strip_prefix(EMBEDDING) {
                    let (vectors, leftover) = find_embedding(name.trim_matches('\n'), embeddings);
                    pieces.extend(vectors.into_iter().map(Piece::Vector));
                    plain = leftover;
                }
                // An embedding and the text after it are one word each, and a name that is not
                // known takes no place at all.
                if !pieces.is_empty() {
                    push_word(&mut words, pieces, weight);
                    if plain.is_empty() {
                        continue;
                    }
                } else if plain.is_empty() {
                    continue;
                }
                let ids = self.encode(plain).into_iter().map(Piece::Id).collect();
                push_word(&mut words, ids, weight);
            }
        }
        self.chunk(words)
    }

    fn chunk(&self, words: Vec<Vec<Token>>) -> Chunks {
        let mut chunks = Vec::new();
        let mut chunk = vec![Token::special(START)];
        for word in words {
            let is_long = word.len() > KEPT_WHOLE;
            let mut rest = word.into_iter().peekable();
            while rest.peek().is_some() {
                let room = CHUNK - 1 - chunk.len();
                if rest.len() <= room {
                    chunk.extend(rest.by_ref());
                    break;
                }
                if is_long {
                    chunk.extend(rest.by_ref().take(room));
                }
                chunks.push(self.finish(std::mem::replace(&mut chunk, vec![Token::special(START)])));
            }
        }
        chunks.push(self.finish(chunk));
        chunks
    }

    fn finish(&self, mut chunk: Vec<Token>) -> Vec<Token> {
        chunk.push(Token::special(END));
        chunk.resize(CHUNK, Token::special(self.padding));
        chunk
    }
}

fn push_word(words: &mut Vec<Vec<Token>>, pieces: Vec<Piece>, weight: f64) {
    let word = words.len() + 1;
    words.push(pieces.into_iter().map(|piece| Token { piece, weight, word }).collect());
}

/// Cuts before every `embedding:` that follows a space or a line break; empty parts are left out.
fn split_embeddings(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(EMBEDDING) {
        let Some(before) = text.get(start..at) else { continue };
        if let Some(before) = before.strip_suffix([' ', '\n']) {
            parts.push(before);
            start = at;
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts.retain(|part| !part.is_empty());
    parts
}

/// The vectors of the embedding that `text` starts with, and the text after its name. Trailing
/// commas are not part of a name.
fn find_embedding<'a>(text: &'a str, embeddings: &dyn Embeddings) -> (Vec<Tensor>, &'a str) {
    let name = text.split(' ').next().unwrap_or_default();
    let after = text.get(name.len()..).unwrap_or_default().trim_start_matches(' ');
    let vectors = |name: &str| -> Option<Vec<Tensor>> {
        let table = embeddings.find(name)?;
        let count = table.dim(0).ok()?;
        (0..count).map(|i| table.get(i).ok()).collect()
    };
    if let Some(found) = vectors(name) {
        return (found, after);
    }
    let stripped = name.trim_end_matches(',');
    if stripped.len() < name.len()
        && let Some(found) = vectors(stripped)
    {
        return (found, text.get(stripped.len()..).unwrap_or_default());
    }
    tracing::warn!(name = stripped, "no such embedding; it is left out of the prompt");
    (
        Vec::new(),
        if stripped.len() < name.len() { text.get(stripped.len()..).unwrap_or_default() } else { after },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn ids(chunk: &[Token]) -> Vec<u32> {
        chunk.iter().filter_map(Token::id).collect()
    }

    #[test]
    fn markers_of_the_vocabulary_crate_are_ordinary_text() {
        let tokenizer = Tokenizer::clip_l();
        assert!(!tokenizer.encode("<start_of_text> hi").contains(&START));
        assert_eq!(tokenizer.encode("<|startoftext|>"), [START]);
    }

    #[test]
    fn open_clip_pads_with_zero() {
        let chunks = Tokenizer::open_clip().tokenize("a cat", &NoEmbeddings);
        assert_eq!(ids(&chunks[0])[..6], [START, 320, 2368, END, 0, 0]);
    }

    #[test]
    fn embeddings_take_as_many_places_as_they_have_vectors() {
        let table = Tensor::zeros((3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let find = move |name: &str| (name == "style").then(|| table.clone());
        let chunks = Tokenizer::clip_l().tokenize("a (embedding:style, cat:1.2) embedding:unknown x", &find);
        let kinds: Vec<_> = chunks[0].iter().take(9).map(|t| (t.id(), t.weight, t.word)).collect();
        assert_eq!(
            kinds,
            [
                (Some(START), 1.0, 0),
                (Some(320), 1.0, 1),
                (None, 1.2, 2),
                (None, 1.2, 2),
                (None, 1.2, 2),
                (Some(267), 1.2, 3),
                (Some(2368), 1.2, 3),
                (Some(343), 1.0, 4),
                (Some(END), 1.0, 0)
            ]
        );
    }

    #[test]
    fn a_short_word_moves_to_the_next_chunk_whole() {
        let prompt = format!("{}(one two three:1.5)", "word ".repeat(74));
        let chunks = Tokenizer::clip_l().tokenize(&prompt, &NoEmbeddings);
        assert_eq!(chunks.len(), 2);
        assert_eq!(ids(&chunks[0])[74..], [2653, END, END]);
        assert_eq!(ids(&chunks[1])[..5], [START, 637, 1237, 2097, END]);
    }
}
