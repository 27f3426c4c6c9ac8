//! From the body of `POST /prompt` to a queued prompt: the same way for HTTP and for extensions.

use std::sync::Arc;
use std::time::Duration;

use rushlight_graph::{ValidPrompt, validate};
use rushlight_protocol::{ErrorBody, PromptAccepted, PromptRejected, QueueItem};
use rushlight_runtime::placement::place;
use rushlight_runtime::secret::is_secret;
use rushlight_store::StoreError;
use rushlight_store::records::NewPrompt;
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use crate::queue::now_ms;
use crate::state::AppState;

/// How long one look at the model and input folders serves; before a prompt is refused they are looked at again.
const HOST_LOOK: Duration = Duration::from_millis(100);

/// Why a prompt was not queued.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It is at fault: 400.
    #[error(transparent)]
    Rejected(#[from] Box<PromptRejected>),
    /// Too much waits already: 503.
    #[error("{queued} bytes of prompts wait, the limit is {limit}: submit again when some have run")]
    Full {
        /// Bytes of waiting prompts.
        queued: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The store is: 500.
    #[error("the prompt could not be stored: {0}")]
    Store(#[from] StoreError),
}

/// A prompt that may be queued.
pub struct Checked {
    number: Number,
    counter: i64,
    item: QueueItem,
    secrets: Map<String, Value>,
    accepted: PromptAccepted,
}

fn rejected(kind: &str, message: &str, details: impl Into<String>) -> SubmitError {
    let error = ErrorBody::new(kind, message, details);
    SubmitError::Rejected(Box::new(PromptRejected { error, node_errors: Default::default() }))
}

/// Checks a body. Takes a while for large graphs and may call Python: not for async threads.
///
/// # Errors
/// [`SubmitError::Rejected`].
pub fn check(state: &AppState, body: Value) -> Result<Checked, SubmitError> {
    check_unchanged(state, state.on_prompt(body))
}

/// As [`check`], without letting the extension change the body.
fn check_unchanged(state: &AppState, body: Value) -> Result<Checked, SubmitError> {
    let no_prompt = || rejected("no_prompt", "No prompt provided", "No prompt provided");
    let Value::Object(mut body) = body else { return Err(no_prompt()) };

    // The number is taken before validation, so a refused prompt uses one up.
    let counter = state.queue.number();
    let number = match body.get("number") {
        Some(Value::Number(number)) => {
            float_number(number).ok_or_else(|| bad_field("number", "not a finite number"))?
        }
        Some(Value::String(text)) => text
            .trim()
            .parse::<f64>()
            .ok()
            .and_then(Number::from_f64)
            .ok_or_else(|| bad_field("number", "not a number"))?,
        Some(Value::Bool(value)) => Number::from_f64(f64::from(u8::from(*value))).unwrap_or_else(|| 0.into()),
        Some(_) => return Err(bad_field("number", "not a number")),
        None => {
            let number = state.queue.next_number();
            let front = body.get("front").is_some_and(truthy);
            Number::from(if front { -number } else { number })
        }
    };
    let prompt = body.remove("prompt").ok_or_else(no_prompt)?;
    let prompt_id = match body.remove("prompt_id") {
        None => Uuid::new_v4().to_string(),
        Some(id) => rushlight_graph::python::to_str(&id),
    };
    let targets = targets(body.get("partial_execution_targets"))?;
    let (mut extra_data, secrets) = split_extra_data(body.remove("extra_data"))?;
    if let Some(client_id) = body.remove("client_id") {
        extra_data.insert("client_id".into(), client_id);
    }
    extra_data.insert("create_time".into(), now_ms().into());

    let valid = check_prompt(state, &prompt, targets.as_deref())?;
    let outputs = valid.outputs.iter().map(|id| id.to_string()).collect();
    let item = QueueItem(number.clone(), prompt_id.clone(), valid.json, extra_data, outputs);
    let accepted = PromptAccepted { prompt_id, number: number.clone(), node_errors: valid.node_errors };
    Ok(Checked { number, counter, item, secrets, accepted })
}

/// Checks a prompt (API format) against the classes as they are now, without queueing it. Not for async threads.
///
/// # Errors
/// What is wrong with it.
pub fn check_prompt(
    state: &AppState,
    prompt: &Value,
    targets: Option<&[String]>,
) -> Result<ValidPrompt, Box<PromptRejected>> {
    let classes = state.classes();
    classes.follow_host_within(HOST_LOOK);
    let nodes = prompt.as_object().into_iter().flat_map(|nodes| nodes.values());
    let mut named = nodes.filter_map(|node| node.get("class_type").and_then(Value::as_str));
    let asks_extension = classes.refresh_free(Some(&mut named));
    if asks_extension {
        state.refresh_extension();
    }
    let valid = match validate(prompt, classes.as_ref(), targets) {
        // A file may have come since the folders were looked at.
        Err(_) if classes.follow_host() => validate(prompt, classes.as_ref(), targets)?,
        checked => checked?,
    };
    place(&valid.prompt, classes.as_ref())?;
    Ok(valid)
}

/// Queues a checked prompt; `done` gets the answer when the prompt is on disk.
pub fn enqueue(
    state: &AppState,
    checked: Checked,
    done: impl FnOnce(Result<PromptAccepted, SubmitError>) + Send + 'static,
) {
    let item: Arc<str> = match serde_json::to_string(&checked.item) {
        Ok(item) => item.into(),
        Err(error) => {
            return done(Err(rejected("invalid_prompt", "The prompt cannot be stored", error.to_string())));
        }
    };
    let (queued, limit) = (state.queue.pending_bytes(), state.settings.limits.queue_bytes);
    if queued + item.len() > limit {
        return done(Err(SubmitError::Full { queued, limit }));
    }
    let prompt = NewPrompt {
        number: checked.number.as_f64().unwrap_or(0.0),
        counter: checked.counter,
        prompt_id: checked.item.prompt_id().into(),
        item,
    };
    let accepted = checked.accepted;
    state.queue.enqueue(prompt, checked.secrets, move |stored| {
        done(stored.map(|()| accepted).map_err(SubmitError::from));
    });
}

/// Checks, queues, and waits until the prompt is on disk; the extension does not change it, for it comes from there.
/// Blocks.
///
/// # Errors
/// [`SubmitError`].
pub fn submit_unchanged(state: &AppState, body: Value) -> Result<PromptAccepted, SubmitError> {
    let checked = check_unchanged(state, body)?;
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    // A caller that is gone needs no answer.
    enqueue(state, checked, move |result| drop(answer.send(result)));
    answered.recv().unwrap_or(Err(SubmitError::Store(StoreError::Closed)))
}

fn bad_field(name: &str, details: &str) -> SubmitError {
    rejected("invalid_request", "A field of the request is not usable", format!("{name}: {details}"))
}

/// Upstream's `float(number)`.
fn float_number(number: &Number) -> Option<Number> {
    number.as_f64().and_then(Number::from_f64)
}

/// Python's truth of a JSON value.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn targets(value: Option<&Value>) -> Result<Option<Vec<String>>, SubmitError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items.iter().map(rushlight_graph::python::to_str).collect())),
        Some(_) => Err(bad_field("partial_execution_targets", "not a list of node ids")),
    }
}

/// Keys and values of a JSON object.
type Fields = Map<String, Value>;

/// `extra_data` without its secrets, and the secrets.
fn split_extra_data(value: Option<Value>) -> Result<(Fields, Fields), SubmitError> {
    let mut extra_data = match value {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(bad_field("extra_data", "not an object")),
    };
    let keys: Vec<_> = extra_data.keys().filter(|key| is_secret(key)).cloned().collect();
    let mut secrets = Map::new();
    for key in keys {
        if let Some(value) = extra_data.shift_remove(&key) {
            secrets.insert(key, value);
        }
    }
    Ok((extra_data, secrets))
}
