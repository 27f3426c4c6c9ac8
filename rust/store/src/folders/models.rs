//! Model folder keys, their paths and what is in them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use parking_lot::RwLock;

use super::error::FolderError;
use super::extra_paths::ExtraPath;
use super::layout::Layout;
use super::listing::Listings;
use super::name::RelPath;
use super::root::{Root, Symlinks};

/// Extensions of files that hold tensors.
pub const MODEL_EXTENSIONS: [&str; 8] =
    [".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"];

/// Which entries of a key's folders are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lists {
    /// Files with one of these extensions.
    Files(Vec<String>),
    /// All files.
    AllFiles,
    /// Folders that hold a `model_index.json`.
    Pipelines,
    /// Nothing.
    Nothing,
}

#[derive(Debug, Clone)]
struct Key {
    paths: Vec<PathBuf>,
    lists: Lists,
}

/// Every model folder key. Keys and paths may be added while the server runs (node packs do).
pub struct ModelFolders {
    keys: RwLock<IndexMap<String, Key>>,
    listings: Listings,
}

/// Key, its folders beneath `models/`. Node packs have a folder of their own beside it.
const KEYS: [(&str, &[&str]); 21] = [
    ("checkpoints", &["checkpoints"]),
    ("configs", &["configs"]),
    ("loras", &["loras"]),
    ("vae", &["vae"]),
    ("text_encoders", &["text_encoders", "clip"]),
    ("diffusion_models", &["unet", "diffusion_models"]),
    ("clip_vision", &["clip_vision"]),
    ("style_models", &["style_models"]),
    ("embeddings", &["embeddings"]),
    ("diffusers", &["diffusers"]),
    ("vae_approx", &["vae_approx"]),
    ("controlnet", &["controlnet", "t2i_adapter"]),
    ("gligen", &["gligen"]),
    ("upscale_models", &["upscale_models"]),
    ("latent_upscale_models", &["latent_upscale_models"]),
    ("custom_nodes", &[]),
    ("hypernetworks", &["hypernetworks"]),
    ("photomaker", &["photomaker"]),
    ("classifiers", &["classifiers"]),
    ("model_patches", &["model_patches"]),
    ("audio_encoders", &["audio_encoders"]),
];

/// Keys that also list a folder of the output folder: what nodes save there can be loaded.
const SAVED: [(&str, &str); 5] = [
    ("checkpoints", "checkpoints"),
    ("loras", "loras"),
    ("vae", "vae"),
    ("text_encoders", "clip"),
    ("diffusion_models", "diffusion_models"),
];

/// The key that an older name stands for.
fn canonical(key: &str) -> &str {
    match key {
        "clip" => "text_encoders",
        "unet" => "diffusion_models",
        other => other,
    }
}

impl ModelFolders {
    /// The keys of a layout.
    pub fn new(layout: &Layout) -> Self {
        let mut keys = IndexMap::new();
        for (key, folders) in KEYS {
            let paths = match key {
                "custom_nodes" => vec![layout.custom_nodes.clone()],
                _ => {
                    let saved = SAVED.iter().filter(|(saved, _)| *saved == key);
                    let models = folders.iter().map(|folder| layout.models.join(folder));
                    models.chain(saved.map(|(_, folder)| layout.output.join(folder))).collect()
                }
            };
            keys.insert(key.to_owned(), Key { paths, lists: lists_of(key) });
        }
        Self { keys: RwLock::new(keys), listings: Listings::default() }
    }

    /// Adds the paths of an `extra_model_paths.yaml`.
    pub fn extend(&self, extra: Vec<ExtraPath>) {
        for ExtraPath { key, path, first } in extra {
            self.add_path(&key, path, first);
        }
    }

