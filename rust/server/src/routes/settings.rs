//! `/settings`: a user's settings, kept in `comfy.settings.json` of the user's folder.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value};

use super::users::{read_object, user_folder, write_object};
use crate::body;
use crate::error::ApiError;
use crate::files::blocking;
use crate::state::AppState;

/// `/settings`, `/settings/{id}`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/settings", get(all).post(merge)).route("/settings/{id}", get(one).post(set))
}

async fn read(state: &AppState, headers: &HeaderMap) -> Result<Map<String, Value>, ApiError> {
    let name = format!("{}/comfy.settings.json", user_folder(state, headers).await?);
    let folders = state.files.folders.clone();
    blocking(move || read_object(&folders, &name)).await
}

async fn all(State(state): State<AppState>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    Ok(Json(Value::Object(read(&state, &headers).await?)))
}

async fn one(
    State(state): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(read(&state, &headers).await?.remove(&id).unwrap_or_default()))
}

async fn merge(State(state): State<AppState>, headers: HeaderMap, request: Body) -> Result<(), ApiError> {
    let changes: Map<String, Value> = body::read_json(&state, request).await?;
    change(&state, &headers, changes).await
}

async fn set(
    State(state): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Result<(), ApiError> {
    let value: Value = body::read_json(&state, request).await?;
    change(&state, &headers, Map::from_iter([(id, value)])).await
}

async fn change(state: &AppState, headers: &HeaderMap, changes: Map<String, Value>) -> Result<(), ApiError> {
    let name = format!("{}/comfy.settings.json", user_folder(state, headers).await?);
    let folders = state.files.folders.clone();
    // Two tabs may save at once; neither's change may be lost.
    let _guard = state.files.settings_lock.lock().await;
    blocking(move || {
        let mut settings = read_object(&folders, &name)?;
        settings.extend(changes);
        write_object(&folders, &name, &settings)
    })
    .await
}
