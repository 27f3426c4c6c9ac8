//! Prompts on their way to a worker.
//!
//! The queue in memory is what requests and workers see; the store keeps it for the next process. A prompt becomes
//! visible here when its row is on disk. Locks are held for lines; waiting for work is a condition variable, so
//! that workers need no async runtime.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rushlight_protocol::{Audience, Event};
use rushlight_runtime::{CancelToken, EventSink};
use rushlight_store::records::{NewPrompt, Store, StoreError};
use serde_json::{Map, Value};

/// A prompt in the queue.
#[derive(Debug)]
pub struct QueuedPrompt {
    /// Its row in the store.
    pub seq: i64,
    /// Place in the queue: lower runs first.
    pub number: f64,
    /// Its id.
    pub prompt_id: Arc<str>,
    /// The queue item as JSON, as `GET /queue` gives it.
    pub item: Arc<str>,
    /// Parts of `extra_data` that are never stored.
    pub secrets: Map<String, Value>,
    /// Times that it was taken before.
    pub attempts: u32,
}

/// Orders `f64`s; numbers come from JSON and are never NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place(f64, i64);

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

/// A prompt that a worker runs.
#[derive(Debug, Clone)]
pub struct RunningPrompt {
    /// The prompt.
    pub prompt: Arc<QueuedPrompt>,
    /// Ends the run.
    pub cancel: CancelToken,
    /// When it began, in ms since the epoch.
    pub started: i64,
    /// How a client asked for the interruption; `None` when the server is stopping.
    asked: Option<Asked>,
}

/// How a client ends a running prompt. It is told by what it asked: jobs know `cancelled` since there is a route to
/// cancel them; to older clients an interrupted job has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// `POST /interrupt`.
    Interrupt,
    /// `POST /api/jobs/…/cancel`.
    Cancel,
}

/// What `POST /free` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FreeRequest {
    /// Unload models.
    pub unload_models: bool,
    /// Drop cached outputs.
    pub free_memory: bool,
}

/// What a worker does next.
#[derive(Debug)]
pub enum Work {
    /// Run this.
    Run(RunningPrompt),
    /// Give memory back.
    Free(FreeRequest),
    /// End.
    Stop,
}

#[derive(Default)]
struct State {
    pending: BTreeMap<Place, Arc<QueuedPrompt>>,
    /// Bytes of `pending`.
    pending_bytes: usize,
    running: Vec<RunningPrompt>,
    /// One a worker.
    free: HashMap<usize, FreeRequest>,
    stopping: bool,
}

/// Prompts on their way to a worker.
pub struct JobQueue {
    store: Arc<dyn Store>,
    sink: Arc<dyn EventSink>,
    state: Mutex<State>,
    changed: Condvar,
    counter: AtomicI64,
}

impl JobQueue {
    /// An empty queue.
    pub fn new(store: Arc<dyn Store>, sink: Arc<dyn EventSink>) -> Self {
        Self { store, sink, state: Mutex::default(), changed: Condvar::new(), counter: AtomicI64::new(0) }
    }

    /// Where it is kept.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Takes the next number.
    pub fn next_number(&self) -> i64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that is taken next.
    pub fn number(&self) -> i64 {
        self.counter.load(Ordering::Relaxed)
    }

    /// Sets the number that is taken next.
    pub fn set_number(&self, number: i64) {
        self.counter.store(number, Ordering::Relaxed);
    }

    /// Queues a prompt; `done` is called when it is on disk and in the queue.
    pub fn enqueue(
        self: &Arc<Self>,
        prompt: NewPrompt,
        secrets: Map<String, Value>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let queue = self.clone();
        let (number, prompt_id, item) = (prompt.number, prompt.prompt_id.clone(), prompt.item.clone());
        self.store.enqueue(
            prompt,
            Box::new(move |stored| {
                done(stored.map(|seq| {
                    queue.admit(QueuedPrompt { seq, number, prompt_id, item, secrets, attempts: 0 });
                }));
            }),
        );
    }