    /// Adds a path to a key, making the key if it is new; `first` puts it before the others.
    pub fn add_path(&self, key: &str, path: PathBuf, first: bool) {
        let key = canonical(key);
        let mut keys = self.keys.write();
        let entry =
            keys.entry(key.to_owned()).or_insert_with(|| Key { paths: Vec::new(), lists: lists_of(key) });
        // A path given again only moves, as node packs that ask for the default expect.
        if first {
            entry.paths.retain(|old| *old != path);
            entry.paths.insert(0, path);
        } else if !entry.paths.contains(&path) {
            entry.paths.push(path);
        }
    }

    /// Replaces a key's paths and extensions; an empty list of extensions lists every file.
    pub fn set(&self, key: &str, paths: Vec<PathBuf>, extensions: Vec<String>) {
        let lists = if extensions.is_empty() { Lists::AllFiles } else { Lists::Files(extensions) };
        self.keys.write().insert(canonical(key).to_owned(), Key { paths, lists });
    }

    /// Every key in order, without aliases.
    pub fn keys(&self) -> Vec<String> {
        self.keys.read().keys().cloned().collect()
    }

    /// Whether a key or alias is known.
    pub fn has(&self, key: &str) -> bool {
        self.keys.read().contains_key(canonical(key))
    }

    /// A key's paths in order; empty for an unknown key.
    pub fn paths(&self, key: &str) -> Vec<PathBuf> {
        self.keys.read().get(canonical(key)).map(|key| key.paths.clone()).unwrap_or_default()
    }

    /// A key's extensions, with the dot; empty where every file counts.
    pub fn extensions(&self, key: &str) -> Vec<String> {
        match self.keys.read().get(canonical(key)).map(|key| key.lists.clone()) {
            Some(Lists::Files(extensions)) => extensions,
            _ => Vec::new(),
        }
    }

    /// Every path of every key.
    pub fn all_paths(&self) -> Vec<PathBuf> {
        self.keys.read().values().flat_map(|key| key.paths.clone()).collect()
    }

