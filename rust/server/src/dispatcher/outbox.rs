//! One client's queue: what is kept, what is replaced, and when it is too much.
//!
//! While the client keeps up everything passes through. Once it is [`SLOW_FRAMES`] frames or [`SLOW_BYTES`] bytes
//! behind, a newer state (progress, preview, status, text) takes the place of an older one, and log lines are
//! dropped. The older state is removed and the newer put at the end, never moved forward, so that what a client sees
//! of one node stays in order. Structural events are never dropped: past the bounds the client is cut off.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::frame::{Class, Frame, Key};

/// Frames behind which a client counts as slow. A client that reads is a few behind at most.
pub const SLOW_FRAMES: usize = 64;

/// Bytes behind which a client counts as slow.
pub const SLOW_BYTES: usize = 1 << 20;

/// A frame in the queue.
#[derive(Clone)]
pub struct Queued {
    /// What to send.
    pub frame: Arc<Frame>,
    /// Its number in the session, if it has one.
    pub seq: Option<u64>,
}

/// How far a client may fall behind.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Frames that cannot be dropped.
    pub events: usize,
    /// Bytes of all frames.
    pub bytes: usize,
}

/// The client is too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// One client's queue.
pub struct Outbox {
    /// Front is next. `None` where a newer state replaced the frame.
    frames: VecDeque<Option<Queued>>,
    /// Position of `frames[0]` counted from the outbox's beginning.
    base: u64,
    /// Where the newest state of each key stands.
    newest: HashMap<Key, u64>,
    /// Frames that are not replaced.
    live: usize,
    /// Of those, frames that cannot be dropped.
    kept: usize,
    bytes: usize,
    bounds: Bounds,
}

impl Outbox {
    /// An empty queue.
    pub fn new(bounds: Bounds) -> Self {
        Self { frames: VecDeque::new(), base: 0, newest: HashMap::new(), live: 0, kept: 0, bytes: 0, bounds }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        self.live
    }

