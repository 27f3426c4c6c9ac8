//! Feature flags: what client and server tell each other they understand.

use serde_json::{Map, Value, json};

/// Flags that a client sent in its first frame; unknown ones are kept and ignored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureFlags(pub Map<String, Value>);

/// Flags that mean something to this server.
const KNOWN: [&str; 5] = [
    "supports_preview_metadata",
    "supports_progress_text_metadata",
    "supports_manager_v4_ui",
    "rushlight_resume",
    "rushlight_last_seq",
];

impl FeatureFlags {
    /// Only the flags that mean something to this server: a client's unknown ones are not kept for it without bound.
    pub fn only_known(mut self) -> Self {
        self.0.retain(|name, value| {
            KNOWN.contains(&name.as_str()) && (value.is_boolean() || value.is_number())
        });
        self
    }

    /// Whether a boolean flag is set to `true`.
    pub fn is_set(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Step previews carry metadata (frame 4 in place of frame 1).
    pub fn preview_metadata(&self) -> bool {
        self.is_set("supports_preview_metadata")
    }

    /// TEXT frames carry the prompt id.
    pub fn progress_text_metadata(&self) -> bool {
        self.is_set("supports_progress_text_metadata")
    }

    /// The session takes sequence numbers and asks for missed events on reconnect.
    pub fn resume(&self) -> bool {
        self.is_set("rushlight_resume")
    }
}

/// What the server answers and `GET /features` returns. `max_upload_size` is in bytes.
pub fn server_flags(max_upload_size: u64) -> Value {
    json!({
        "supports_preview_metadata": true,
        "supports_progress_text_metadata": true,
        "max_upload_size": max_upload_size,
        "extension": { "manager": { "supports_v4": true } },
        "rushlight_resume": true,
    })
}
