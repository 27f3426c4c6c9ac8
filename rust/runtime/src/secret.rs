//! Access tokens that come with a prompt: nodes that ask for them get them, nobody else ever sees them.

use rushlight_protocol::event::ExecutionError;
use serde_json::{Map, Value as Json};

/// What stands where a secret stood.
const REDACTED: &str = "[redacted]";

/// Shorter texts are no tokens, and replacing them would tear ordinary words apart.
const SHORTEST: usize = 4;

/// Whether that key of `extra_data` is never stored or shown.
pub fn is_secret(key: &str) -> bool {
    key.starts_with("auth_token_") || key.starts_with("api_key_")
}

/// The texts of a prompt's secrets.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Secrets {
    /// Those among `extra_data`.
    pub fn of(extra_data: &Map<String, Json>) -> Self {
        let texts =
            extra_data.iter().filter(|(key, _)| is_secret(key)).filter_map(|(_, value)| value.as_str());
        Self(texts.filter(|text| text.len() >= SHORTEST).map(str::to_owned).collect())
    }

    /// Takes them out of everything that an error tells: a node may have put its inputs into its message.
    pub fn redact(&self, error: &mut ExecutionError) {
        if self.0.is_empty() {
            return;
        }
        self.clean(&mut error.exception_message);
        error.traceback.iter_mut().for_each(|line| self.clean(line));
        error.current_inputs.values_mut().flatten().for_each(|value| self.clean_json(value));
    }

    fn clean(&self, text: &mut String) {
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                *text = text.replace(secret.as_str(), REDACTED);
            }
        }
    }

    /// Inputs are scalars and texts.
    fn clean_json(&self, value: &mut Json) {
        if let Json::String(text) = value {
            self.clean(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_taken_out_of_errors() {
        let extra = json!({"api_key_x": "hunter2", "auth_token_y": "", "kept": "word"});
        let secrets = Secrets::of(extra.as_object().unwrap());
        let mut error = ExecutionError {
            prompt_id: "p".into(),
            node_id: "1".into(),
            node_type: "T".into(),
            executed: Vec::new(),
            exception_message: "no access for hunter2, word\n".into(),
            exception_type: "ValueError".into(),
            traceback: vec!["call('hunter2')".into()],
            current_inputs: [("key".into(), vec![json!("hunter2"), json!(1)])].into_iter().collect(),
            current_outputs: Vec::new(),
            timestamp: 0,
        };
        secrets.redact(&mut error);
        assert_eq!(error.exception_message, "no access for [redacted], word\n");
        assert_eq!(error.traceback, ["call('[redacted]')"]);
        assert_eq!(error.current_inputs["key"], [json!("[redacted]"), json!(1)]);
        assert_eq!(format!("{secrets:?}"), "1 secrets");
    }
}
