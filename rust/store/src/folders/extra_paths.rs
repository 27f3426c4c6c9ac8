//! `extra_model_paths.yaml`: more folders for model keys.
//!
//! ```yaml
//! any_name:
//!   base_path: /data/models      # optional; relative ones start at the file's folder
//!   is_default: true             # optional; these folders come first
//!   checkpoints: checkpoints/
//!   loras: |
//!     loras
//!     lycoris
//! ```

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::Value;

use super::error::FolderError;
use super::layout::absolute;

/// Largest file that is read, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// One more folder of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraPath {
    /// The key.
    pub key: String,
    /// The folder.
    pub path: PathBuf,
    /// Whether it comes before the key's others.
    pub first: bool,
}

/// Reads a file.
///
/// # Errors
/// [`FolderError::Config`] when it cannot be read or is not of the form above.
pub fn read(file: &Path) -> Result<Vec<ExtraPath>, FolderError> {
    let fail = |reason: String| FolderError::Config { path: file.to_owned(), reason };
    let size = std::fs::metadata(file).map_err(|e| fail(e.to_string()))?.len();
    if size > MAX_SIZE {
        return Err(fail(format!("{size} bytes, the limit is {MAX_SIZE}")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| fail(e.to_string()))?;
    let folder = absolute(file).parent().map(Path::to_owned).unwrap_or_default();
    parse(&text, &folder).map_err(fail)
}

/// Reads the text of a file that lies in `folder`.
///
/// # Errors
/// What is wrong, for a person.
pub fn parse(text: &str, folder: &Path) -> Result<Vec<ExtraPath>, String> {
    // Every line a comment, as in the example that people copy, is an empty document.
    let sections: Option<IndexMap<String, Option<IndexMap<String, Value>>>> =
        serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
            .map_err(|e| e.to_string())?;
    let mut paths = Vec::new();
    for (section, entries) in sections.unwrap_or_default() {
        let Some(mut entries) = entries else { continue };
        let base = match entries.shift_remove("base_path") {
            Some(Value::String(base)) => folder.join(expand(&base)),
            Some(Value::Null) | None => folder.to_owned(),
            Some(other) => return Err(format!("{section}.base_path must be a path, not {other}")),
        };
        let first = match entries.shift_remove("is_default") {
            Some(Value::Bool(first)) => first,
            // Older spellings; elsewhere they are text, so that a folder may be called `on`.
            Some(Value::String(word)) if matches!(word.to_ascii_lowercase().as_str(), "yes" | "on") => true,
            Some(Value::String(word)) if matches!(word.to_ascii_lowercase().as_str(), "no" | "off") => false,
            Some(Value::Null) | None => false,
            Some(other) => return Err(format!("{section}.is_default must be true or false, not {other}")),
        };
        for (key, value) in entries {
            for line in lines(&section, &key, value)? {
                paths.push(ExtraPath { key: key.clone(), path: absolute(&base.join(expand(&line))), first });
            }
        }
    }
    Ok(paths)
}

/// A key's folders: one a line, or a list.
fn lines(section: &str, key: &str, value: Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => {
            Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
        }
        Value::Array(items) => {
            let mut out = Vec::new();
            for item in items {
                match item {
                    Value::String(line) => out.push(line),
                    other => return Err(format!("{section}.{key} must hold paths, not {other}")),
                }
            }
            Ok(out)
        }
        other => Err(format!("{section}.{key} must be a path or several, not {other}")),
    }
}

/// `~` and `$NAME` / `${NAME}` as a shell writes them; unknown names stay.
fn expand(path: &str) -> String {
    let mut text = path.to_owned();
    if let Some(rest) = path.strip_prefix('~')
        && (rest.is_empty() || rest.starts_with(['/', '\\']))
        && let Some(home) = std::env::home_dir()
    {
        text = format!("{}{rest}", home.display());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or("");
        let (name, end) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, end)) => (name, end),
            None => {
                let length =
                    after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(length)
            }
        };
        match std::env::var(name) {
            Ok(value) if !name.is_empty() => {
                out.push_str(&value);
                rest = end;
            }
            _ => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extra(key: &str, path: &str, first: bool) -> ExtraPath {
        ExtraPath { key: key.into(), path: path.into(), first }
    }

    #[test]
    fn sections_give_paths_in_order() {
        let text = "
other:
    base_path: /data
    is_default: true
    checkpoints: models/ckpt/
    loras: |
         lora
         /else/lycoris
    custom_key: [a, b]
    nothing:
plain:
    vae: vae
empty:
";
        let paths = parse(text, Path::new("/conf")).unwrap();
        assert_eq!(
            paths,
            [
                extra("checkpoints", "/data/models/ckpt/", true),
                extra("loras", "/data/lora", true),
                extra("loras", "/else/lycoris", true),
                extra("custom_key", "/data/a", true),
                extra("custom_key", "/data/b", true),
                extra("vae", "/conf/vae", false),
            ]
        );
    }

    #[test]
    fn comments_only_is_empty_and_nonsense_is_an_error() {
        assert_eq!(parse("# nothing\n#a:\n", Path::new("/")).unwrap(), []);
        assert_eq!(parse("", Path::new("/")).unwrap(), []);
        for text in ["- a\n- b", "a: b: c", "a:\n  loras: {x: y}", "a:\n  is_default: maybe"] {
            assert!(parse(text, Path::new("/")).is_err(), "{text:?}");
        }
    }

    #[test]
    fn home_is_expanded() {
        let home = std::env::home_dir().unwrap();
        assert_eq!(expand("~/models"), format!("{}/models", home.display()));
        assert_eq!(expand("~x/$NOT_SET_ANYWHERE/$"), "~x/$NOT_SET_ANYWHERE/$");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z:{}\\[\\]&*!|>'\"#\\-\\n $~]{0,60}") {
            let _ = parse(&text, Path::new("/"));
        }
    }
}
