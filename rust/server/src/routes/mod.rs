//! Routes, one file a resource. Each is served as it is and under `/api`.
//!
//! - [`features`]: `/features`.
//! - [`forward`]: routes of nodes.
//! - [`history`]: `/history`.
//! - [`interrupt`]: `/interrupt`, `/free`.
//! - [`jobs`]: `/jobs`.
//! - [`object_info`]: `/object_info`.
//! - [`prompt`]: `/prompt`.
//! - [`queue`]: `/queue`.
//! - [`socket`]: `/ws`.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;

use crate::security;
use crate::state::AppState;

pub mod features;
pub mod forward;
pub mod history;
pub mod interrupt;
pub mod jobs;
pub mod object_info;
pub mod prompt;
pub mod queue;
pub mod socket;

/// Every route, behind the security layer.
pub fn router(state: AppState) -> Router {
    Router::new()
        .merge(resources())
        .nest("/api", resources())
        .fallback(forward::forward)
        // Bodies are bounded by `body::read`, which knows the setting and a time limit.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(state.clone(), security::guard))
        .with_state(state)
}

/// The routes of each resource, without prefix.
fn resources() -> Router<AppState> {
    Router::new()
        .merge(features::routes())
        .merge(history::routes())
        .merge(interrupt::routes())
        .merge(jobs::routes())
        .merge(object_info::routes())
        .merge(prompt::routes())
        .merge(queue::routes())
        .merge(socket::routes())
}
