//! `/queue`: what runs and what waits; clearing and deleting.

use std::collections::HashSet;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;
use serde_json::Value;

use crate::error::ApiError;
use crate::state::AppState;
use crate::submit::truthy;
use crate::{blocking, body};

/// `/queue`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/queue", get(list).post(change))
}

/// What `POST /queue` and `POST /history` take.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Change {
    /// Remove everything.
    pub clear: Value,
    /// Remove these prompts.
    pub delete: Option<Vec<Value>>,
}

impl Change {
    /// Whether everything goes.
    pub fn clears(&self) -> bool {
        truthy(&self.clear)
    }

    /// The ids to remove; ids of another type than text match nothing.
    pub fn ids(&self) -> impl Iterator<Item = String> + '_ {
        self.delete.iter().flatten().filter_map(|id| id.as_str().map(str::to_owned))
    }
}

async fn list(State(state): State<AppState>) -> impl IntoResponse {
    let (running, pending) = state.queue.snapshot();
    // Items are JSON already: joining them costs no parsing, however large the prompts are.
    let size: usize = pending.iter().map(|prompt| prompt.item.len() + 1).sum();
    let mut text = String::with_capacity(size + 256);
    text.push_str("{\"queue_running\":[");
    join(&mut text, running.iter().map(|running| running.prompt.item.as_ref()));
    text.push_str("],\"queue_pending\":[");
    join(&mut text, pending.iter().map(|prompt| prompt.item.as_ref()));
    text.push_str("]}");
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], text)
}

fn join<'a>(text: &mut String, items: impl Iterator<Item = &'a str>) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(item);
    }
}

async fn change(State(state): State<AppState>, request_body: Body) -> Result<StatusCode, ApiError> {
    let change: Change = body::read_json(&state, request_body).await?;
    blocking::run(move || {
        if change.clears() {
            // As in the original, clearing is told even when nothing waited.
            if state.queue.remove(|_| true)? == 0 {
                state.queue.tell(state.queue.remaining());
            }
        }
        let ids: HashSet<String> = change.ids().collect();
        if !ids.is_empty() {
            state.queue.remove(|prompt| ids.contains(prompt.prompt_id.as_ref()))?;
        }
        Ok::<_, ApiError>(StatusCode::OK)
    })
    .await
}
