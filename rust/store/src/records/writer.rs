//! The writer thread: takes every write that waits, does them in one transaction, and answers all.
//!
//! What must survive a power cut is answered by the [`Flusher`] when it is on the disk; meanwhile the writer goes on.
//! That is what lets many prompts a second be durable: one flush serves all that was committed before it.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::flusher::{Answer, Flusher};
use super::types::{Done, FinishedPrompt, NewPrompt, StoreError};

/// Writes in one transaction; bounds how long the first of them waits for the last.
const BATCH: usize = 256;

/// One write.
pub(super) enum Write {
    /// See [`super::Store::enqueue`].
    Enqueue(NewPrompt, Done<i64>),
    /// See [`super::Store::take`].
    Take(i64, Done<()>),
    /// See [`super::Store::release`].
    Release(i64, Done<()>),
    /// See [`super::Store::finish`]: answered when committed, then when durable.
    Finish(i64, Box<FinishedPrompt>, Done<bool>, Done<()>),
    /// See [`super::Store::delete`].
    Delete(Vec<i64>, Done<()>),
    /// See [`super::Store::delete_history`].
    DeleteHistory(Vec<String>, Done<()>),
    /// See [`super::Store::clear_history`].
    ClearHistory(Done<()>),
    /// Ends the writer when everything before it is written.
    Close,
}

/// Answers that wait.
#[derive(Default)]
struct Answers {
    /// For the commit.
    committed: Vec<Answer>,
    /// For the disk.
    durable: Vec<Answer>,
}

/// Bounds of the history, and what it holds now.
pub(super) struct HistoryBounds {
    pub(super) max_entries: u64,
    pub(super) max_bytes: u64,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// What the writer thread owns.
pub(super) struct Writer {
    /// Shared with readers only when the database is in memory.
    pub(super) connection: Arc<Mutex<Connection>>,
    pub(super) bounds: HistoryBounds,
    /// In memory there is nothing to flush.
    pub(super) flusher: Option<Flusher>,
}

impl Writer {
    /// Writes until told to close or until nobody can write any more.
    pub(super) fn run(mut self, writes: &Receiver<Write>) {
        while let Ok(first) = writes.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = writes.try_recv()
            {
                batch.push(next);
            }
            let close = batch.iter().position(|write| matches!(write, Write::Close));
            let rest = close.map(|at| batch.split_off(at)).unwrap_or_default();
            self.write(batch);
            if close.is_some() {
                drop(rest);
                return;
            }
        }
    }

    fn write(&mut self, batch: Vec<Write>) {
        if batch.is_empty() {
            return;
        }
        let held = (self.bounds.entries, self.bounds.bytes);
        let connection = self.connection.clone();
        let mut connection = connection.lock();
        let mut answers = Answers::default();
        let result = self.transact(&mut connection, batch, &mut answers);
        drop(connection);
        if let Err(error) = &result {
            tracing::error!(%error, "a write failed");
            (self.bounds.entries, self.bounds.bytes) = held;
        }
        for answer in answers.committed {
            answer(result.clone());
        }
        match &self.flusher {
            Some(flusher) if result.is_ok() => {
                if !answers.durable.is_empty() {
                    flusher.flush(answers.durable);
                }
            }
            _ => answers.durable.into_iter().for_each(|answer| answer(result.clone())),
        }
    }

