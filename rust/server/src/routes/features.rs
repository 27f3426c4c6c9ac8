//! `GET /features`: what this server understands.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use rushlight_protocol::features::server_flags;
use serde_json::Value;

use crate::state::AppState;

/// `/features`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/features", get(features))
}

async fn features(State(state): State<AppState>) -> Json<Value> {
    Json(server_flags(state.settings.max_body_bytes))
}
