//! `/history`: finished prompts.

use std::collections::VecDeque;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use rushlight_store::records::HistoryPage;
use serde::Deserialize;

use super::queue::Change;
use crate::error::ApiError;
use crate::state::AppState;
use crate::{blocking, body};

/// Bytes of history that are read from the store at a time.
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
    let reading = state.clone();
    let seqs = blocking::run(move || reading.queue.store().history_page(page)).await?;
    // The history may be large: it is read a chunk at a time, as the client takes it, so that one that stops reading
    // holds neither a thread nor the store.
    let listing = Listing { state, seqs: seqs.into(), place: Place::Start };
    let stream = futures_util::stream::unfold(listing, |mut listing| async {
        let chunk = listing.next().await?;
        // A broken store shows as a broken body.
        Some((chunk.map_err(std::io::Error::other), listing))
    });
    Ok(json(Body::from_stream(stream)))
}

/// A listing of the history that is being sent.
struct Listing {
    state: AppState,
    /// What is still to be read.
    seqs: VecDeque<i64>,
    place: Place,
}

/// How far a listing has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Middle,
    End,
}

impl Listing {
    /// The next piece of the JSON object, `None` after its end.
    async fn next(&mut self) -> Option<Result<Bytes, ApiError>> {
        if self.place == Place::End {
            return None;
        }
        let (state, place) = (self.state.clone(), self.place);
        let mut seqs = std::mem::take(&mut self.seqs);
        let read = blocking::run(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            if place == Place::Start {
                chunk.push(b'{');
            }
            let mut first = place == Place::Start;
            let looked_at = state.queue.store().history(seqs.make_contiguous(), &mut |id, entry| {
                if !std::mem::take(&mut first) {
                    chunk.push(b',');
                }
                chunk.extend_from_slice(serde_json::Value::from(id).to_string().as_bytes());
                chunk.push(b':');
                chunk.extend_from_slice(entry.as_bytes());
                chunk.len() < CHUNK
            })?;
            seqs.drain(..looked_at);
            let place = if seqs.is_empty() { Place::End } else { Place::Middle };
            if place == Place::End {
                chunk.push(b'}');
            }
            Ok::<_, ApiError>((chunk, seqs, place))
        });
        match read.await {
            Ok((chunk, seqs, place)) => {
                (self.seqs, self.place) = (seqs, place);
                Some(Ok(chunk.into()))
            }
            Err(error) => {
                self.place = Place::End;
                Some(Err(error))
            }
        }
    }
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
