//! `/history`: finished prompts.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use rushlight_store::records::HistoryPage;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::queue::Change;
use crate::error::ApiError;
use crate::state::AppState;
use crate::{blocking, body};

/// Bytes of history that are read from the store before they are sent.
const CHUNK: usize = 256 << 10;

/// `/history`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/history", get(list).post(change)).route("/history/{prompt_id}", get(one))
}

#[derive(Debug, Deserialize)]
struct Page {
    max_items: Option<String>,
    offset: Option<String>,
}

fn number(name: &str, text: Option<&str>) -> Result<Option<u64>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let value: i64 = text
        .trim()
        .parse()
        .map_err(|_| ApiError::bad_request("invalid_query", format!("{name} is not an integer"), text))?;
    // Negative means "none given", as an offset of -1 does upstream.
    Ok(u64::try_from(value).ok())
}

async fn list(State(state): State<AppState>, Query(page): Query<Page>) -> Result<Response, ApiError> {
    let page = HistoryPage {
        max_items: number("max_items", page.max_items.as_deref())?,
        offset: number("offset", page.offset.as_deref())?,
    };
    // The history may be large: it is sent as it is read, a few chunks ahead of the client.
    let (chunks, received) = mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    tokio::task::spawn_blocking(move || {
        let mut chunk = Vec::with_capacity(CHUNK);
        chunk.push(b'{');
        let mut first = true;
        let read = state.queue.store().history(page, &mut |id, entry| {
            if !std::mem::take(&mut first) {
                chunk.push(b',');
            }
            chunk.extend_from_slice(serde_json::Value::from(id).to_string().as_bytes());
            chunk.push(b':');
            chunk.extend_from_slice(entry.as_bytes());
            chunk.len() < CHUNK || chunks.blocking_send(Ok(std::mem::take(&mut chunk).into())).is_ok()
        });
        chunk.push(b'}');
        // A client that is gone needs no end; a broken store shows as a broken body.
        let _ = chunks.blocking_send(match read {
            Ok(()) => Ok(chunk.into()),
            Err(error) => Err(std::io::Error::other(error)),
        });
    });
    let stream = futures_util::stream::unfold(received, |mut received| async {
        received.recv().await.map(|chunk| (chunk, received))
    });
    Ok(json(Body::from_stream(stream)))
}

async fn one(State(state): State<AppState>, Path(prompt_id): Path<String>) -> Result<Response, ApiError> {
    blocking::run(move || {
        let entry = state.queue.store().history_entry(&prompt_id)?;
        let text = match entry {
            None => "{}".to_owned(),
            Some(entry) => format!("{{{}:{entry}}}", serde_json::Value::from(prompt_id)),
        };
        Ok::<_, ApiError>(json(Body::from(text)))
    })
    .await
}

async fn change(State(state): State<AppState>, request_body: Body) -> Result<StatusCode, ApiError> {
    let change: Change = body::read_json(&state, request_body).await?;
    blocking::run(move || {
        let store = state.queue.store();
        if change.clears() {
            store.clear_history()?;
        }
        let ids: Vec<String> = change.ids().collect();
        if !ids.is_empty() {
            store.delete_history(ids)?;
        }
        Ok::<_, ApiError>(StatusCode::OK)
    })
    .await
}

fn json(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}
