//! [`SqliteStore`]: queue and history in SQLite, on disk (WAL) or in memory.
//!
//! Writes go to one thread (see `writer`), flushes to another (see `flusher`); reads have connections of their own and never wait for it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::flusher::Flusher;
use super::schema::migrate;
use super::types::{
    Done, FinishedPrompt, HistoryPage, JobKey, NewPrompt, Recovered, Store, StoreError, StoredPrompt,
};
use super::writer::{HistoryBounds, Write, Writer};

/// Pages (of 4 KiB) in the log at which SQLite moves them into the database.
const CHECKPOINT_PAGES: u32 = 8_192;

/// How much history is kept.
#[derive(Debug, Clone, Copy)]
pub struct SqliteOptions {
    /// Finished prompts.
    pub history_entries: u64,
    /// Bytes of their entries.
    pub history_bytes: u64,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { history_entries: 10_000, history_bytes: 1 << 30 }
    }
}

/// Queue and history in SQLite.
pub struct SqliteStore {
    writes: Mutex<Option<Sender<Write>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Readers,
    /// Held while the store lives, so that no second server runs the same queue.
    _lock: Option<File>,
}

enum Readers {
    /// Idle connections; one more is opened when all are in use.
    Disk { path: PathBuf, idle: Mutex<Vec<Connection>> },
    /// The writer's own connection: an in-memory database has no other.
    Memory(Arc<Mutex<Connection>>),
}

impl SqliteStore {
    /// Opens or creates a database file.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it, [`StoreError::TooNew`], [`StoreError::Io`].
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| StoreError::Io { path, source: Arc::new(source) }
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io(folder))?;
        }
        let lock_path = path.with_extension("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        if let Err(error) = lock.try_lock() {
            return Err(match error {
                std::fs::TryLockError::WouldBlock => StoreError::InUse { path: path.into() },
                std::fs::TryLockError::Error(source) => io(&lock_path)(source),
            });
        }
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        // A checkpoint flushes twice while all writes wait; the default of 1,000 pages is some 200 prompts.
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        migrate(&mut connection, path)?;
        // The flusher does what FULL would do at each commit.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let readers = Readers::Disk { path: path.into(), idle: Mutex::new(Vec::new()) };
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let on_disk = Some((lock, Flusher::start(log.into())?));
        Self::start(Arc::new(Mutex::new(connection)), readers, on_disk, options)
    }

    /// A store that is gone with the process.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn in_memory(options: SqliteOptions) -> Result<Self, StoreError> {
        let mut connection = Connection::open_in_memory()?;
        migrate(&mut connection, Path::new(":memory:"))?;
        let connection = Arc::new(Mutex::new(connection));
        Self::start(connection.clone(), Readers::Memory(connection), None, options)
    }

    fn start(
        connection: Arc<Mutex<Connection>>,
        readers: Readers,
        on_disk: Option<(File, Flusher)>,
        options: SqliteOptions,
    ) -> Result<Self, StoreError> {
        let (lock, flusher) = on_disk.unzip();
        let (entries, bytes) = connection.lock().query_row(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM history",
            [],
            |row| Ok((row.get::<_, i64>(0)?.max(0) as u64, row.get::<_, i64>(1)?.max(0) as u64)),
        )?;
        let writer = Writer {
            connection,
            bounds: HistoryBounds {
                max_entries: options.history_entries,
                max_bytes: options.history_bytes,
                entries,
                bytes,
            },
            flusher,
        };
        let (writes, received) = channel();
        let thread = std::thread::Builder::new()
            .name("rushlight-store".into())
            .spawn(move || writer.run(&received))
            .map_err(|source| StoreError::Io { path: "store thread".into(), source: Arc::new(source) })?;
        Ok(Self { writes: Mutex::new(Some(writes)), writer: Mutex::new(Some(thread)), readers, _lock: lock })
    }

    /// Hands a write to the writer, or drops it (and with it its `done`) when the store is closed.
    fn send(&self, write: Write) -> Result<(), StoreError> {
        let writes = self.writes.lock();
        writes.as_ref().and_then(|writes| writes.send(write).ok()).ok_or(StoreError::Closed)
    }

    /// Sends a write and waits for its answer.
    fn wait<T: Send + 'static>(&self, write: impl FnOnce(Done<T>) -> Write) -> Result<T, StoreError> {
        let (answer, answered) = sync_channel(1);
        // A caller that is gone needs no answer.
        self.send(write(Box::new(move |result| drop(answer.send(result)))))?;
        answered.recv().unwrap_or(Err(StoreError::Closed))
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        match &self.readers {
            Readers::Memory(connection) => Ok(query(&connection.lock())?),
            Readers::Disk { path, idle } => {
                let connection = match idle.lock().pop() {
                    Some(connection) => connection,
                    None => Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
                };
                let result = query(&connection);
                idle.lock().push(connection);
                Ok(result?)
            }
        }
    }
}