    fn is_slow(&self) -> bool {
        self.live >= SLOW_FRAMES || self.bytes >= SLOW_BYTES
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// [`Overflow`] when the client is too far behind; the frame is not queued.
    pub fn push(&mut self, queued: Queued) -> Result<(), Overflow> {
        let slow = self.is_slow();
        let size = queued.frame.size();
        match queued.frame.class() {
            Class::Loose if slow => return Ok(()),
            Class::Latest(key) => {
                let key = key.clone();
                if slow {
                    self.drop_states(&key);
                }
                if self.bytes + size > self.bounds.bytes {
                    // A state can be missed, the next one says it all.
                    return Ok(());
                }
                self.newest.insert(key, self.base + self.frames.len() as u64);
            }
            Class::Structural | Class::Opaque => {
                if self.kept >= self.bounds.events || self.bytes + size > self.bounds.bytes {
                    return Err(Overflow);
                }
                self.kept += 1;
            }
            Class::Loose => {}
        }
        self.bytes += size;
        self.live += 1;
        self.frames.push_back(Some(queued));
        Ok(())
    }

    /// Takes the next frame.
    pub fn pop(&mut self) -> Option<Queued> {
        loop {
            let slot = self.frames.pop_front()?;
            let position = self.base;
            self.base += 1;
            let Some(queued) = slot else { continue };
            self.forget(&queued, position);
            return Some(queued);
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.bounds);
    }

    /// Accounts for a frame that leaves.
    fn forget(&mut self, queued: &Queued, position: u64) {
        self.live -= 1;
        self.bytes -= queued.frame.size();
        match queued.frame.class() {
            Class::Structural | Class::Opaque => self.kept -= 1,
            Class::Latest(key) => {
                if self.newest.get(key) == Some(&position) {
                    self.newest.remove(key);
                }
            }
            Class::Loose => {}
        }
    }

    /// Removes the waiting state of `key`, and every state that has a newer one behind it.
    fn drop_states(&mut self, key: &Key) {
        if let Some(position) = self.newest.get(key).copied()
            && let Some(slot) = self.frames.get_mut((position - self.base) as usize)
            && let Some(queued) = slot.take()
        {
            self.forget(&queued, position);
        }
        // States from before the client was slow, and the holes that replacing leaves, go together now and then.
        if self.frames.len() > 2 * (self.kept + self.newest.len()) + SLOW_FRAMES / 2 {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let base = self.base;
        let mut rest = VecDeque::with_capacity(self.kept + self.newest.len());
        for (index, slot) in std::mem::take(&mut self.frames).into_iter().enumerate() {
            let Some(queued) = slot else { continue };
            let position = base + index as u64;
            match queued.frame.class() {
                Class::Latest(key) if self.newest.get(key) != Some(&position) => {
                    self.live -= 1;
                    self.bytes -= queued.frame.size();
                }
                _ => rest.push_back(Some(queued)),
            }
        }
        for (index, slot) in rest.iter().enumerate() {
            if let Some(Queued { frame, .. }) = slot
                && let Class::Latest(key) = frame.class()
            {
                self.newest.insert(key.clone(), base + index as u64);
            }
        }
        self.frames = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::ws::Message;
    use rushlight_protocol::{Event, FeatureFlags};

    fn progress(value: u64) -> Arc<Frame> {
        let (prompt_id, node) = ("p".into(), "3".into());
        Arc::new(Frame::new(&Event::Progress { value: value.into(), max: 100.into(), prompt_id, node }))
    }

    fn structural(id: u64) -> Arc<Frame> {
        Arc::new(Frame::new(&Event::ExecutionStart { prompt_id: "p".into(), timestamp: id }))
    }

    fn push(outbox: &mut Outbox, frame: Arc<Frame>) -> Result<(), Overflow> {
        outbox.push(Queued { frame, seq: None })
    }

    fn drain(outbox: &mut Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.pop())
            .map(|queued| match queued.frame.message(&FeatureFlags::default(), None) {
                Message::Text(text) => text.to_string(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    const BOUNDS: Bounds = Bounds { events: 1_000, bytes: 1 << 20 };

    #[test]
    fn a_client_that_keeps_up_sees_every_step() {
        let mut outbox = Outbox::new(BOUNDS);
        for value in 0..SLOW_FRAMES as u64 {
            push(&mut outbox, progress(value)).unwrap();
        }
        assert_eq!(drain(&mut outbox).len(), SLOW_FRAMES);
    }

    #[test]
    fn a_slow_client_keeps_every_structural_event_and_the_newest_state() {
        let mut outbox = Outbox::new(BOUNDS);
        for id in 0..500 {
            push(&mut outbox, structural(id)).unwrap();
            for value in 0..20 {
                push(&mut outbox, progress(id * 100 + value)).unwrap();
            }
        }
        assert!(outbox.frames.len() < 1_200, "holes are removed: {}", outbox.frames.len());
        let frames = drain(&mut outbox);
        let starts: Vec<_> = frames.iter().filter(|frame| frame.contains("execution_start")).collect();
        assert_eq!(starts.len(), 500);
        for (id, start) in starts.iter().enumerate() {
            assert!(start.contains(&format!("\"timestamp\":{id}}}")));
        }
        assert!(frames.last().unwrap().contains("\"value\":49919"));
        assert!(frames.len() < 500 + SLOW_FRAMES + 1);
        assert!(outbox.is_empty() && outbox.bytes == 0 && outbox.kept == 0 && outbox.newest.is_empty());
    }

    #[test]
    fn a_client_too_far_behind_overflows() {
        let mut outbox = Outbox::new(Bounds { events: 10, bytes: 1 << 20 });
        for id in 0..10 {
            push(&mut outbox, structural(id)).unwrap();
        }
        assert_eq!(push(&mut outbox, structural(10)), Err(Overflow));
        assert_eq!(push(&mut outbox, progress(1)), Ok(()));
        let mut outbox = Outbox::new(Bounds { events: 10, bytes: 40 });
        assert_eq!(push(&mut outbox, structural(1)), Err(Overflow));
    }
}
