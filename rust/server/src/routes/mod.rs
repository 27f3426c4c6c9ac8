//! Routes, one file a resource. Each is served as it is and under `/api`.
//!
//! - [`features`]: what this server understands.
//! - [`forward`]: routes of nodes.
//! - [`history`] answers `/history`.
//! - [`interrupt`] answers `/interrupt`, `/free`.
//! - [`jobs`] answers `/jobs`.
//! - [`object_info`] answers `/object_info`.
//! - [`prompt`] answers `/prompt`.
//! - [`queue`] answers `/queue`.
//! - [`socket`] answers `/ws`.
//! - [`view`], [`upload`]: pictures out and in.
//! - [`models`]: what model folders hold.
//! - [`system`]: the computer, the versions, the devices.
//! - [`users`], [`userdata`], [`settings`]: what is kept for users.
//! - [`internal`]: logs, folders and listings for the server's own frontend.
//! - [`extensions`]: what packs of nodes bring beside nodes.
//! - [`pages`]: the frontend, or a page of our own.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use tower_http::compression::CompressionLayer;

use crate::state::AppState;
use crate::{respond, security};

pub mod extensions;
pub mod features;
pub mod forward;
pub mod history;
pub mod internal;
pub mod interrupt;
pub mod jobs;
pub mod models;
pub mod object_info;
pub mod pages;
pub mod prompt;
pub mod queue;
pub mod settings;
pub mod socket;
pub mod system;
pub mod upload;
pub mod userdata;
pub mod users;
pub mod view;

/// Every route, behind the security layer.
pub fn router(state: AppState) -> Router {
    let compress = state.settings.compress;
    let router = Router::new()
        .merge(resources())
        .nest("/api", resources())
        .merge(pages::routes())
        .fallback(pages::fallback)
        // Bodies are bounded by `body::read`, which knows the setting and a time limit.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(state.clone(), security::guard))
        .layer(middleware::map_response(respond::name_json_charset))
        .with_state(state);
    // Outermost: everything is compressed alike, refusals too.
    if compress { router.layer(CompressionLayer::new()) } else { router }
}

/// The routes of each resource, without prefix.
fn resources() -> Router<AppState> {
    Router::new()
        .merge(features::routes())
        .merge(extensions::routes())
        .merge(history::routes())
        .merge(internal::routes())
        .merge(interrupt::routes())
        .merge(jobs::routes())
        .merge(models::routes())
        .merge(object_info::routes())
        .merge(prompt::routes())
        .merge(queue::routes())
        .merge(settings::routes())
        .merge(socket::routes())
        .merge(system::routes())
        .merge(upload::routes())
        .merge(userdata::routes())
        .merge(users::routes())
        .merge(view::routes())
}
