//! [`FolderHost`]: folders and embedded models, as nodes see them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use rushlight_runtime::host::{FileFolder, Host, HostError, ModelSource, RunHost, SaveRequest, SavedFile};
use rushlight_store::Folders;
use rushlight_store::folders::{Claims, FolderError, FolderKind, PrefixFields, SaveName};

/// A model that is part of the program: listed wherever nothing of its name is on disk.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedModel {
    /// Model folder key, such as `checkpoints`.
    pub folder: &'static str,
    /// Its name in that folder.
    pub name: &'static str,
    /// The file's bytes.
    pub bytes: &'static [u8],
}

/// Folders and embedded models, as nodes see them.
#[derive(Clone)]
pub struct FolderHost {
    folders: Arc<Folders>,
    embedded: Vec<EmbeddedModel>,
    metadata: bool,
    max_pixels: u64,
    /// Of the run that it serves, if it serves one only.
    claims: Option<Arc<Claims>>,
}

impl FolderHost {
    /// A host whose pictures carry their prompt (`metadata`) and have at most `max_pixels` pixels when decoded.
    pub fn new(folders: Arc<Folders>, embedded: Vec<EmbeddedModel>, metadata: bool, max_pixels: u64) -> Self {
        Self { folders, embedded, metadata, max_pixels, claims: None }
    }

    /// The folders behind it.
    pub fn folders(&self) -> &Arc<Folders> {
        &self.folders
    }

    fn embedded(&self, folder: &str, name: &str) -> Option<&EmbeddedModel> {
        self.embedded.iter().find(|model| model.folder == folder && model.name == name)
    }
}

impl Host for FolderHost {
    /// A hash of every list that schemas hold. Listings are remembered until a folder changes, so this costs one
    /// look at each folder.
    fn generation(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for key in self.folders.models().keys() {
            self.folders.models().names(&key).hash(&mut hasher);
        }
        self.folders.input_media(&["image", "audio", "video"]).hash(&mut hasher);
        hasher.finish()
    }

    fn model_names(&self, folder: &str) -> Vec<String> {
        let mut names = self.folders.models().names(folder);
        for model in self.embedded.iter().filter(|model| model.folder == folder) {
            if let Err(place) = names.binary_search_by(|name| name.as_str().cmp(model.name)) {
                names.insert(place, model.name.to_owned());
            }
        }
        names
    }

    fn model(&self, folder: &str, name: &str) -> Result<ModelSource, HostError> {
        match self.folders.models().resolve(folder, name) {
            Ok(path) => Ok(ModelSource::Path(path)),
            Err(FolderError::NotFound { .. }) => match self.embedded(folder, name) {
                Some(model) => Ok(ModelSource::Embedded(model.bytes)),
                None => Err(HostError::NotFound { what: format!("model in {folder}"), name: name.into() }),
            },
            Err(error) => Err(host_error(name, error)),
        }
    }

    fn input_names(&self, kinds: &[&str]) -> Vec<String> {
        self.folders.input_media(kinds)
    }

    fn read(&self, annotated_name: &str) -> Result<Bytes, HostError> {
        let read = self.folders.read_annotated(annotated_name);
        read.map(Bytes::from).map_err(|e| host_error(annotated_name, e))
    }

    fn fingerprint(&self, annotated_name: &str) -> Result<String, HostError> {
        self.folders.fingerprint(annotated_name).map_err(|e| host_error(annotated_name, e))
    }

    fn check_prefix(&self, prefix: &str) -> Result<(), HostError> {
        self.folders.check_prefix(prefix).map_err(|e| host_error(prefix, e))
    }

    fn save(&self, request: &SaveRequest<'_>, bytes: &[u8]) -> Result<SavedFile, HostError> {
        let name = SaveName {
            prefix: request.prefix,
            suffix: request.suffix,
            extension: request.extension,
            fields: PrefixFields {
                width: request.width,
                height: request.height,
                batch_index: request.batch_index,
                now: chrono::Local::now(),
            },
        };
        let kind = match request.folder {
            FileFolder::Input => FolderKind::Input,
            FileFolder::Output => FolderKind::Output,
            FileFolder::Temp => FolderKind::Temp,
        };
        let saved = match (&self.claims, kind) {
            // The temp folder is emptied anyway.
            (Some(claims), FolderKind::Input | FolderKind::Output) => {
                self.folders.save_claimed(kind, &name, bytes, claims)
            }
            _ => self.folders.save(kind, &name, bytes),
        };
        let saved = saved.map_err(|e| host_error(request.prefix, e))?;
        Ok(SavedFile { filename: saved.filename, subfolder: saved.subfolder, folder: request.folder })
    }

