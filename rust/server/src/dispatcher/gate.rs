//! What keeps events in order while a prompt's end is on its way to the disk.
//!
//! A prompt's last events may be told when its history would survive a power cut, and no later event may come before
//! them; yet the next prompt should not wait for the disk. So the worker closes the gate with a [`Barrier`], sends
//! the last events and goes on: from there on events are held, and come through in order when the barrier is lifted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Barriers that are closed at the same time; a worker that is further ahead of the disk waits.
const MAX_BARRIERS: usize = 64;

/// Events that are held: with more, a disk that stalls would fill the memory, and they are told before it is done.
const MAX_HELD: usize = 1 << 16;

/// Passes events on in order, and holds those behind a barrier.
pub struct Gate<T> {
    state: Mutex<State<T>>,
    lifted: Condvar,
    deliver: Box<dyn Fn(T) + Send + Sync>,
}

struct State<T> {
    held: VecDeque<Held<T>>,
    barriers: usize,
    next: u64,
}

enum Held<T> {
    Event(T),
    Barrier { number: u64, lifted: bool },
}

impl<T> Gate<T> {
    /// An open gate to `deliver`, which must neither send nor log.
    pub fn new(deliver: impl Fn(T) + Send + Sync + 'static) -> Self {
        let state = State { held: VecDeque::new(), barriers: 0, next: 0 };
        Self { state: Mutex::new(state), lifted: Condvar::new(), deliver: Box::new(deliver) }
    }

    /// Passes an event on, at once unless a barrier is closed.
    pub fn send(&self, event: T) {
        let mut state = self.state.lock();
        if state.held.is_empty() {
            (self.deliver)(event);
            return;
        }
        state.held.push_back(Held::Event(event));
        if state.held.len() > MAX_HELD {
            self.pass(&mut state, true);
            // A line of the log is an event too, so it is only written when the gate can be passed again.
            drop(state);
            tracing::warn!("the disk is very slow: events are told before it has what they tell of");
        }
    }

    /// Holds what is sent from now on until the barrier is dropped. Waits while very many are closed.
    pub fn close(self: &Arc<Self>) -> Barrier
    where
        T: Send + 'static,
    {
        let mut state = self.state.lock();
        self.lifted.wait_while(&mut state, |state| state.barriers >= MAX_BARRIERS);
        let number = state.next;
        state.next += 1;
        state.barriers += 1;
        state.held.push_back(Held::Barrier { number, lifted: false });
        let gate = self.clone();
        Barrier(Some(Box::new(move || gate.lift(number))))
    }

    /// Waits until nothing is held. Whether that was so in time.
    pub fn wait_open(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        !self.lifted.wait_while_for(&mut state, |state| !state.held.is_empty(), timeout).timed_out()
    }

    fn lift(&self, number: u64) {
        let mut state = self.state.lock();
        let barrier = state.held.iter_mut().find_map(|held| match held {
            Held::Barrier { number: found, lifted } if *found == number => Some(lifted),
            _ => None,
        });
        // It is gone if too much was held.
        if let Some(lifted) = barrier {
            *lifted = true;
            self.pass(&mut state, false);
        }
    }

    /// Passes on what is held: all of it, or what is before the first closed barrier.
    fn pass(&self, state: &mut State<T>, all: bool) {
        while let Some(held) = state.held.pop_front() {
            match held {
                Held::Event(event) => (self.deliver)(event),
                Held::Barrier { lifted, .. } if lifted || all => state.barriers -= 1,
                barrier => {
                    state.held.push_front(barrier);
                    break;
                }
            }
        }
        self.lifted.notify_all();
    }
}

/// Holds later events back until it is dropped.
pub struct Barrier(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Barrier {
    fn drop(&mut self) {
        if let Some(lift) = self.0.take() {
            lift();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> (Arc<Gate<u32>>, Arc<Mutex<Vec<u32>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        (Arc::new(Gate::new(move |event| sink.lock().push(event))), seen)
    }

    #[test]
    fn events_pass_in_order_whatever_order_barriers_are_lifted_in() {
        let (gate, seen) = gate();
        gate.send(1);
        let first = gate.close();
        gate.send(2);
        let second = gate.close();
        gate.send(3);
        assert_eq!(*seen.lock(), [1]);
        drop(second);
        assert_eq!(*seen.lock(), [1], "what comes after the first barrier waits for it");
        drop(first);
        assert_eq!(*seen.lock(), [1, 2, 3]);
        gate.send(4);
        assert_eq!(*seen.lock(), [1, 2, 3, 4]);
        assert!(gate.wait_open(Duration::ZERO));
    }

    #[test]
    fn a_barrier_that_is_never_lifted_does_not_fill_the_memory() {
        let (gate, seen) = gate();
        let barrier = gate.close();
        for event in 0..MAX_HELD as u32 {
            gate.send(event);
        }
        assert_eq!(seen.lock().len(), MAX_HELD);
        drop(barrier);
        gate.send(7);
        assert_eq!(seen.lock().last(), Some(&7));
    }

    #[test]
    fn a_worker_far_ahead_of_the_disk_waits() {
        let (gate, _) = gate();
        let mut barriers: VecDeque<_> = (0..MAX_BARRIERS).map(|_| gate.close()).collect();
        let ahead = gate.clone();
        let waiting = std::thread::spawn(move || drop(ahead.close()));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        barriers.pop_front();
        waiting.join().unwrap();
        barriers.clear();
        assert!(gate.wait_open(Duration::from_secs(5)));
    }
}
