//! What goes over the wire.
//!
//! Serde types and byte layouts only: no I/O, no runtime, no knowledge of nodes or models.
//!
//! - [`event`]: the events a running prompt and the server send, and their JSON form.
//! - [`frame`]: binary WebSocket frames (previews, text).
//! - [`features`]: feature flags of both sides.
//! - [`prompt`]: request and answer of `POST /prompt`, and every validation error.
//! - [`record`]: queue items and history entries.
//! - `wire`: the text frame of an event.

pub mod event;
pub mod features;
pub mod frame;
pub mod prompt;
pub mod record;
mod wire;

pub use event::{Audience, Event, NodeProgress, NodeState};
pub use features::FeatureFlags;
pub use frame::{BinaryFrame, ImageFormat, PreviewMetadata};
pub use prompt::{ErrorBody, InputError, NodeErrors, PromptAccepted, PromptRejected};
pub use record::{HistoryEntry, HistoryStatus, NodeMeta, QueueItem};
