//! Ends Python nodes that do not look whether they are interrupted.
//!
//! One thread looks at the running calls a few times a second without touching Python. A call whose run was
//! cancelled is first told (`rushlight.host.interrupts`), its user is told that it is being waited for, and after a
//! grace, and after each further one, its thread gets an asynchronous exception; for a coroutine that is the event
//! loop's thread, and only while that coroutine keeps the loop from going on. Lock order: interpreter, then the list;
//! the list is never held while attaching.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::prelude::*;
use rushlight_runtime::NodeContext;

const TICK: Duration = Duration::from_millis(50);
const TELL_AFTER: Duration = Duration::from_secs(1);
/// After which a coroutine that did not block its loop is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The running calls.
pub struct Watch {
    calls: Mutex<Vec<Call>>,
    next: AtomicU64,
    grace: Duration,
    stop: AtomicBool,
}

struct Call {
    id: u64,
    context: NodeContext,
    /// Python's id of the thread, `None` for coroutines (they are cancelled in place of it).
    thread: Option<u64>,
    cancelled_at: Option<Instant>,
    told: bool,
    /// When it is to be ended, or looked at again.
    due: Option<Instant>,
    /// The thread that got an exception.
    raised: Option<u64>,
}

enum Act {
    Cancel(u64, NodeContext),
    Raise(u64, Option<u64>),
}

impl Watch {
    /// Starts the thread; it ends when the last `Arc` goes or [`Watch::stop`] is called.
    pub fn start(grace: Duration) -> Arc<Self> {
        let watch = Arc::new(Self {
            calls: Mutex::new(Vec::new()),
            next: AtomicU64::new(1),
            grace,
            stop: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&watch);
        let spawned = std::thread::Builder::new().name("rushlight-watch".into()).spawn(move || run(&weak));
        if let Err(error) = spawned {
            tracing::warn!("cannot watch for nodes that ignore interrupts: {error}");
        }
        watch
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// A call begins on this thread (`thread`: its Python id) or as a coroutine (`None`).
    pub fn enter(self: &Arc<Self>, context: &NodeContext, thread: Option<u64>) -> Watched {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.calls.lock().push(Call {
            id,
            context: context.clone(),
            thread,
            cancelled_at: None,
            told: false,
            due: None,
            raised: None,
        });
        Watched { id, watch: self.clone() }
    }

    fn look(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        for call in self.calls.lock().iter_mut().filter(|call| call.context.run.cancel.is_cancelled()) {
            let Some(since) = call.cancelled_at else {
                call.cancelled_at = Some(Instant::now());
                acts.push(Act::Cancel(call.id, call.context.clone()));
                continue;
            };
            // A run does not wait for its coroutines.
            if !call.told && call.thread.is_some() && since.elapsed() >= TELL_AFTER {
                call.told = true;
                call.context.progress_text(&format!(
                    "Interrupting: waiting for {} to stop (it is ended after {} s)",
                    call.context.node.class_type,
                    self.grace.as_secs()
                ));
            }
            if Instant::now() >= call.due.unwrap_or(since + self.grace) {
                call.due = Some(Instant::now() + self.grace.max(LOOK_AGAIN));
                acts.push(Act::Raise(call.id, call.thread));
            }
        }
        acts
    }

    fn act(&self, py: Python<'_>, act: Act) {
        match act {
            Act::Cancel(id, context) => {
                let told = Bound::new(py, crate::context::PyNodeContext::new(context)).and_then(|context| {
                    py.import("rushlight.host.interrupts")?.call_method1("cancel", (id, context))
                });
                if let Err(error) = told {
                    tracing::warn!("telling a Python node of an interrupt failed: {error}");
                }
            }
            Act::Raise(id, thread) => {
                let kind = py
                    .import("rushlight.host.errors")
                    .and_then(|errors| errors.call_method0("interrupt_class"));
                let Ok(kind) = kind else { return };
                let thread = thread.or_else(|| blocked_thread(py, id));
                let mut calls = self.calls.lock();
                let Some(call) = calls.iter_mut().find(|call| call.id == id) else { return };
                let Some(thread) = thread else {
                    call.due = Some(Instant::now() + LOOK_AGAIN);
                    return;
                };
                call.raised = Some(thread);
                // SAFETY: attached; the exception class is kept by its module and the call is still in its thread,
                // because leaving takes this lock.
                unsafe { ffi::PyThreadState_SetAsyncExc(thread as std::ffi::c_long, kind.as_ptr()) };
            }
        }
    }
}

/// The event loop's thread, if the call's coroutine keeps the loop from going on.
fn blocked_thread(py: Python<'_>, id: u64) -> Option<u64> {
    let asked = py
        .import("rushlight.host.interrupts")
        .and_then(|interrupts| interrupts.call_method1("blocked_thread", (id,))?.extract());
    asked.unwrap_or_else(|error| {
        tracing::warn!("looking for a coroutine that blocks its loop failed: {error}");
        None
    })
}

/// A call in the list; must be dropped with the interpreter attached.
pub struct Watched {
    id: u64,
    watch: Arc<Watch>,
}

impl Watched {
    /// Names the call in `rushlight.host.interrupts`.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut calls = self.watch.calls.lock();
        let Some(place) = calls.iter().position(|call| call.id == self.id) else { return };
        let call = calls.swap_remove(place);
        if let Some(thread) = call.raised {
            // SAFETY: clears an exception that was set and not yet raised; harmless if it was raised.
            unsafe { ffi::PyThreadState_SetAsyncExc(thread as std::ffi::c_long, std::ptr::null_mut()) };
        }
    }
}

fn run(watch: &Weak<Watch>) {
    loop {
        std::thread::sleep(TICK);
        let Some(watch) = watch.upgrade() else { return };
        if watch.stop.load(Ordering::Acquire) {
            return;
        }
        let acts = watch.look();
        if acts.is_empty() {
            continue;
        }
        let attached = Python::try_attach(|py| {
            for act in acts {
                watch.act(py, act);
            }
        });
        if attached.is_none() {
            return;
        }
    }
}
