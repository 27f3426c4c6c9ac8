//! `/interrupt` and `/free`: what clients ask of workers.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::Value;

use crate::body;
use crate::error::ApiError;
use crate::queue::{Asked, FreeRequest};
use crate::state::AppState;
use crate::submit::truthy;

/// `/interrupt`, `/free`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/interrupt", post(interrupt)).route("/free", post(free))
}

async fn interrupt(State(state): State<AppState>, request_body: Body) -> Result<StatusCode, ApiError> {
    // Clients post nothing, an empty text or anything else: only a prompt id has a meaning.
    let bytes = body::read(&state, request_body).await?;
    let request: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let prompt_id = request.get("prompt_id").filter(|id| !id.is_null() && *id != "");
    match prompt_id {
        None => state.queue.interrupt(None, Asked::Interrupt),
        Some(id) => state.queue.interrupt(Some(&rushlight_graph::python::to_str(id)), Asked::Interrupt),
    };
    Ok(StatusCode::OK)
}

async fn free(State(state): State<AppState>, request_body: Body) -> Result<StatusCode, ApiError> {
    let request: Value = body::read_json(&state, request_body).await?;
    let asks = |key: &str| request.get(key).is_some_and(truthy);
    let request = FreeRequest { unload_models: asks("unload_models"), free_memory: asks("free_memory") };
    if request != FreeRequest::default() {
        state.queue.free(request, state.workers);
    }
    Ok(StatusCode::OK)
}
