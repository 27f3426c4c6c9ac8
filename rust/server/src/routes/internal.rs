//! `/internal/*`: for the server's own frontend, on this machine or with a token.

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::routing::{get, patch};
use axum::{Json, Router};
use rushlight_store::folders::FolderKind;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::body;
use crate::error::ApiError;
use crate::files::blocking;
use crate::security::Connection;
use crate::state::AppState;

/// The routes; each takes [`Trusted`].
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/internal/logs", get(logs))
        .route("/internal/logs/raw", get(raw_logs))
        .route("/internal/logs/subscribe", patch(subscribe))
        .route("/internal/folder_paths", get(folder_paths))
        .route("/internal/files/{folder}", get(files))
}

/// Proof that a client may know what is none of a stranger's business (logs, paths, arguments): it is on this
/// machine, or it has shown a token (the security layer has checked it when tokens are configured).
pub(crate) struct Trusted;

impl FromRequestParts<AppState> for Trusted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let local = parts.extensions.get::<Connection>().is_some_and(|ends| ends.peer.ip().is_loopback());
        if local || !state.settings.api_tokens.is_empty() {
            return Ok(Self);
        }
        Err(ApiError::forbidden(
            "local_only",
            "Only this machine may ask that",
            "start the server with --api-token-file to ask it from elsewhere",
        ))
    }
}

async fn logs(_: Trusted, State(state): State<AppState>) -> Json<String> {
    let lines = state.files.logs.entries();
    Json(lines.iter().map(|entry| format!("{} - {}", entry.t, entry.m)).collect())
}

async fn raw_logs(_: Trusted, State(state): State<AppState>) -> Json<Value> {
    // There is no terminal behind the log; the size is what a log panel starts with.
    Json(json!({ "entries": state.files.logs.entries(), "size": { "cols": 80, "rows": 24 } }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    client_id: String,
    enabled: bool,
}

async fn subscribe(_: Trusted, State(state): State<AppState>, request: Body) -> Result<(), ApiError> {
    let wanted: Subscription = body::read_json(&state, request).await?;
    if wanted.client_id.len() > 256 {
        return Err(ApiError::bad_request("bad_client_id", "The client id is too long", "at most 256 bytes"));
    }
    // A session that is not connected has nothing to be told of; it asks again when it is.
    if let Some(session) = state.dispatcher.session(&wanted.client_id) {
        session.subscribe_logs(wanted.enabled);
    }
    Ok(())
}

async fn folder_paths(_: Trusted, State(state): State<AppState>) -> Json<Value> {
    let models = state.files.folders.models();
    let paths: Map<String, Value> =
        models.keys().into_iter().map(|key| (key.clone(), json!(models.paths(&key)))).collect();
    Json(Value::Object(paths))
}

async fn files(
    _: Trusted,
    State(state): State<AppState>,
    Path(folder): Path<String>,
) -> Result<Json<Vec<String>>, ApiError> {
    let kind = FolderKind::parse(&folder).ok_or_else(|| {
        ApiError::bad_request("bad_type", "No such folder type", format!("{folder:?}: input, output or temp"))
    })?;
    blocking(move || Ok(Json(state.files.folders.newest(kind)))).await
}
