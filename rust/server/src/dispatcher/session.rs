//! A session: a client by its `clientId`, its socket while it has one, and what it missed.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::Message;
use parking_lot::Mutex;
use rushlight_protocol::FeatureFlags;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::frame::{Class, Frame};
use super::outbox::{Bounds, Outbox, Queued};
use crate::security::token::same_bytes;
use crate::settings::Limits;

/// Close code of a client that fell too far behind.
pub const CLOSE_TOO_SLOW: u16 = 4008;

const TOO_SLOW: &str = "too far behind: reconnect to go on";

/// Close code of a socket whose session has a newer one.
pub const CLOSE_REPLACED: u16 = 4009;

/// What a newer socket offers to be let into a session.
#[derive(Debug, Clone)]
pub struct Proof {
    /// Where it comes from.
    pub peer: IpAddr,
    /// The session's token, from the cookie or the query.
    pub token: Option<String>,
}

/// What a socket task is to do next.
#[derive(Debug)]
pub enum Next {
    /// Send these.
    Send(Vec<Message>),
    /// Nothing waits.
    Idle,
    /// Close with this code and reason.
    Close(u16, &'static str),
}

/// A client by its `clientId`.
pub struct Session {
    /// The `clientId`.
    pub sid: Arc<str>,
    /// Proves the session when the address changes.
    pub token: String,
    /// Wakes the socket task.
    pub wake: Notify,
    state: Mutex<State>,
}

struct State {
    /// Number of the socket that is attached; 0 if none is.
    socket: u64,
    /// When the last socket went.
    detached: Option<Instant>,
    /// Where its sockets came from: the last one's address.
    peer: IpAddr,
    outbox: Outbox,
    flags: FeatureFlags,
    /// The session has resumed once, so it will again: events are kept for it.
    resumes: bool,
    /// Structural events wait until the client has said where to resume.
    held: bool,
    /// Number of the last structural event.
    seq: u64,
    /// `seq` when the socket was attached.
    attached_at: u64,
    /// The last structural events, for resuming.
    recent: VecDeque<Queued>,
    recent_bytes: usize,
    max_recent: (usize, usize),
    /// Why the attached socket is to close.
    closing: Option<(u16, &'static str)>,
    /// Why it is to close once everything has been sent.
    ending: Option<(u16, &'static str)>,
    /// Wants log lines.
    logs: bool,
}

impl Session {
    /// A session without a socket.
    pub fn new(sid: Arc<str>, token: String, peer: IpAddr, limits: &Limits) -> Self {
        let bounds = Bounds { events: limits.backlog_events, bytes: limits.backlog_bytes };
        let state = State {
            socket: 0,
            detached: None,
            peer,
            outbox: Outbox::new(bounds),
            flags: FeatureFlags::default(),
            resumes: false,
            held: false,
            seq: 0,
            attached_at: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
            max_recent: (limits.resume_events, limits.resume_bytes),
            closing: None,
            ending: None,
            logs: false,
        };
        Self { sid, token, wake: Notify::new(), state: Mutex::new(state) }
    }

    /// Whether a newer socket may take part.
    pub fn admits(&self, proof: &Proof) -> bool {
        let by_token = proof.token.as_deref().is_some_and(|token| same_bytes(token, &self.token));
        by_token || self.state.lock().peer == proof.peer
    }

    /// Makes `socket` the session's socket, in place of any older one. `first` go out before anything else.
    pub fn attach(&self, socket: u64, peer: IpAddr, first: Vec<Frame>) {
        let mut state = self.state.lock();
        state.socket = socket;
        state.detached = None;
        state.peer = peer;
        state.flags = FeatureFlags::default();
        state.held = state.resumes;
        state.attached_at = state.seq;
        state.closing = None;
        state.ending = None;
        state.outbox.clear();
        for frame in first {
            // An empty outbox takes them whatever its bounds are meant for.
            let _ = state.outbox.push(Queued { frame: Arc::new(frame), seq: None });
        }
        drop(state);
        // The older socket's task looks and sees that it was replaced.
        self.wake.notify_waiters();
    }

    /// Ends `socket`'s part in the session, unless a newer one has replaced it. Whether it was attached.
    pub fn detach(&self, socket: u64) -> bool {
        let mut state = self.state.lock();
        if state.socket != socket {
            return false;
        }
        state.socket = 0;
        state.detached = Some(Instant::now());
        state.flags = FeatureFlags::default();
        state.outbox.clear();
        state.logs = false;
        true
    }

    /// Whether a socket is attached.
    pub fn is_connected(&self) -> bool {
        self.state.lock().socket != 0
    }

    /// Since when it has no socket.
    pub fn detached_at(&self) -> Option<Instant> {
        self.state.lock().detached
    }

    /// Flags of the attached socket, `None` if there is none.
    pub fn flags(&self) -> Option<FeatureFlags> {
        let state = self.state.lock();
        (state.socket != 0).then(|| state.flags.clone())
    }

    /// Turns log lines on or off for the attached socket.
    pub fn subscribe_logs(&self, enabled: bool) {
        self.state.lock().logs = enabled;
    }

    /// Frames that wait for the socket's task.
    pub fn behind(&self) -> usize {
        self.state.lock().outbox.len()
    }

    /// Queues an event. Never waits.
    pub fn send(&self, frame: &Arc<Frame>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let class = frame.class();
        if *class == Class::Loose && !state.logs {
            return;
        }
        let mut seq = None;
        if *class == Class::Structural {
            state.seq += 1;
            seq = Some(state.seq);
            if state.resumes {
                state.keep(Queued { frame: frame.clone(), seq });
            }
        }
        if state.socket == 0 || (state.held && seq.is_some()) || state.closing.is_some() {
            return;
        }
        // A task that found frames looks again before it waits; one that is stuck in a slow socket is left alone.
        let was_empty = state.outbox.is_empty();
        if state.outbox.push(Queued { frame: frame.clone(), seq }).is_err() {
            state.outbox.clear();
            state.closing = Some((CLOSE_TOO_SLOW, TOO_SLOW));
        }
        if was_empty || state.closing.is_some() {
            self.wake.notify_waiters();
        }
    }

    /// Asks the attached socket to close once it has sent what waits.
    pub fn end(&self, code: u16, reason: &'static str) {
        let mut state = self.state.lock();
        state.ending.get_or_insert((code, reason));
        drop(state);
        self.wake.notify_waiters();
    }

    /// Why `socket` is to close, if it is.
    pub fn closing(&self, socket: u64) -> Option<(u16, &'static str)> {
        let state = self.state.lock();
        if state.socket != socket {
            return Some((CLOSE_REPLACED, "the session has a newer connection"));
        }
        state.closing
    }

    /// What `socket`'s task is to do: at most `max` frames at a time.
    pub fn next(&self, socket: u64, max: usize) -> Next {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.socket != socket {
            return Next::Close(CLOSE_REPLACED, "the session has a newer connection");
        }
        if let Some((code, reason)) = state.closing {
            return Next::Close(code, reason);
        }
        if state.outbox.is_empty() {
            return state.ending.map_or(Next::Idle, |(code, reason)| Next::Close(code, reason));
        }
        let numbered = state.flags.resume();
        let mut messages = Vec::new();
        while messages.len() < max
            && let Some(queued) = state.outbox.pop()
        {
            messages.push(queued.frame.message(&state.flags, queued.seq.filter(|_| numbered)));
        }
        Next::Send(messages)
    }

    /// The first text frame was not about flags, or none came in time: the client does not resume.
    pub fn no_flags(&self, socket: u64) {
        let mut state = self.state.lock();
        if state.socket == socket {
            state.stop_resuming();
        }
        drop(state);
        self.wake.notify_waiters();
    }

    /// Takes the client's flags and answers with the server's, then with what the client missed.
    pub fn negotiate(&self, socket: u64, flags: FeatureFlags, mut answer: Value) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.socket != socket {
            return;
        }
        let last_seq = flags.0.get("rushlight_last_seq").and_then(Value::as_u64);
        state.flags = flags;
        let resumes = state.flags.resume();
        if resumes && let Some(map) = answer.as_object_mut() {
            let baseline = if state.held { state.attached_at } else { state.seq };
            map.insert("rushlight_seq".into(), last_seq.unwrap_or(baseline).into());
            map.insert("rushlight_token".into(), self.token.clone().into());
        }
        state.direct(json!({ "type": "feature_flags", "data": answer }));
        if resumes {
            state.resume(last_seq);
        } else {
            state.stop_resuming();
        }
        self.wake.notify_waiters();
    }
}

impl State {
    /// Queues a frame for this client only.
    fn direct(&mut self, frame: Value) {
        // A full outbox is closing the socket already.
        let _ = self.outbox.push(Queued { frame: Arc::new(Frame::direct(frame.to_string())), seq: None });
    }

