//! Folders: where pictures, models and users' files live, and how names from outside reach them.
//!
//! Nothing here joins a name from outside to a path and opens the result. A name becomes a [`RelPath`] first
//! (no `..`, no root, no device names), and a file is opened beneath its folder, so that a symbolic link cannot
//! lead out of it either.
//!
//! - [`name`]: untrusted names.
//! - [`annotated`]: `picture.png [output]`.
//! - [`root`]: one folder and the opening of files beneath it.
//! - [`layout`]: the base directory, and which folder is which.
//! - [`models`]: model folder keys, their paths and what is in them.
//! - [`extra_paths`]: reading `extra_model_paths.yaml`.
//! - [`listing`]: recursive listings that are remembered until a folder changes.
//! - [`prefix`]: `%…%` fields of a file name prefix.
//! - [`save`]: writing under the next free counter, atomically.
//! - [`claims`]: what a run has saved that no history names yet.
//! - [`upload`]: writing what a client sends, in constant memory.
//! - [`media`]: what kind of file a name or its first bytes say it is.
//! - [`store`]: [`Folders`], the whole.

pub mod annotated;
pub mod claims;
pub mod error;
pub mod extra_paths;
pub mod layout;
pub mod listing;
pub mod media;
pub mod models;
pub mod name;
pub mod prefix;
pub mod root;
pub mod save;
pub mod store;
pub mod upload;

pub use annotated::Annotated;
pub use cap_std::fs::Metadata;
pub use claims::Claims;
pub use error::FolderError;
pub use layout::{FolderKind, FolderSettings, Layout};
pub use models::ModelFolders;
pub use name::RelPath;
pub use prefix::PrefixFields;
pub use root::{Root, Symlinks};
pub use save::{SaveName, Saved};
pub use store::Folders;
pub use upload::{OnConflict, Upload};
