//! The flusher thread: puts what the writer has committed on the disk, and answers those who wait for that.
//!
//! A commit in WAL mode is an append to the log. Flushing the log after it is all that `synchronous = FULL` adds to
//! `NORMAL`; done here, on a thread of its own, one flush serves every commit made while the last one was under way,
//! and a write that need not survive a power cut never waits for the disk.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::types::StoreError;

/// An answer that is held back until what it tells of is committed, or on the disk.
pub(super) type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The thread; dropping it flushes and answers what is left.
pub(super) struct Flusher {
    requests: Option<Sender<Vec<Answer>>>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// Starts the thread. `log` is SQLite's write-ahead log.
    pub(super) fn start(log: PathBuf) -> Result<Self, StoreError> {
        let (requests, received) = channel();
        let thread = std::thread::Builder::new()
            .name("rushlight-flush".into())
            .spawn(move || run(&log, &received))
            .map_err(|source| StoreError::Io { path: "flush thread".into(), source: Arc::new(source) })?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Answers when everything committed before is on the disk. Does not wait.
    pub(super) fn flush(&self, answers: Vec<Answer>) {
        let unsent = match &self.requests {
            Some(requests) => requests.send(answers).err().map(|unsent| unsent.0),
            None => Some(answers),
        };
        unsent.into_iter().flatten().for_each(|answer| answer(Err(StoreError::Closed)));
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's flusher panicked");
        }
    }
}

fn run(log: &PathBuf, requests: &Receiver<Vec<Answer>>) {
    let mut file = None;
    let mut failed: Option<StoreError> = None;
    while let Ok(mut answers) = requests.recv() {
        answers.extend(requests.try_iter().flatten());
        // After a failed flush the system may believe that the lost pages are written: no later flush can be trusted.
        let result = match &failed {
            Some(error) => Err(error.clone()),
            None => flush(log, &mut file)
                .map_err(|source| StoreError::Io { path: log.clone(), source: Arc::new(source) }),
        };
        if let Err(error) = &result
            && failed.is_none()
        {
            tracing::error!(%error, "the database cannot be flushed: nothing is durable until the server is started again");
            failed = Some(error.clone());
        }
        answers.into_iter().for_each(|answer| answer(result.clone()));
    }
}

/// The log stays the same file as long as a connection is open; SQLite makes it before the first commit.
fn flush(log: &PathBuf, file: &mut Option<File>) -> io::Result<()> {
    let file = match file {
        Some(file) => file,
        None => file.insert(File::options().write(true).open(log)?),
    };
    file.sync_data()
}
