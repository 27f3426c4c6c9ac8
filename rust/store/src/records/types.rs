//! What is stored, and the [`Store`] trait.

use std::path::PathBuf;
use std::sync::Arc;

/// Called once with the result of a write, on a thread of the store, when it is as durable as the write asks.
pub type Done<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

/// A prompt to queue.
#[derive(Debug, Clone)]
pub struct NewPrompt {
    /// Place in the queue: lower runs first.
    pub number: f64,
    /// The server's counter when it was accepted, so that a restarted server counts on.
    pub counter: i64,
    /// The prompt's id.
    pub prompt_id: Arc<str>,
    /// The queue item as JSON, without secrets.
    pub item: Arc<str>,
}

/// A queued prompt that a restarted server finds.
#[derive(Debug, Clone)]
pub struct StoredPrompt {
    /// Identity of the row; grows in order of arrival.
    pub seq: i64,
    /// Place in the queue.
    pub number: f64,
    /// The prompt's id.
    pub prompt_id: Arc<str>,
    /// The queue item as JSON.
    pub item: Arc<str>,
    /// Times that it was taken.
    pub attempts: u32,
    /// It was running when the server ended.
    pub was_running: bool,
}

/// Everything that a restarted server finds.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Prompts in the order they are to run.
    pub prompts: Vec<StoredPrompt>,
    /// The next value of the server's counter.
    pub next_counter: i64,
}

/// A prompt that has ended.
#[derive(Debug, Clone)]
pub struct FinishedPrompt {
    /// The prompt's id.
    pub prompt_id: Arc<str>,
    /// The history entry as JSON.
    pub entry: String,
    /// The job's summary as JSON.
    pub job: String,
    /// What jobs are filtered and sorted by.
    pub key: JobKey,
}

/// What jobs are filtered and sorted by.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobKey {
    /// The prompt's id.
    pub prompt_id: Arc<str>,
    /// `completed`, `failed` or `cancelled`.
    pub status: String,
    /// When it was queued, in ms since the epoch.
    pub created: i64,
    /// How long it ran, in ms.
    pub duration: i64,
    /// `extra_data.extra_pnginfo.workflow.id`.
    pub workflow_id: Option<String>,
}

/// Which part of the history is wanted, in order of completion.
#[derive(Debug, Clone, Copy, Default)]
pub struct HistoryPage {
    /// At most this many; without an offset the newest.
    pub max_items: Option<u64>,
    /// Skip this many of the oldest.
    pub offset: Option<u64>,
}

/// Why the store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process has the database open.
    #[error("{path} is in use by another server")]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// A newer version of this program wrote it.
    #[error("{path} was written by a newer version (schema {found}, this program knows {known})")]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// A file of the database cannot be had.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// SQLite failed.
    #[error("database: {0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Sqlite(Arc::new(error))
    }
}

/// Queue and history on whatever keeps them. Methods may block on the disk but for [`Store::enqueue`]; call them from
/// threads that may wait.
pub trait Store: Send + Sync {
    /// What the last process left. Prompts that were running are pending again, with their attempts counted.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`]; so for all methods, and [`StoreError::Closed`] after [`Store::close`].
    fn recover(&self) -> Result<Recovered, StoreError>;

    /// Queues a prompt. `done` gets the row's `seq` when the row would survive a power cut; writes that wait at the
    /// same time share the disk's flush.
    fn enqueue(&self, prompt: NewPrompt, done: Done<i64>);

    /// Marks a prompt as running and counts the attempt. Survives the process, not a power cut.
    fn take(&self, seq: i64) -> Result<(), StoreError>;

    /// Puts a running prompt back; the attempt does not count.
    fn release(&self, seq: i64) -> Result<(), StoreError>;

    /// Removes the prompt from the queue and adds its history entry, both or neither. Whether it was in the queue.
    ///
    /// Returns when that survives the process and others see it; `durable` is called when it survives a power cut,
    /// and dropped when the store is closed before.
    fn finish(&self, seq: i64, finished: FinishedPrompt, durable: Done<()>) -> Result<bool, StoreError>;

    /// Removes prompts from the queue.
    fn delete(&self, seqs: Vec<i64>) -> Result<(), StoreError>;

    /// Which entries a page of the history has, by `seq`, in order.
    fn history_page(&self, page: HistoryPage) -> Result<Vec<i64>, StoreError>;

    /// Visits the history entries `(prompt id, JSON)` of these `seqs` until `visit` returns false; those that are gone
    /// are skipped. How many of `seqs` were looked at. What `visit` does must not wait: the store may be busy with it.
    fn history(&self, seqs: &[i64], visit: &mut dyn FnMut(&str, &str) -> bool) -> Result<usize, StoreError>;

    /// One history entry as JSON.
    fn history_entry(&self, prompt_id: &str) -> Result<Option<String>, StoreError>;

    /// Deletes history entries.
    fn delete_history(&self, prompt_ids: Vec<String>) -> Result<(), StoreError>;

    /// Deletes the whole history.
    fn clear_history(&self) -> Result<(), StoreError>;

    /// Keys of every finished job, oldest first.
    fn job_keys(&self) -> Result<Vec<JobKey>, StoreError>;

    /// Summaries of finished jobs as JSON, in the order asked for; unknown ids are left out.
    fn jobs(&self, prompt_ids: &[Arc<str>]) -> Result<Vec<String>, StoreError>;

    /// Writes what is waiting and ends the writer.
    fn close(&self);
}