    fn keep(&mut self, queued: Queued) {
        self.recent_bytes += queued.frame.size();
        self.recent.push_back(queued);
        while self.recent.len() > self.max_recent.0 || self.recent_bytes > self.max_recent.1 {
            let Some(oldest) = self.recent.pop_front() else { return };
            self.recent_bytes -= oldest.frame.size();
        }
    }

    /// The client takes part without resuming: gives it what was held since it connected.
    fn stop_resuming(&mut self) {
        if self.held {
            self.release(self.attached_at);
        }
        self.resumes = false;
        self.recent.clear();
        self.recent_bytes = 0;
    }

    /// Gives the client what came after `last_seq`; without it, what came since it connected.
    fn resume(&mut self, last_seq: Option<u64>) {
        let resumed_before = std::mem::replace(&mut self.resumes, true);
        let Some(last_seq) = last_seq else {
            if self.held {
                self.release(self.attached_at);
            }
            return;
        };
        let first = self.recent.front().and_then(|queued| queued.seq).unwrap_or(self.seq + 1);
        let complete =
            last_seq <= self.seq && last_seq + 1 >= first && (resumed_before || last_seq == self.seq);
        if !complete {
            // Another server's numbers, or too long ago: the client must look into the history.
            let data = json!({ "complete": false, "first": first, "seq": self.seq });
            self.direct(json!({ "type": "rushlight_resume", "data": data }));
        }
        self.release(if last_seq > self.seq { first - 1 } else { last_seq });
    }

    /// Queues the kept events after `last_seq` in order.
    fn release(&mut self, last_seq: u64) {
        self.held = false;
        for queued in &self.recent {
            if queued.seq.is_some_and(|seq| seq > last_seq) && self.outbox.push(queued.clone()).is_err() {
                self.closing = Some((CLOSE_TOO_SLOW, TOO_SLOW));
                return;
            }
        }
    }
}
