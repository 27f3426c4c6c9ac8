//! The [`Dispatcher`]: every session, and who is told what.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rushlight_protocol::event::connect_status;
use rushlight_protocol::{Audience, Event};
use rushlight_runtime::EventSink;
use serde_json::json;
use uuid::Uuid;

use super::frame::Frame;
use super::gate::{Barrier, Gate};
use super::session::{Proof, Session};
use crate::settings::Limits;

/// Bytes that a `clientId` may have.
const MAX_SID: usize = 256;

/// Why a socket may not take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Somebody else's session (see [`Session::admits`]).
    #[error("this clientId belongs to another client")]
    Taken,
    /// The name is too long.
    #[error("a clientId may have {MAX_SID} bytes")]
    TooLong,
    /// Too many sockets are open.
    #[error("too many sockets are open")]
    TooMany,
}

/// A socket that takes part in a session until it is dropped.
pub struct Joined {
    /// The session.
    pub session: Arc<Session>,
    /// The socket's number.
    pub socket: u64,
    dispatcher: Arc<Dispatcher>,
    /// The name was made up for this socket: nobody can come back under it without resuming.
    anonymous: bool,
}

/// Prompt and node that last began.
type Begun = (Arc<str>, Arc<str>);

/// Every session, and who is told what.
pub struct Dispatcher {
    limits: Limits,
    gate: Arc<Gate<(Audience, Event)>>,
    sessions: RwLock<HashMap<Arc<str>, Arc<Session>>>,
    /// By session, while the prompt runs.
    running: Mutex<HashMap<Arc<str>, Begun>>,
    /// What the last `status` said.
    remaining: AtomicUsize,
    sockets: AtomicUsize,
    next_socket: AtomicU64,
    last_sweep: Mutex<Instant>,
}

impl Dispatcher {
    /// A dispatcher without sessions.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new_cyclic(|dispatcher: &Weak<Self>| Self {
            limits,
            gate: Arc::new(Gate::new({
                let dispatcher = dispatcher.clone();
                move |(to, event)| {
                    if let Some(dispatcher) = dispatcher.upgrade() {
                        dispatcher.deliver(&to, &event);
                    }
                }
            })),
            sessions: RwLock::default(),
            running: Mutex::default(),
            remaining: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            next_socket: AtomicU64::new(1),
            last_sweep: Mutex::new(Instant::now()),
        })
    }

    /// Lets a socket take part as `sid`, or under a new name when there is none. `status`, and `executing` if its
    /// prompt runs, are queued first.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(self: &Arc<Self>, sid: Option<&str>, proof: &Proof) -> Result<Joined, ConnectError> {
        self.sweep();
        if sid.is_some_and(|sid| sid.len() > MAX_SID) {
            return Err(ConnectError::TooLong);
        }
        let sid = sid.filter(|sid| !sid.is_empty());
        let anonymous = sid.is_none();
        let sid: Arc<str> = match sid {
            Some(sid) => sid.into(),
            None => Uuid::new_v4().simple().to_string().into(),
        };
        if self.sockets.fetch_add(1, Ordering::Relaxed) >= self.limits.sockets {
            self.sockets.fetch_sub(1, Ordering::Relaxed);
            return Err(ConnectError::TooMany);
        }
        // Held until the socket is attached: a session that is swept away in between would get no events.
        let mut sessions = self.sessions.write();
        let session = sessions
            .entry(sid.clone())
            .or_insert_with(|| {
                let token = Uuid::new_v4().simple().to_string();
                Arc::new(Session::new(sid.clone(), token, proof.peer, &self.limits))
            })
            .clone();
        if !session.admits(proof) {
            self.sockets.fetch_sub(1, Ordering::Relaxed);
            return Err(ConnectError::Taken);
        }
        let mut first = vec![Frame::direct(connect_status(self.remaining.load(Ordering::Relaxed), &sid))];
        if let Some((_, node)) = self.running.lock().get(&sid) {
            let frame = json!({ "type": "executing", "data": { "node": node } });
            first.push(Frame::direct(frame.to_string()));
        }
        let socket = self.next_socket.fetch_add(1, Ordering::Relaxed);
        session.attach(socket, proof.peer, first);
        drop(sessions);
        Ok(Joined { session, socket, dispatcher: self.clone(), anonymous })
    }

    /// The session of that name.
    pub fn session(&self, sid: &str) -> Option<Arc<Session>> {
        self.sessions.read().get(sid).cloned()
    }

    /// Every session that has a socket.
    pub fn connected(&self) -> Vec<Arc<Session>> {
        self.sessions.read().values().filter(|session| session.is_connected()).cloned().collect()
    }

    /// Asks every socket to close.
    pub fn close_all(&self, code: u16, reason: &'static str) {
        for session in self.connected() {
            session.end(code, reason);
        }
    }

    /// Forgets sessions that have been without a socket for too long, or are too many.
    fn sweep(&self) {
        {
            let mut last = self.last_sweep.lock();
            if last.elapsed() < self.limits.session_retention / 10 {
                return;
            }
            *last = Instant::now();
        }
        let mut sessions = self.sessions.write();
        sessions.retain(|_, session| {
            session.detached_at().is_none_or(|since| since.elapsed() < self.limits.session_retention)
        });
        let mut detached: Vec<_> = sessions
            .values()
            .filter_map(|session| Some((session.detached_at()?, session.sid.clone())))
            .collect();
        let surplus = detached.len().saturating_sub(self.limits.retained_sessions);
        if surplus > 0 {
            detached.sort();
            for (_, sid) in detached.into_iter().take(surplus) {
                sessions.remove(&sid);
            }
        }
    }

    /// Holds what is sent from now on until the barrier is dropped. Only for threads that may wait.
    pub fn hold(&self) -> Barrier {
        self.gate.close()
    }

    /// Waits until nothing is held any more. Whether that was so in time.
    pub fn wait_told(&self, timeout: Duration) -> bool {
        self.gate.wait_open(timeout)
    }

    fn deliver(&self, to: &Audience, event: &Event) {
        self.remember(to, event);
        match to {
            Audience::Nobody => {}
            Audience::Session(sid) => {
                if let Some(session) = self.session(sid) {
                    session.send(&Arc::new(Frame::new(event)));
                }
            }
            Audience::Everyone => {
                let frame = Arc::new(Frame::new(event));
                for session in self.sessions.read().values() {
                    session.send(&frame);
                }
            }
        }
    }

    /// Keeps what a reconnecting socket is told first.
    fn remember(&self, to: &Audience, event: &Event) {
        match (event, to) {
            (Event::Status { queue_remaining }, _) => {
                self.remaining.store(*queue_remaining, Ordering::Relaxed)
            }
            (Event::Executing { display_node, prompt_id, .. }, Audience::Session(sid)) => {
                self.running.lock().insert(sid.clone(), (prompt_id.clone(), display_node.clone()));
            }
            (Event::ExecutingDone { prompt_id }, Audience::Session(sid)) => {
                let mut running = self.running.lock();
                if running.get(sid).is_some_and(|(prompt, _)| prompt == prompt_id) {
                    running.remove(sid);
                }
            }
            _ => {}
        }
    }
}

impl EventSink for Dispatcher {
    fn send(&self, to: &Audience, event: Event) {
        self.gate.send((to.clone(), event));
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.dispatcher.sockets.fetch_sub(1, Ordering::Relaxed);
        let resumes = self.session.flags().is_some_and(|flags| flags.resume());
        let mut sessions = self.dispatcher.sessions.write();
        if self.session.detach(self.socket) && self.anonymous && !resumes {
            sessions.remove(&self.session.sid);
        }
    }
}
