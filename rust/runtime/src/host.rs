//! Files and models, as the rest of the program offers them to nodes.
//!
//! Nodes never join paths: they name a file in a folder, and the host opens it beneath that folder or refuses.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

/// One of the folders that pictures live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFolder {
    /// Uploads.
    Input,
    /// Results.
    Output,
    /// Previews; emptied at start and stop.
    Temp,
}

/// Where a model's bytes are.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A file, already resolved beneath its folder.
    Path(PathBuf),
    /// Part of the program.
    Embedded(&'static [u8]),
}

/// A file to write: the host picks the next free counter.
#[derive(Debug, Clone)]
pub struct SaveRequest<'a> {
    /// Folder to write to.
    pub folder: FileFolder,
    /// `filename_prefix`, with its `%…%` fields and subfolders.
    pub prefix: &'a str,
    /// Appended to the prefix (a random suffix of previews), or empty.
    pub suffix: &'a str,
    /// Width in pixels for `%width%`, 0 if none.
    pub width: usize,
    /// Height in pixels for `%height%`, 0 if none.
    pub height: usize,
    /// Place in the batch for `%batch_num%`.
    pub batch_index: usize,
    /// File name extension without the dot.
    pub extension: &'a str,
}

/// A file as clients name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SavedFile {
    /// Name in its folder.
    pub filename: String,
    /// Folder beneath the type's folder, `/`-separated, or empty.
    pub subfolder: String,
    /// `output`, `temp` or `input`.
    #[serde(rename = "type")]
    pub folder: FileFolder,
}

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No such file.
    #[error("{what} not found: {name}")]
    NotFound {
        /// What was looked for (`checkpoint`, `input image`, …).
        what: String,
        /// Its name.
        name: String,
    },
    /// The name leaves its folder, or is otherwise not allowed.
    #[error("refused {name}: {reason}")]
    Refused {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The file is over a limit.
    #[error("{name} is too large: {size} {unit}, the limit is {limit}")]
    TooLarge {
        /// The name.
        name: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// The system said no.
    #[error("{name}: {source}")]
    Io {
        /// The name.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A [`Host`] of one run.
pub trait RunHost: Host {
    /// The run has ended and its history is written: what it saved stays.
    fn keep(&self);

    /// The run will be repeated: what it saved goes.
    fn discard(&self);
}

/// What nodes may ask of the program around them.
pub trait Host: Send + Sync {
    /// Names of models in a folder key (`checkpoints`, `loras`, …), relative with `/`, sorted.
    fn model_names(&self, folder: &str) -> Vec<String>;

    /// Where a model is.
    ///
    /// # Errors
    /// [`HostError::NotFound`], or [`HostError::Refused`] for a name that leaves its folder.
    fn model(&self, folder: &str, name: &str) -> Result<ModelSource, HostError>;

    /// Names of files in the input folder whose media type (`image`, `audio`, `video`) or extension (with its dot) is one of
    /// `kinds`; sorted.
    fn input_names(&self, kinds: &[&str]) -> Vec<String>;

    /// Reads a file named as clients do: `name`, `sub/name`, `name [output]`.
    ///
    /// # Errors
    /// Any [`HostError`].
    fn read(&self, annotated_name: &str) -> Result<Bytes, HostError>;

    /// A fingerprint of a file's content, for cache keys.
    ///
    /// # Errors
    /// Any [`HostError`].
    fn fingerprint(&self, annotated_name: &str) -> Result<String, HostError>;

    /// Writes a file under the next free name, to a temporary name first.
    ///
    /// # Errors
    /// Any [`HostError`].
    fn save(&self, request: &SaveRequest<'_>, bytes: &[u8]) -> Result<SavedFile, HostError>;

    /// Checks a `filename_prefix` without writing anything, for validation.
    ///
    /// # Errors
    /// [`HostError::Refused`] for a prefix that is absolute or leaves its folder.
    fn check_prefix(&self, _prefix: &str) -> Result<(), HostError> {
        Ok(())
    }

    /// The same host for one run, by its number in the queue: remembers what the run saves until it is said whether
    /// that stays. `None` where nothing outlives the process.
    fn for_run(&self, _run: i64) -> Option<Arc<dyn RunHost>> {
        None
    }

    /// Whether saved pictures carry the prompt.
    fn metadata_enabled(&self) -> bool {
        true
    }

    /// Changes whenever lists of models or files may have changed. Asked often, so it must cost little.
    fn generation(&self) -> u64 {
        0
    }

    /// Pixels a decoded picture may have.
    fn max_image_pixels(&self) -> u64 {
        64 << 20
    }
}