    fn transact(
        &mut self,
        connection: &mut Connection,
        batch: Vec<Write>,
        answers: &mut Answers,
    ) -> Result<(), StoreError> {
        let mut failed = None;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for write in batch {
            // After a failure nothing more is tried, but everyone still gets an answer.
            let result = self.apply(&transaction, write, failed.is_some(), answers);
            if let Err(error) = result {
                failed.get_or_insert(error);
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(transaction.commit()?),
        }
    }

    fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        write: Write,
        skip: bool,
        answers: &mut Answers,
    ) -> Result<(), StoreError> {
        let Answers { committed, durable } = answers;
        /// Does one write unless skipped, and holds its answer back.
        fn settle<T: Send + 'static>(
            answers: &mut Vec<Answer>,
            done: Done<T>,
            skip: bool,
            work: impl FnOnce() -> Result<T, StoreError>,
        ) -> Result<(), StoreError> {
            let (value, result) = match (!skip).then(work) {
                None => (Err(StoreError::Closed), Ok(())),
                Some(Ok(value)) => (Ok(value), Ok(())),
                Some(Err(error)) => (Err(error.clone()), Err(error)),
            };
            answers.push(Box::new(move |outcome| done(outcome.and(value))));
            result
        }
        match write {
            Write::Enqueue(prompt, done) => settle(durable, done, skip, || insert(transaction, &prompt)),
            Write::Take(seq, done) => settle(committed, done, skip, || {
                let sql = "UPDATE queue SET running = 1, attempts = attempts + 1 WHERE seq = ?1";
                transaction.prepare_cached(sql)?.execute([seq])?;
                Ok(())
            }),
            Write::Release(seq, done) => settle(committed, done, skip, || {
                let sql =
                    "UPDATE queue SET running = 0, attempts = attempts - 1 WHERE seq = ?1 AND running = 1";
                transaction.prepare_cached(sql)?.execute([seq])?;
                Ok(())
            }),
            Write::Finish(seq, finished, done, on_disk) => {
                durable.push(on_disk);
                settle(committed, done, skip, || self.finish(transaction, seq, &finished))
            }
            Write::Delete(seqs, done) => settle(durable, done, skip, || {
                let mut delete = transaction.prepare_cached("DELETE FROM queue WHERE seq = ?1")?;
                for seq in seqs {
                    delete.execute([seq])?;
                }
                Ok(())
            }),
            Write::DeleteHistory(ids, done) => settle(durable, done, skip, || {
                for id in ids {
                    self.forget(transaction, &id)?;
                }
                Ok(())
            }),
            Write::ClearHistory(done) => settle(durable, done, skip, || {
                transaction.execute("DELETE FROM history", [])?;
                (self.bounds.entries, self.bounds.bytes) = (0, 0);
                Ok(())
            }),
            Write::Close => Ok(()),
        }
    }

    fn finish(
        &mut self,
        transaction: &Transaction<'_>,
        seq: i64,
        finished: &FinishedPrompt,
    ) -> Result<bool, StoreError> {
        let was_queued = transaction.prepare_cached("DELETE FROM queue WHERE seq = ?1")?.execute([seq])? > 0;
        if !was_queued {
            return Ok(false);
        }
        self.forget(transaction, &finished.prompt_id)?;
        let bytes = (finished.entry.len() + finished.job.len()) as u64;
        let key = &finished.key;
        transaction
            .prepare_cached(
                "INSERT INTO history (prompt_id, bytes, status, created, duration, workflow_id, job, entry)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                finished.prompt_id.as_ref(),
                bytes as i64,
                key.status,
                key.created,
                key.duration,
                key.workflow_id,
                finished.job,
                finished.entry,
            ])?;
        self.bounds.entries += 1;
        self.bounds.bytes += bytes;
        self.trim(transaction)?;
        Ok(true)
    }

    /// Deletes the oldest entries while there are too many; the newest is kept whatever its size.
    fn trim(&mut self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        while self.bounds.entries > 1
            && (self.bounds.entries > self.bounds.max_entries || self.bounds.bytes > self.bounds.max_bytes)
        {
            let sql = "DELETE FROM history WHERE seq = (SELECT min(seq) FROM history) RETURNING bytes";
            let freed: Option<i64> =
                transaction.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
            let Some(freed) = freed else { return Ok(()) };
            self.release_bytes(freed);
        }
        Ok(())
    }

    fn forget(&mut self, transaction: &Transaction<'_>, prompt_id: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM history WHERE prompt_id = ?1 RETURNING bytes";
        let freed: Option<i64> =
            transaction.prepare_cached(sql)?.query_row([prompt_id], |row| row.get(0)).optional()?;
        if let Some(freed) = freed {
            self.release_bytes(freed);
        }
        Ok(())
    }

    fn release_bytes(&mut self, freed: i64) {
        self.bounds.entries = self.bounds.entries.saturating_sub(1);
        self.bounds.bytes = self.bounds.bytes.saturating_sub(freed.max(0) as u64);
    }
}

fn insert(transaction: &Transaction<'_>, prompt: &NewPrompt) -> Result<i64, StoreError> {
    transaction
        .prepare_cached("INSERT INTO queue (number, counter, prompt_id, item) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![prompt.number, prompt.counter, prompt.prompt_id.as_ref(), prompt.item.as_ref()])?;
    Ok(transaction.last_insert_rowid())
}
