//! `/object_info`: every node class.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rushlight_graph::Classes;
use serde_json::{Map, Value};

use crate::blocking;
use crate::error::ApiError;
use crate::state::AppState;

/// `/object_info`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/object_info", get(all)).route("/object_info/{class}", get(one))
}

async fn all(State(state): State<AppState>) -> Result<Response, ApiError> {
    let cached = if state.is_ready() { state.cached_object_info() } else { None };
    let bytes = match cached {
        Some(bytes) => bytes,
        None => {
            blocking::run(move || {
                state.wait_ready();
                Ok::<_, ApiError>(state.object_info())
            })
            .await?
        }
    };
    Ok(json(bytes.into()))
}

async fn one(State(state): State<AppState>, Path(class): Path<String>) -> Result<Response, ApiError> {
    blocking::run(move || {
        state.wait_ready();
        state.refresh_extension();
        let mut info = Map::new();
        let classes = state.classes();
        classes.refresh_free(Some(&mut std::iter::once(class.as_str())));
        if let Some(schema) = classes.schema(&class) {
            info.insert(class, schema.to_object_info());
        }
        Ok::<_, ApiError>(json(Value::Object(info).to_string().into()))
    })
    .await
}

fn json(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}
