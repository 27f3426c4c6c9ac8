//! Queue and history rows that survive the process.
//!
//! - [`types`]: what is stored, and the narrow [`Store`] trait.
//! - [`sqlite`]: [`SqliteStore`], on disk or in memory.
//! - `writer`: its writer thread and group commit; `flusher`: its flusher thread.
//! - `schema`: tables and migrations.

mod flusher;
mod schema;
pub mod sqlite;
#[cfg(test)]
mod tests;
pub mod types;
mod writer;

pub use sqlite::{SqliteOptions, SqliteStore};
pub use types::{
    Done, FinishedPrompt, HistoryPage, JobKey, NewPrompt, Recovered, Store, StoreError, StoredPrompt,
};
