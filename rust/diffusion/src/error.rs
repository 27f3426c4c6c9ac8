//! The one error type of the engine: what was tried, where, and which limit or shape was in the way.

use std::path::PathBuf;

/// Everything that can go wrong between bytes of a model file and a latent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed (shapes, dtypes, devices, memory of the device).
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),

    /// A callback asked to stop; nothing is wrong with the computation itself.
    #[error("stopped by the caller")]
    Cancelled,

    /// A tensor has another shape than the operation needs.
    #[error("{what}: expected shape {expected}, found {found:?}")]
    Shape {
        /// The tensor, in words.
        what: String,
        /// The shape wanted, in words or numbers.
        expected: String,
        /// The shape found.
        found: Vec<usize>,
    },

    /// A name is not in the table it was looked up in.
    #[error("unknown {kind} {name:?}, known are: {known}")]
    UnknownName {
        /// What was looked up (`"sampler"`, `"scheduler"`, …).
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// Names of the table, comma separated.
        known: String,
    },

    /// A number or option is outside what is allowed.
    #[error("{what} is {value}, allowed: {allowed}")]
    InvalidValue {
        /// The option, in words.
        what: String,
        /// Its value.
        value: String,
        /// The allowed values, in words.
        allowed: String,
    },

    /// A declared size is over a limit, found before anything was allocated for it.
    #[error("{what}: {found} is over the limit of {limit}")]
    Limit {
        /// What was measured.
        what: String,
        /// The size found.
        found: u64,
        /// The limit it is over.
        limit: u64,
    },

    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },

    /// Bytes are not in the format they were taken for.
    #[error("{what}: {reason}")]
    Format {
        /// The file or the part of it.
        what: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A tensor is missing from a state dict.
    #[error("tensor {key:?} is missing from {what}")]
    MissingTensor {
        /// The key that was looked up.
        key: String,
        /// The file or model part.
        what: String,
    },

    /// The request is well formed, but this engine cannot do it.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// The feature or file kind.
        what: String,
        /// The reason, and what to do instead where there is something.
        why: String,
    },
}

impl Error {
    /// A [`Error::Shape`] from a tensor's dimensions.
    pub fn shape(what: impl Into<String>, expected: impl Into<String>, found: &[usize]) -> Self {
        Self::Shape { what: what.into(), expected: expected.into(), found: found.to_vec() }
    }

    /// An [`Error::InvalidValue`].
    pub fn invalid(what: impl Into<String>, value: impl ToString, allowed: impl Into<String>) -> Self {
        Self::InvalidValue { what: what.into(), value: value.to_string(), allowed: allowed.into() }
    }

    /// An [`Error::UnknownName`] listing the table's names.
    pub fn unknown<'a>(kind: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        Self::UnknownName { kind, name: name.to_owned(), known }
    }
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
