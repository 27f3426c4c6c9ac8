//! What must survive.
//!
//! - [`folders`]: the input, output, temp and user folders, model folders, safe names, atomic writes.
//! - [`records`]: queue and history, in SQLite or in memory.

pub mod folders;
pub mod records;

pub use folders::Folders;
pub use records::{SqliteOptions, SqliteStore, Store, StoreError};
