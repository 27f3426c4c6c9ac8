//! `clip_tokens.json`: prompts to chunks of ids, weights and word numbers.

use std::path::Path;

use anyhow::{Context, Result};
use rushlight_diffusion::tokenizer::{NoEmbeddings, Tokenizer};
use serde_json::Value;

use super::compare::Report;

/// Checks every prompt of the file; a prompt passes only if every place is exactly as recorded.
pub fn check(folder: &Path) -> Result<Report> {
    let prompts: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("clip_tokens.json"))?)?;
    let tokenizer = Tokenizer::clip_l();
    let mut report = Report::default();
    for (prompt, expected) in prompts.as_object().context("not an object")? {
        let found: Vec<Vec<(u32, f64, usize)>> = tokenizer
            .tokenize(prompt, &NoEmbeddings)
            .iter()
            .map(|chunk| chunk.iter().map(|t| (t.id().unwrap_or_default(), t.weight, t.word)).collect())
            .collect();
        let name: String = prompt.chars().take(40).collect();
        let expected: Vec<Vec<(u32, f64, usize)>> = serde_json::from_value(expected.clone())?;
        let error = if found == expected { 0.0 } else { 1.0 };
        report.compared(&format!("{name:?}"), error, 0.5);
    }
    Ok(report)
}
