//! Events on their way to clients. Sending never waits for a socket.
//!
//! Any thread may send: an event is serialised once, and the same bytes are put into the outbox of each session that
//! is told. A session's socket task empties the outbox at the client's pace.
//!
//! - [`frame`]: one event in each form that clients take.
//! - [`outbox`]: one client's queue: what is kept, replaced, or too much.
//! - [`session`]: a session, its socket, and what it missed.
//! - [`hub`]: the [`Dispatcher`]: every session, and who is told what.

pub mod frame;
pub mod hub;
pub mod outbox;
pub mod session;

pub use frame::Frame;
pub use hub::{ConnectError, Dispatcher, Joined};
pub use session::{Proof, Session};
