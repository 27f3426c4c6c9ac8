//! `/prompt`: submit a prompt, and how many are left.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::body;
use crate::error::{ApiError, prompt_rejected};
use crate::state::AppState;
use crate::submit::{self, SubmitError};

/// `/prompt`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/prompt", get(remaining).post(submit))
}

async fn remaining(State(state): State<AppState>) -> Json<Value> {
    Json(json!({ "exec_info": { "queue_remaining": state.queue.remaining() } }))
}

async fn submit(
    State(state): State<AppState>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Response, ApiError> {
    let bytes = body::as_utf8(&headers, body::read(&state, request_body).await?)?;
    let place = state.heavy.prompt(bytes.len()).await;
    let (answer, answered) = oneshot::channel();
    // Parsing, checking and freeing a large graph takes a while, and the check may call Python.
    tokio::task::spawn_blocking(move || {
        let checked = match body::parse_json::<Value>(&bytes) {
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
            Ok(parsed) => {
                drop(bytes);
                // While packs are loading, a class that is not there yet is no unknown one.
                state.wait_ready();
                submit::check(&state, parsed)
            }
        };
        match checked {
            // A client that is gone needs no answer; its prompt is queued all the same.
            Err(error) => drop(answer.send(Ok(Err(error)))),
            Ok(checked) => submit::enqueue(&state, checked, move |result| drop(answer.send(Ok(result)))),
        }
        drop(place);
    });
    match answered.await.map_err(ApiError::internal)?? {
        Ok(accepted) => Ok(Json(accepted).into_response()),
        Err(SubmitError::Rejected(rejected)) => Ok(prompt_rejected(&rejected)),
        Err(SubmitError::Store(error)) => Err(error.into()),
        Err(error @ SubmitError::Full { .. }) => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "queue_full",
            "The queue is full",
            error.to_string(),
        )),
    }
}