    /// Names in all of a key's paths, relative with `/`, sorted, each once.
    pub fn names(&self, key: &str) -> Vec<String> {
        let mut names: Vec<String> = self.names_by_path(key).into_iter().map(|(_, name)| name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Each name with the place of its path in [`ModelFolders::paths`]; a name that several paths have comes once,
    /// from the first.
    pub fn names_by_path(&self, key: &str) -> Vec<(usize, String)> {
        let Some(key) = self.keys.read().get(canonical(key)).cloned() else { return Vec::new() };
        let mut seen = HashSet::new();
        let mut out = Vec::new();
        for (index, path) in key.paths.iter().enumerate() {
            for name in self.entries(path, &key.lists) {
                if seen.insert(name.clone()) {
                    out.push((index, name));
                }
            }
        }
        out
    }

    fn entries(&self, path: &Path, lists: &Lists) -> Vec<String> {
        let files: Arc<Vec<String>> = match lists {
            Lists::Nothing => return Vec::new(),
            _ => self.listings.files(path),
        };
        match lists {
            Lists::Nothing => Vec::new(),
            Lists::AllFiles => files.to_vec(),
            Lists::Files(extensions) => {
                let wanted = |name: &&String| {
                    let (_, extension) = name.rsplit_once('.').unwrap_or(("", ""));
                    extensions.iter().any(|e| e.trim_start_matches('.').eq_ignore_ascii_case(extension))
                };
                files.iter().filter(wanted).cloned().collect()
            }
            Lists::Pipelines => files
                .iter()
                .filter_map(|name| name.strip_suffix("/model_index.json"))
                .map(str::to_owned)
                .collect(),
        }
    }

    /// The roots of a key, in order. Links in them may lead anywhere: only their owner writes there, and sharing
    /// models between programs by links is what people do.
    pub fn roots(&self, key: &str) -> Vec<Root> {
        self.paths(key).into_iter().map(|path| Root::new(path, Symlinks::Anywhere)).collect()
    }

    /// The real path of a model.
    ///
    /// # Errors
    /// [`FolderError::BadName`], [`FolderError::NotFound`].
    pub fn resolve(&self, key: &str, name: &str) -> Result<PathBuf, FolderError> {
        let path = RelPath::file(name)?;
        for root in self.roots(key) {
            match root.resolve(&path, &[]) {
                Err(FolderError::NotFound { .. }) => {}
                found => return found,
            }
        }
        Err(FolderError::NotFound { name: name.into() })
    }
}

fn lists_of(key: &str) -> Lists {
    let only = |extensions: &[&str]| Lists::Files(extensions.iter().map(|&e| e.to_owned()).collect());
    match key {
        "configs" => only(&[".yaml"]),
        "diffusers" => Lists::Pipelines,
        "classifiers" => Lists::AllFiles,
        "custom_nodes" => Lists::Nothing,
        _ => only(&MODEL_EXTENSIONS),
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::FolderSettings;
    use super::*;

    fn folders(base: &Path) -> ModelFolders {
        let settings = FolderSettings { base: base.into(), ..FolderSettings::default() };
        ModelFolders::new(&Layout::new(&settings))
    }

    fn put(base: &Path, name: &str) {
        let path = base.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }

    #[test]
    fn names_are_relative_sorted_and_of_models_only() {
        let base = tempfile::tempdir().unwrap();
        for name in ["b.safetensors", "sub/a.CKPT", "a.txt", "z.sft"] {
            put(base.path(), &format!("models/checkpoints/{name}"));
        }
        assert_eq!(folders(base.path()).names("checkpoints"), ["b.safetensors", "sub/a.CKPT", "z.sft"]);
        assert!(folders(base.path()).names("no such key").is_empty());
    }

    #[test]
    fn older_keys_and_folders_still_work() {
        let base = tempfile::tempdir().unwrap();
        put(base.path(), "models/clip/old.safetensors");
        put(base.path(), "models/text_encoders/new.safetensors");
        let folders = folders(base.path());
        assert_eq!(folders.names("clip"), ["new.safetensors", "old.safetensors"]);
        assert_eq!(folders.names("clip"), folders.names("text_encoders"));
        assert!(folders.has("unet") && !folders.keys().contains(&"unet".to_owned()));
    }

    #[test]
    fn what_nodes_saved_is_listed_after_the_models() {
        let base = tempfile::tempdir().unwrap();
        put(base.path(), "output/checkpoints/merged.safetensors");
        put(base.path(), "output/clip/merged.safetensors");
        let folders = folders(base.path());
        assert_eq!(folders.names("checkpoints"), ["merged.safetensors"]);
        assert_eq!(folders.names("text_encoders"), ["merged.safetensors"]);
        assert_eq!(folders.paths("text_encoders").len(), 3);
        assert!(folders.names("controlnet").is_empty());
    }

    #[test]
    fn the_first_path_that_has_a_model_gives_it() {
        let base = tempfile::tempdir().unwrap();
        put(base.path(), "models/loras/a.safetensors");
        put(base.path(), "more/a.safetensors");
        let folders = folders(base.path());
        let real = |name: &str| base.path().canonicalize().unwrap().join(name);
        folders.add_path("loras", base.path().join("more"), false);
        assert_eq!(folders.resolve("loras", "a.safetensors").unwrap(), real("models/loras/a.safetensors"));
        folders.add_path("loras", base.path().join("more"), true);
        assert_eq!(folders.resolve("loras", "a.safetensors").unwrap(), real("more/a.safetensors"));
        assert_eq!(folders.names("loras"), ["a.safetensors"]);
        assert!(matches!(folders.resolve("loras", "../a"), Err(FolderError::BadName { .. })));
        assert!(matches!(folders.resolve("loras", "b"), Err(FolderError::NotFound { .. })));
    }

    #[test]
    fn pipelines_are_listed_as_folders() {
        let base = tempfile::tempdir().unwrap();
        put(base.path(), "models/diffusers/sd/model_index.json");
        put(base.path(), "models/diffusers/sd/unet/x.safetensors");
        assert_eq!(folders(base.path()).names("diffusers"), ["sd"]);
    }
}