    /// Puts a prompt that is in the store into the queue.
    pub fn admit(&self, prompt: QueuedPrompt) {
        let place = Place(prompt.number, prompt.seq);
        let mut state = self.state.lock();
        state.insert(place, Arc::new(prompt));
        // Told before a worker can take the prompt, or its first events would come before this one.
        self.tell(state.remaining());
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for work. The prompt counts as running, and its attempt is in the store, when this returns.
    pub fn take(&self, worker: usize) -> Work {
        let running = {
            let mut state = self.state.lock();
            loop {
                if state.stopping {
                    return Work::Stop;
                }
                if let Some(request) = state.free.remove(&worker) {
                    return Work::Free(request);
                }
                if let Some(prompt) = state.pop_first() {
                    let cancel = CancelToken::default();
                    let running = RunningPrompt { prompt, cancel, started: now_ms(), asked: None };
                    state.running.push(running.clone());
                    break running;
                }
                self.changed.wait(&mut state);
            }
        };
        if let Err(error) = self.store.take(running.prompt.seq) {
            // Run it uncounted rather than never: only a lost attempt would not be noticed.
            tracing::error!(%error, prompt = %running.prompt.prompt_id, "the attempt was not stored");
        }
        self.tell(self.remaining());
        Work::Run(running)
    }

    /// The run has ended, its history is written: the prompt is no longer in the queue.
    pub fn done(&self, seq: i64) {
        let mut state = self.state.lock();
        state.running.retain(|running| running.prompt.seq != seq);
        self.changed.notify_all();
    }

    /// Puts a running prompt back in its place; its attempt does not count.
    pub fn put_back(&self, running: &RunningPrompt) {
        if let Err(error) = self.store.release(running.prompt.seq) {
            tracing::error!(%error, prompt = %running.prompt.prompt_id, "the prompt was not put back");
        }
        let prompt = &running.prompt;
        let mut state = self.state.lock();
        state.running.retain(|other| other.prompt.seq != prompt.seq);
        state.insert(Place(prompt.number, prompt.seq), prompt.clone());
        self.changed.notify_all();
    }

    /// Prompts that run, and those that wait in order.
    pub fn snapshot(&self) -> (Vec<RunningPrompt>, Vec<Arc<QueuedPrompt>>) {
        let state = self.state.lock();
        (state.running.clone(), state.pending.values().cloned().collect())
    }

    /// Pending and running prompts.
    pub fn remaining(&self) -> usize {
        self.state.lock().remaining()
    }

    /// Bytes of the pending prompts.
    pub fn pending_bytes(&self) -> usize {
        self.state.lock().pending_bytes
    }

    /// Removes waiting prompts for which `matches` holds, from the store first. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError`]; then they may be gone from the queue but come back with the next process.
    pub fn remove(&self, matches: impl Fn(&QueuedPrompt) -> bool) -> Result<usize, StoreError> {
        let (removed, remaining) = {
            let mut state = self.state.lock();
            let places: Vec<_> =
                state.pending.iter().filter(|(_, prompt)| matches(prompt)).map(|(place, _)| *place).collect();
            let removed: Vec<_> = places.iter().filter_map(|place| state.remove(place)).collect();
            (removed, state.remaining())
        };
        if removed.is_empty() {
            return Ok(0);
        }
        self.store.delete(removed.iter().map(|prompt| prompt.seq).collect())?;
        self.tell(remaining);
        Ok(removed.len())
    }

    /// Interrupts running prompts: that one, or all for `None`. Whether one was running.
    pub fn interrupt(&self, prompt_id: Option<&str>, asked: Asked) -> bool {
        let mut state = self.state.lock();
        let mut any = false;
        for running in &mut state.running {
            if prompt_id.is_none_or(|id| id == running.prompt.prompt_id.as_ref()) {
                running.asked = Some(asked);
                running.cancel.cancel();
                any = true;
            }
        }
        any
    }

    /// Interrupts whatever runs because the server stops: it is put back and runs again in the next process.
    pub fn suspend(&self) {
        for running in &self.state.lock().running {
            running.cancel.cancel();
        }
    }

    /// How a client asked to end that running prompt, if one did.
    pub fn asked_to_end(&self, seq: i64) -> Option<Asked> {
        self.state.lock().running.iter().find(|running| running.prompt.seq == seq)?.asked
    }

    /// Asks each of `workers` workers to give memory back when its prompt has ended.
    pub fn free(&self, request: FreeRequest, workers: usize) {
        let mut state = self.state.lock();
        for worker in 0..workers {
            let waiting = state.free.entry(worker).or_default();
            waiting.unload_models |= request.unload_models;
            waiting.free_memory |= request.free_memory;
        }
        self.changed.notify_all();
    }

    /// Tells workers to end when their prompts have.
    pub fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Whether workers have been told to end.
    pub fn is_stopping(&self) -> bool {
        self.state.lock().stopping
    }

    /// Waits until nothing runs. Whether that was so in time.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        !self.changed.wait_while_for(&mut state, |state| !state.running.is_empty(), timeout).timed_out()
    }

    /// Tells everyone how many prompts are left.
    pub fn tell(&self, queue_remaining: usize) {
        self.sink.send(&Audience::Everyone, Event::Status { queue_remaining });
    }
}

impl State {
    fn remaining(&self) -> usize {
        self.pending.len() + self.running.len()
    }

    fn insert(&mut self, place: Place, prompt: Arc<QueuedPrompt>) {
        self.pending_bytes += prompt.item.len();
        if let Some(replaced) = self.pending.insert(place, prompt) {
            self.pending_bytes -= replaced.item.len();
        }
    }

    fn pop_first(&mut self) -> Option<Arc<QueuedPrompt>> {
        let place = *self.pending.first_key_value()?.0;
        self.remove(&place)
    }

    fn remove(&mut self, place: &Place) -> Option<Arc<QueuedPrompt>> {
        let prompt = self.pending.remove(place)?;
        self.pending_bytes -= prompt.item.len();
        Some(prompt)
    }
}

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
