use indexmap::IndexMap;
use rushlight_diffusion::testing;
use rushlight_diffusion::tokenizer::{NoEmbeddings, Tokenizer};

/// Id, weight and word number.
type Place = (u32, f64, usize);

#[test]
fn prompts_become_the_recorded_ids_weights_and_words() {
    let path = testing::goldens().join("clip_tokens.json");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return;
    };
    let prompts: IndexMap<String, Vec<Vec<Place>>> = serde_json::from_slice(&bytes).unwrap();
    let tokenizer = Tokenizer::clip_l();
    for (prompt, expected) in prompts {
        let found: Vec<Vec<_>> = tokenizer
            .tokenize(&prompt, &NoEmbeddings)
            .iter()
            .map(|chunk| chunk.iter().map(|t| (t.id().unwrap(), t.weight, t.word)).collect())
            .collect();
        assert_eq!(found, expected, "{prompt:?}");
    }
}
