//! Events on their way to clients. Sending never waits for a socket.
//!
//! Any thread may send: an event is serialised once, and the same bytes are put into the outbox of each session that
//! is told. A session's socket task empties the outbox at the client's pace.
//!
//! - [`gate`]: what keeps events in order while a prompt's end is on its way to the disk.
//! - [`frame`]: one event in each form that clients take.
//! - [`outbox`]: one client's queue: what is kept, replaced, or too much.
//! - [`session`]: a session, its socket, and what it missed.
//! - [`hub`]: the [`Dispatcher`]: every session, and who is told what.

pub mod frame;
pub mod gate;
pub mod hub;
pub mod outbox;
pub mod session;

pub use frame::Frame;
pub use gate::Barrier;
pub use hub::{ConnectError, Dispatcher, Joined};
pub use session::{Proof, Session};