    fn for_run(&self, run: i64) -> Option<Arc<dyn RunHost>> {
        Some(Arc::new(Self { claims: Some(Arc::new(self.folders.claims(run))), ..self.clone() }))
    }

    fn metadata_enabled(&self) -> bool {
        self.metadata
    }

    fn max_image_pixels(&self) -> u64 {
        self.max_pixels
    }
}

impl RunHost for FolderHost {
    fn keep(&self) {
        if let Some(claims) = &self.claims {
            claims.keep();
        }
    }

    fn discard(&self) {
        if let Some(claims) = &self.claims {
            self.folders.disclaim(claims);
        }
    }
}

fn host_error(name: &str, error: FolderError) -> HostError {
    let name = name.to_owned();
    match error {
        FolderError::NotFound { .. } => HostError::NotFound { what: "file".into(), name },
        FolderError::TooLarge { size, limit, .. } => HostError::TooLarge { name, size, limit, unit: "bytes" },
        FolderError::Io { source, .. } => HostError::Io { name, source },
        FolderError::BadName { reason, .. } => HostError::Refused { name, reason: reason.into() },
        FolderError::Escapes { .. } => {
            HostError::Refused { name, reason: "it leads out of its folder".into() }
        }
        FolderError::Exists { .. } => HostError::Refused { name, reason: "it exists already".into() },
        FolderError::Config { reason, .. } => HostError::Refused { name, reason },
    }
}

#[cfg(test)]
mod tests {
    use rushlight_store::folders::FolderSettings;

    use super::*;

    const TINY: EmbeddedModel =
        EmbeddedModel { folder: "checkpoints", name: "tiny.safetensors", bytes: b"tiny" };

    fn host(base: &std::path::Path) -> FolderHost {
        let settings = FolderSettings { base: base.into(), ..FolderSettings::default() };
        FolderHost::new(Arc::new(Folders::open(&settings).unwrap()), vec![TINY], true, 1 << 20)
    }

    #[test]
    fn the_embedded_model_is_listed_and_gives_way_to_a_file() {
        let base = tempfile::tempdir().unwrap();
        let checkpoints = base.path().join("models/checkpoints");
        std::fs::create_dir_all(&checkpoints).unwrap();
        std::fs::write(checkpoints.join("z.safetensors"), "z").unwrap();
        let host = host(base.path());
        assert_eq!(host.model_names("checkpoints"), ["tiny.safetensors", "z.safetensors"]);
        assert!(host.model_names("loras").is_empty());
        assert!(matches!(host.model("checkpoints", "tiny.safetensors"), Ok(ModelSource::Embedded(b"tiny"))));
        std::fs::write(checkpoints.join("tiny.safetensors"), "disk").unwrap();
        assert!(matches!(host.model("checkpoints", "tiny.safetensors"), Ok(ModelSource::Path(_))));
        assert_eq!(host.model_names("checkpoints").len(), 2);
    }

    #[test]
    fn names_that_leave_their_folder_are_refused_and_missing_ones_not_found() {
        let base = tempfile::tempdir().unwrap();
        let host = host(base.path());
        assert!(matches!(host.read("../secret.txt"), Err(HostError::Refused { .. })));
        assert!(matches!(host.read("/etc/passwd"), Err(HostError::Refused { .. })));
        assert!(matches!(host.read("none.png"), Err(HostError::NotFound { .. })));
        assert!(matches!(host.model("checkpoints", "../x"), Err(HostError::Refused { .. })));
        assert!(matches!(host.model("loras", "tiny.safetensors"), Err(HostError::NotFound { .. })));
    }

    #[test]
    fn what_is_saved_can_be_read_by_its_annotated_name() {
        let base = tempfile::tempdir().unwrap();
        let host = host(base.path());
        let request = SaveRequest {
            folder: FileFolder::Temp,
            prefix: "sub/%width%",
            suffix: "_temp",
            width: 5,
            height: 6,
            batch_index: 0,
            extension: "png",
        };
        let saved = host.save(&request, b"bytes").unwrap();
        assert_eq!(saved.filename, "5_temp_00001_.png");
        assert_eq!(&host.read("sub/5_temp_00001_.png [temp]").unwrap()[..], b"bytes");
    }
}
