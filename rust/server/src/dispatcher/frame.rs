//! One event, serialised at most once in each form that clients take.

use std::sync::{Arc, OnceLock};

use axum::extract::ws::{Message, Utf8Bytes};
use bytes::Bytes;
use rushlight_protocol::{BinaryFrame, Event, FeatureFlags};

/// What a slow client needs of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// Part of what happened: never dropped, numbered, kept for resuming.
    Structural,
    /// Never dropped, but without a place for a number: a custom node's binary frame.
    Opaque,
    /// A state of something: only the newest counts.
    Latest(Key),
    /// May be lost: log lines.
    Loose,
}

/// What a [`Class::Latest`] event is the state of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// The queue's length.
    Status,
    /// All nodes of a prompt.
    ProgressState(Arc<str>),
    /// One node's progress bar: prompt, node.
    Progress(Arc<str>, Arc<str>),
    /// One node's text: prompt, node.
    Text(Arc<str>, Arc<str>),
    /// One node's preview: prompt, node; `None` for one that names no node.
    Preview(Option<(Arc<str>, Arc<str>)>),
}

/// A serialised event, shared by every outbox it is in.
pub struct Frame {
    class: Class,
    body: Body,
}

enum Body {
    Text(Utf8Bytes),
    /// Binary forms by `[preview metadata][text metadata]`.
    Binary(BinaryFrame, [OnceLock<Bytes>; 4]),
}

impl Frame {
    /// Serialises an event.
    pub fn new(event: &Event) -> Self {
        let class = classify(event);
        let body = match event {
            Event::Binary(frame) => Body::Binary(frame.clone(), Default::default()),
            text => Body::Text(text.to_text().unwrap_or_default().into()),
        };
        Self { class, body }
    }

    /// A text frame for one client only, outside the numbering.
    pub fn direct(text: String) -> Self {
        Self { class: Class::Opaque, body: Body::Text(text.into()) }
    }

    /// What a slow client needs of it.
    pub fn class(&self) -> &Class {
        &self.class
    }

    /// Bytes that keeping it costs.
    pub fn size(&self) -> usize {
        match &self.body {
            Body::Text(text) => text.len(),
            Body::Binary(BinaryFrame::Preview { image, .. }, _) => image.len(),
            Body::Binary(BinaryFrame::Text { text, .. }, _) => text.len(),
            Body::Binary(BinaryFrame::Raw { payload, .. }, _) => payload.len(),
        }
    }

    /// The message for a client with these flags; `seq` is added for one that resumes.
    pub fn message(&self, flags: &FeatureFlags, seq: Option<u64>) -> Message {
        match &self.body {
            Body::Text(text) => match (seq, text.strip_suffix('}')) {
                (Some(seq), Some(open)) => Message::Text(format!("{open},\"seq\":{seq}}}").into()),
                _ => Message::Text(text.clone()),
            },
            Body::Binary(frame, forms) => {
                let (preview, text) = (flags.preview_metadata(), flags.progress_text_metadata());
                let form = &forms[usize::from(preview) * 2 + usize::from(text)];
                Message::Binary(form.get_or_init(|| frame.encode(preview, text)).clone())
            }
        }
    }
}

fn classify(event: &Event) -> Class {
    match event {
        Event::Status { .. } => Class::Latest(Key::Status),
        Event::ProgressState { prompt_id, .. } => Class::Latest(Key::ProgressState(prompt_id.clone())),
        Event::Progress { prompt_id, node, .. } => {
            Class::Latest(Key::Progress(prompt_id.clone(), node.clone()))
        }
        Event::Binary(BinaryFrame::Text { prompt_id, node_id, .. }) => {
            Class::Latest(Key::Text(prompt_id.clone(), node_id.clone()))
        }
        Event::Binary(BinaryFrame::Preview { metadata, .. }) => Class::Latest(Key::Preview(
            metadata.as_ref().map(|metadata| (metadata.prompt_id.clone(), metadata.node_id.clone())),
        )),
        Event::Binary(BinaryFrame::Raw { .. }) => Class::Opaque,
        Event::Logs { .. } => Class::Loose,
        _ => Class::Structural,
    }
}
