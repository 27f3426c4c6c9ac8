//! Why a file or folder could not be had.

use std::path::PathBuf;

/// Every way in which a folder operation fails.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The name itself is not allowed (absolute, `..`, NUL, a device name, …).
    #[error("the name {name:?} is not allowed: {reason}")]
    BadName {
        /// The name as it came.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The name is fine but leads out of its folder, through a symbolic link.
    #[error("{name:?} leads out of its folder")]
    Escapes {
        /// The name.
        name: String,
    },
    /// No such file.
    #[error("{name:?} does not exist")]
    NotFound {
        /// The name.
        name: String,
    },
    /// It exists and may not be replaced.
    #[error("{name:?} exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// A file is over a limit.
    #[error("{name:?} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The name.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A configuration file could not be used.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system said no.
    #[error("{name:?}: {source}")]
    Io {
        /// The file or folder.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl FolderError {
    /// Sorts a system error: a missing file is [`FolderError::NotFound`], the rest [`FolderError::Io`].
    pub fn from_io(name: &str, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        // A link that leads to itself (ELOOP, whose kind is not stable yet) leads to no file.
        let looped = if cfg!(target_os = "linux") { 40 } else { 62 };
        if cfg!(unix) && source.raw_os_error() == Some(looped) {
            return Self::NotFound { name: name.into() };
        }
        match source.kind() {
            // A file where a folder was expected means that nothing of that name can exist.
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::NotFound { name: name.into() },
            ErrorKind::AlreadyExists => Self::Exists { name: name.into() },
            _ => Self::Io { name: name.into(), source },
        }
    }
}