impl Store for SqliteStore {
    fn recover(&self) -> Result<Recovered, StoreError> {
        self.read(|connection| {
            let mut rows = connection.prepare(
                "SELECT seq, number, prompt_id, item, attempts, running, counter FROM queue ORDER BY number, seq",
            )?;
            let mut next_counter = 0;
            let prompts = rows
                .query_map([], |row| {
                    next_counter = next_counter.max(row.get::<_, i64>(6)?.saturating_add(1));
                    Ok(StoredPrompt {
                        seq: row.get(0)?,
                        number: row.get(1)?,
                        prompt_id: row.get::<_, String>(2)?.into(),
                        item: row.get::<_, String>(3)?.into(),
                        attempts: row.get(4)?,
                        was_running: row.get::<_, i64>(5)? != 0,
                    })
                })?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Recovered { prompts, next_counter })
        })
    }

    fn enqueue(&self, prompt: NewPrompt, done: Done<i64>) {
        let writes = self.writes.lock();
        let write = Write::Enqueue(prompt, done);
        let refused = match writes.as_ref() {
            None => Some(write),
            Some(writes) => writes.send(write).err().map(|unsent| unsent.0),
        };
        drop(writes);
        if let Some(Write::Enqueue(_, done)) = refused {
            done(Err(StoreError::Closed));
        }
    }

    fn take(&self, seq: i64) -> Result<(), StoreError> {
        self.wait(|done| Write::Take(seq, done))
    }

    fn release(&self, seq: i64) -> Result<(), StoreError> {
        self.wait(|done| Write::Release(seq, done))
    }

    fn finish(&self, seq: i64, finished: FinishedPrompt, durable: Done<()>) -> Result<bool, StoreError> {
        self.wait(|done| Write::Finish(seq, Box::new(finished), done, durable))
    }

    fn delete(&self, seqs: Vec<i64>) -> Result<(), StoreError> {
        self.wait(|done| Write::Delete(seqs, done))
    }

    fn history_page(&self, page: HistoryPage) -> Result<Vec<i64>, StoreError> {
        self.read(|connection| {
            // Without an offset the newest are wanted, still oldest first.
            let sql = match (page.offset, page.max_items) {
                (None, Some(_)) => {
                    "SELECT seq FROM (SELECT seq FROM history ORDER BY seq DESC LIMIT ?1 OFFSET ?2) ORDER BY seq"
                }
                _ => "SELECT seq FROM history ORDER BY seq LIMIT ?1 OFFSET ?2",
            };
            let limit = page.max_items.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
            let offset = i64::try_from(page.offset.unwrap_or(0)).unwrap_or(i64::MAX);
            connection.prepare_cached(sql)?.query_map([limit, offset], |row| row.get(0))?.collect()
        })
    }

    fn history(&self, seqs: &[i64], visit: &mut dyn FnMut(&str, &str) -> bool) -> Result<usize, StoreError> {
        self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT prompt_id, entry FROM history WHERE seq = ?1")?;
            for (index, seq) in seqs.iter().enumerate() {
                let mut rows = query.query([seq])?;
                if let Some(row) = rows.next()?
                    && !visit(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?)
                {
                    return Ok(index + 1);
                }
            }
            Ok(seqs.len())
        })
    }

    fn history_entry(&self, prompt_id: &str) -> Result<Option<String>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT entry FROM history WHERE prompt_id = ?1")?
                .query_row([prompt_id], |row| row.get(0))
                .optional()
        })
    }

    fn delete_history(&self, prompt_ids: Vec<String>) -> Result<(), StoreError> {
        self.wait(|done| Write::DeleteHistory(prompt_ids, done))
    }

    fn clear_history(&self) -> Result<(), StoreError> {
        self.wait(Write::ClearHistory)
    }

    fn job_keys(&self) -> Result<Vec<JobKey>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT prompt_id, status, created, duration, workflow_id FROM history ORDER BY seq",
                )?
                .query_map([], |row| {
                    Ok(JobKey {
                        prompt_id: row.get::<_, String>(0)?.into(),
                        status: row.get(1)?,
                        created: row.get(2)?,
                        duration: row.get(3)?,
                        workflow_id: row.get(4)?,
                    })
                })?
                .collect()
        })
    }

    fn jobs(&self, prompt_ids: &[Arc<str>]) -> Result<Vec<String>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached("SELECT job FROM history WHERE prompt_id = ?1")?;
            let mut jobs = Vec::with_capacity(prompt_ids.len());
            for id in prompt_ids {
                jobs.extend(query.query_row([id.as_ref()], |row| row.get(0)).optional()?);
            }
            Ok(jobs)
        })
    }

    fn close(&self) {
        // The sender goes, so later writes are refused; those before are written first.
        if let Some(writes) = self.writes.lock().take() {
            let _ = writes.send(Write::Close);
        }
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}
