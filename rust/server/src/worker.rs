//! The compute threads: one OS thread a device, which owns that device's executor and runs one prompt at a time.
//!
//! After a run: history row and end of the queue row in one transaction, then `execution_success` (or what stands in
//! its place), `status`, `executing null`. So whoever sees any of them can read the history, and it survives a power
//! cut: events wait at the dispatcher's gate until the disk has it, while the next prompt runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use candle_core::Device;
use rushlight_protocol::event::ExecutionError;
use rushlight_protocol::{Audience, Event, HistoryStatus, QueueItem};
use rushlight_runtime::context::PreviewMethod;
use rushlight_runtime::host::{Host, RunHost};
use rushlight_runtime::placement::place;
use rushlight_runtime::{Executor, ExecutorOptions, Job, Outcome, RunContext};
use rushlight_store::records::{FinishedPrompt, StoreError};

use crate::dispatcher::Barrier;
use crate::job::{self, Times};
use crate::queue::{Asked, QueuedPrompt, RunningPrompt, Work, now_ms};
use crate::state::AppState;

/// Attempts after which a prompt that ends the process is given up.
const MAX_ATTEMPTS: u32 = 2;

/// Starts the compute thread of a device. It ends when the queue is stopped.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(
    state: AppState,
    index: usize,
    device: Device,
    options: ExecutorOptions,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("rushlight-worker-{index}"))
        // Expanded graphs and user code may go deep.
        .stack_size(16 << 20)
        .spawn(move || Worker { state, index, device, options }.run())
}

/// A compute thread.
struct Worker {
    state: AppState,
    index: usize,
    device: Device,
    options: ExecutorOptions,
}

impl Worker {
    fn run(self) {
        if !self.state.wait_ready() {
            return;
        }
        let mut executor = self.executor();
        loop {
            match self.state.queue.take(self.index) {
                Work::Stop => return,
                Work::Free(request) => {
                    executor.free(request.unload_models, request.free_memory);
                    if let Some(extension) = &self.state.extension {
                        extension.free(request.unload_models, request.free_memory);
                    }
                }
                Work::Run(running) => {
                    // Classes may have been added since.
                    if !Arc::ptr_eq(executor.classes(), &self.state.classes()) {
                        executor = self.executor();
                    }
                    self.run_one(&mut executor, &running);
                }
            }
        }
    }

    fn executor(&self) -> Executor {
        Executor::new(
            self.state.classes(),
            self.state.host.clone(),
            self.device.clone(),
            self.options.clone(),
        )
    }

    fn run_one(&self, executor: &mut Executor, running: &RunningPrompt) {
        let prompt = &running.prompt;
        let item: QueueItem = match serde_json::from_str(&prompt.item) {
            Ok(item) => item,
            Err(error) => {
                tracing::error!(%error, prompt = %prompt.prompt_id, "a queued prompt cannot be read");
                let outcome =
                    failed(prompt, "ValueError", format!("the queued prompt cannot be read: {error}"));
                self.end(
                    running,
                    &QueueItem(
                        0.into(),
                        prompt.prompt_id.to_string(),
                        Default::default(),
                        Default::default(),
                        Vec::new(),
                    ),
                    outcome,
                    &Audience::Nobody,
                    None,
                );
                return;
            }
        };
        let audience = audience_of(&item);
        let files = self.state.host.for_run(prompt.seq);
        let outcome = if prompt.attempts >= MAX_ATTEMPTS {
            failed(prompt, "RuntimeError", lost_message(prompt.attempts))
        } else {
            match Job::from_item(&item, &prompt.secrets, self.state.classes().as_ref()) {
                Err(rejected) => failed(prompt, "ValueError", rejected.to_string()),
                Ok(job) => {
                    let mut context = self.context(running, &item, audience.clone(), files.clone());
                    context.placement = place(&job.prompt, self.state.classes().as_ref()).unwrap_or_default();
                    let run = || executor.run(&job, Arc::new(context));
                    match catch_unwind(AssertUnwindSafe(run)) {
                        Ok(outcome) => outcome,
                        Err(panic) => {
                            // The executor's state cannot be trusted any more.
                            *executor = self.executor();
                            failed(
                                prompt,
                                "RuntimeError",
                                format!("the executor panicked: {}", panic_text(&panic)),
                            )
                        }
                    }
                }
            }
        };
        let interrupted = matches!(outcome.terminal, Event::ExecutionInterrupted { .. });
        if interrupted
            && self.state.queue.is_stopping()
            && self.state.queue.asked_to_end(prompt.seq).is_none()
        {
            // Interrupted by the shutdown only: the next process runs it again.
            if let Some(files) = files {
                files.discard();
            }
            self.state.queue.put_back(running);
            return;
        }
        self.end(running, &item, outcome, &audience, files);
        if let Some(extension) = &self.state.extension {
            extension.run_ended(&prompt.prompt_id);
        }
    }

