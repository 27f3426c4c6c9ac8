//! `/ws`; see [`crate::ws`].

use axum::Router;
use axum::routing::get;

use crate::state::AppState;
use crate::ws;

/// `/ws`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/ws", get(ws::connect))
}
