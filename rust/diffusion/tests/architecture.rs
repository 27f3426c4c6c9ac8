//! No block is written twice: the arithmetic of a network is in `ops`, its layers in `models/layers.rs`, residual blocks
//! in `models/resnet.rs`, and model files put them together.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Every source file of a folder with its path from `src`, tests cut off.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open: Vec<PathBuf> = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_string();
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            found.push((name, code));
        }
    }
    found.sort();
    found
}

/// Files under `folder` with a line of code that contains `pattern`.
fn files_with(folder: &str, pattern: &str) -> Vec<String> {
    let contains =
        |code: &str| code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(pattern));
    sources(folder).into_iter().filter(|(_, code)| contains(code)).map(|(name, _)| name).collect()
}

#[test]
fn attention_is_computed_in_one_place() {
    assert_eq!(files_with("", "softmax"), ["ops/attention.rs"]);
}

#[test]
fn models_leave_the_heavy_operations_to_ops() {
    for call in [".conv2d(", ".gelu_erf(", "layer_norm(x", "rms_norm("] {
        let models = files_with("models", call);
        let allowed = ["models/clip.rs", "models/layers.rs"];
        assert!(models.iter().all(|name| allowed.contains(&name.as_str())), "{call} in {models:?}");
    }
    // FreeU's four frequencies are a product of their own kind.
    assert_eq!(files_with("models", ".matmul("), ["models/unet/patches.rs"]);
}

#[test]
fn residual_blocks_and_resampling_live_once() {
    for part in ["struct TimeResBlock", "struct ResBlock", "struct Upsample"] {
        assert_eq!(files_with("", part), ["models/resnet.rs"], "{part}");
    }
    // Whoever normalises, convolves and adds the input again uses those blocks.
    assert_eq!(files_with("models", "nin_shortcut"), ["models/resnet.rs"]);
    assert_eq!(files_with("models", "skip_connection"), ["models/resnet.rs"]);
}

#[test]
fn layers_and_embeddings_live_once() {
    for part in [
        "struct Linear",
        "struct Conv2d",
        "struct GroupNorm",
        "struct LayerNorm",
        "struct Embedding",
        "fn timestep_embedding",
    ] {
        assert_eq!(files_with("", part), ["models/layers.rs"], "{part}");
    }
    // Sinusoids at frequencies down to 1/10,000 are that function's.
    assert_eq!(files_with("", "10000f32.ln()"), ["models/layers.rs"]);
    assert!(files_with("", "10_000f32.ln()").is_empty());
}

#[test]
fn every_model_file_names_its_source() {
    for (name, code) in sources("models") {
        if matches!(name.as_str(), "models/mod.rs" | "models/layers.rs" | "models/resnet.rs") {
            continue;
        }
        let head: String = code.lines().take_while(|line| line.starts_with("//!")).collect();
        let cites = ["arXiv", "MIT", "Apache"].iter().any(|source| head.contains(source));
        let part_of_one = matches!(name.as_str(), "models/transformer.rs" | "models/unet/patches.rs");
        assert!(cites || part_of_one, "{name} names no paper or licence in its head");
    }
}