    fn context(
        &self,
        running: &RunningPrompt,
        item: &QueueItem,
        audience: Audience,
        files: Option<Arc<dyn RunHost>>,
    ) -> RunContext {
        let settings = &self.state.settings;
        let host: Arc<dyn Host> = match files {
            Some(files) => files,
            None => self.state.host.clone(),
        };
        let mut context = RunContext::new(
            running.prompt.prompt_id.clone(),
            audience,
            host,
            self.state.dispatcher.clone(),
            self.device.clone(),
        );
        context.cancel = running.cancel.clone();
        context.follower = self.state.extension.as_ref().and_then(|extension| extension.follower());
        context.preview_size = settings.preview_size;
        let wanted = item.extra_data().get("preview_method").and_then(|method| method.as_str());
        context.preview_method = match wanted {
            Some("none") => PreviewMethod::None,
            Some("auto" | "latent2rgb") => PreviewMethod::Latent2Rgb,
            Some("taesd") => PreviewMethod::Taesd,
            _ => settings.preview_method,
        };
        context
    }

    /// Writes history, then tells how the prompt ended. What it saved is `files`'s until the disk has that.
    fn end(
        &self,
        running: &RunningPrompt,
        item: &QueueItem,
        outcome: Outcome,
        audience: &Audience,
        files: Option<Arc<dyn RunHost>>,
    ) {
        let times = Times { started: running.started, ended: now_ms() };
        let terminal = outcome.terminal.clone();
        let cancelled = self.state.queue.asked_to_end(running.prompt.seq) == Some(Asked::Cancel);
        let finished = job::finished(item, outcome, times, cancelled);
        // From here on nothing is told before the disk has this end.
        let barrier = self.state.dispatcher.hold();
        self.write(running, finished, files, barrier);
        let queue = &self.state.queue;
        queue.done(running.prompt.seq);
        // Everyone hears of an interrupted prompt that is nobody's.
        let to = match (&terminal, audience) {
            (Event::ExecutionInterrupted { .. }, Audience::Nobody) => &Audience::Everyone,
            _ => audience,
        };
        let sink = &self.state.dispatcher;
        use rushlight_runtime::EventSink;
        sink.send(to, terminal);
        queue.tell(queue.remaining());
        sink.send(audience, Event::ExecutingDone { prompt_id: running.prompt.prompt_id.clone() });
    }

    fn write(
        &self,
        running: &RunningPrompt,
        finished: FinishedPrompt,
        files: Option<Arc<dyn RunHost>>,
        barrier: Barrier,
    ) {
        let prompt = &running.prompt;
        let durable = move |flushed: Result<(), StoreError>| {
            if flushed.is_ok()
                && let Some(files) = files
            {
                files.keep();
            }
            // Lifted whatever came of it: an error is told to the log by the store.
            drop(barrier);
        };
        match self.state.queue.store().finish(prompt.seq, finished, Box::new(durable)) {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(prompt = %prompt.prompt_id, "the prompt was not in the store's queue");
            }
            Err(error) => {
                // It stays queued in the store and is run again by the next process: nothing is lost.
                tracing::error!(%error, prompt = %prompt.prompt_id, "the history entry was not written");
            }
        }
    }
}

/// Who is told of a prompt's events: its `client_id` if that is a name.
pub fn audience_of(item: &QueueItem) -> Audience {
    match item.client_id() {
        Some(sid) => Audience::Session(sid.into()),
        None => Audience::Nobody,
    }
}

fn lost_message(attempts: u32) -> String {
    format!(
        "The server ended {attempts} times while this prompt was running, so it is not run again. \
         Queue it anew to try once more."
    )
}

/// The outcome of a prompt that could not be run.
fn failed(prompt: &QueuedPrompt, exception_type: &str, message: String) -> Outcome {
    let error = ExecutionError {
        prompt_id: prompt.prompt_id.clone(),
        node_id: "".into(),
        node_type: "".into(),
        executed: Vec::new(),
        exception_message: message + "\n",
        exception_type: exception_type.into(),
        traceback: Vec::new(),
        current_inputs: Default::default(),
        current_outputs: Vec::new(),
        timestamp: u64::try_from(now_ms()).unwrap_or(0),
    };
    let terminal = Event::ExecutionError(Arc::new(error));
    let status = HistoryStatus {
        status_str: "error".into(),
        completed: false,
        messages: vec![("execution_error".into(), terminal.data())],
    };
    Outcome { terminal, status, outputs: Default::default(), meta: Default::default() }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
