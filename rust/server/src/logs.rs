//! The last log lines, for `/internal/logs` and its subscribers.
//!
//! [`LogLayer`] is put into the program's `tracing` subscriber; it formats each event once and hands it to the
//! [`LogBuffer`], which keeps the newest lines and hands them to the dispatcher. Neither waits for a socket.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rushlight_protocol::event::LogEntry;
use rushlight_protocol::{Audience, Event};
use rushlight_runtime::EventSink;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines kept: what a log panel shows.
const KEPT: usize = 300;
/// Longest line kept, in bytes.
const MAX_LINE: usize = 8 << 10;

/// The last log lines.
#[derive(Default)]
pub struct LogBuffer {
    lines: Mutex<VecDeque<LogEntry>>,
    sink: OnceLock<Arc<dyn EventSink>>,
}

impl LogBuffer {
    /// An empty buffer.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Where lines for subscribers go. Called once; later calls change nothing.
    pub fn connect(&self, sink: Arc<dyn EventSink>) {
        let _ = self.sink.set(sink);
    }

    /// Adds a line; control characters are escaped, so that a name in it cannot forge another line.
    pub fn push(&self, text: &str) {
        let mut line = String::with_capacity(text.len() + 1);
        for c in text.trim_end().chars() {
            if line.len() >= MAX_LINE {
                line.push('…');
                break;
            }
            match c {
                '\n' | '\t' => line.push(c),
                c if c.is_control() => line.extend(c.escape_default()),
                c => line.push(c),
            }
        }
        line.push('\n');
        let t = chrono::Local::now().naive_local().format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
        let entry = LogEntry { t, m: line };
        {
            let mut lines = self.lines.lock();
            if lines.len() >= KEPT {
                lines.pop_front();
            }
            lines.push_back(entry.clone());
        }
        if let Some(sink) = self.sink.get() {
            // The dispatcher knows who has subscribed.
            sink.send(&Audience::Everyone, Event::Logs { entries: vec![entry] });
        }
    }

    /// The lines kept, oldest first.
    pub fn entries(&self) -> Vec<LogEntry> {
        self.lines.lock().iter().cloned().collect()
    }

    /// A layer that fills the buffer.
    pub fn layer(self: &Arc<Self>) -> LogLayer {
        LogLayer(self.clone())
    }
}

/// Fills a [`LogBuffer`] from `tracing` events.
pub struct LogLayer(Arc<LogBuffer>);

thread_local! {
    /// Sending a line may itself log; that line is left out rather than sent round and round.
    static INSIDE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl<S: tracing::Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if INSIDE.replace(true) {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        self.0.push(&format!("[{}] {}{}", event.metadata().level(), line.message, line.fields));
        INSIDE.set(false);
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl EventSink for Heard {
        fn send(&self, _: &Audience, event: Event) {
            if let Event::Logs { entries } = event {
                self.0.lock().extend(entries.into_iter().map(|entry| entry.m));
            }
        }
    }

    #[test]
    fn events_become_lines_that_cannot_forge_others() {
        let (buffer, heard) = (LogBuffer::new(), Arc::new(Heard::default()));
        buffer.connect(heard.clone());
        let subscriber = tracing_subscriber::registry().with(buffer.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(count = 3, "before");
            tracing::warn!("during \u{1b}[31m");
            tracing::info!("after");
        });
        let lines: Vec<_> = buffer.entries().into_iter().map(|entry| entry.m).collect();
        assert_eq!(lines, ["[INFO] before count=3\n", "[WARN] during \\u{1b}[31m\n", "[INFO] after\n"]);
        assert_eq!(*heard.0.lock(), lines, "each is handed on");
    }

    #[test]
    fn the_oldest_lines_go_first_and_long_ones_are_cut() {
        let buffer = LogBuffer::new();
        for i in 0..KEPT + 5 {
            buffer.push(&i.to_string());
        }
        buffer.push(&"x".repeat(MAX_LINE * 2));
        let entries = buffer.entries();
        assert_eq!(entries.len(), KEPT);
        assert_eq!(entries[0].m, "6\n");
        assert!(entries[KEPT - 1].m.len() < MAX_LINE + 8);
    }
}
