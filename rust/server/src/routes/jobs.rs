//! `/jobs`: pending, running and finished prompts in one list.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rushlight_protocol::{HistoryEntry, QueueItem};
use rushlight_store::records::JobKey;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::queue::{Asked, QueuedPrompt, RunningPrompt, now_ms};
use crate::state::AppState;
use crate::{blocking, body, job};

const STATUSES: &[&str] = &["pending", "in_progress", "completed", "failed", "cancelled"];

/// `/jobs`.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/cancel", post(cancel_many))
        .route("/jobs/{id}", get(one))
        .route("/jobs/{id}/cancel", post(cancel_one))
}

/// The query as it comes.
#[derive(Debug, Deserialize)]
struct Params {
    status: Option<String>,
    workflow_id: Option<String>,
    sort_by: Option<String>,
    sort_order: Option<String>,
    limit: Option<String>,
    offset: Option<String>,
}

/// The query, checked.
#[derive(Debug)]
struct Wanted {
    statuses: Vec<String>,
    workflow_id: Option<String>,
    by_duration: bool,
    descending: bool,
    limit: Option<usize>,
    offset: usize,
}

/// A 400 as this resource words it: `{"error": TEXT}`.
struct BadValue(String);

impl Params {
    fn check(self) -> Result<Wanted, BadValue> {
        let mut statuses = Vec::new();
        for status in self.status.as_deref().unwrap_or("").split(',').map(str::trim) {
            if status.is_empty() {
                continue;
            }
            let status = status.to_ascii_lowercase();
            if !STATUSES.contains(&status.as_str()) {
                return Err(BadValue(format!(
                    "Invalid status value(s): {status}. Valid values: {}",
                    STATUSES.join(", ")
                )));
            }
            statuses.push(status);
        }
        let by_duration = match self.sort_by.as_deref().unwrap_or("created_at") {
            "created_at" => false,
            "execution_duration" => true,
            _ => return Err(BadValue("sort_by must be one of: created_at, execution_duration".into())),
        };
        let descending = match self.sort_order.as_deref().unwrap_or("desc") {
            "desc" => true,
            "asc" => false,
            _ => return Err(BadValue("sort_order must be 'asc' or 'desc'".into())),
        };
        let integer = |name: &str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => match text.trim().parse::<i64>() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(BadValue(format!("{name} must be an integer"))),
            },
        };
        let limit = match integer("limit", self.limit)? {
            Some(limit) if limit <= 0 => return Err(BadValue("limit must be a positive integer".into())),
            limit => limit.and_then(|limit| usize::try_from(limit).ok()),
        };
        let offset = integer("offset", self.offset)?.unwrap_or(0);
        Ok(Wanted {
            statuses,
            // Empty means "any".
            workflow_id: self.workflow_id.filter(|id| !id.is_empty()),
            by_duration,
            descending,
            limit,
            offset: usize::try_from(offset).unwrap_or(0),
        })
    }
}

/// One job before it is known whether it is on the page.
struct Candidate {
    key: JobKey,
    /// The queue item, for jobs that have not ended.
    live: Option<(Arc<str>, Option<i64>)>,
}

async fn list(State(state): State<AppState>, Query(params): Query<Params>) -> Result<Response, ApiError> {
    let wanted = match params.check() {
        Ok(wanted) => wanted,
        Err(BadValue(error)) => return Ok(bad_value(&error)),
    };
    blocking::run(move || page(&state, &wanted)).await
}

fn bad_value(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
}

fn page(state: &AppState, wanted: &Wanted) -> Result<Response, ApiError> {
    let (running, pending) = state.queue.snapshot();
    let ended = state.queue.store().job_keys()?;
    // A prompt that ended between the two looks is listed once, as ended.
    let ended_ids: std::collections::HashSet<Arc<str>> =
        ended.iter().map(|key| key.prompt_id.clone()).collect();
    // By age, so that jobs made in the same millisecond keep their order.
    let mut candidates: Vec<Candidate> = ended.into_iter().map(|key| Candidate { key, live: None }).collect();
    let started = running.iter().map(|run| live(&run.prompt, "in_progress", Some(run.started)));
    let waiting = pending.iter().map(|prompt| live(prompt, "pending", None));
    candidates
        .extend(started.chain(waiting).filter(|candidate| !ended_ids.contains(&candidate.key.prompt_id)));
    if wanted.descending {
        candidates.reverse();
    }
    candidates.retain(|candidate| {
        let key = &candidate.key;
        (wanted.statuses.is_empty() || wanted.statuses.contains(&key.status))
            && (wanted.workflow_id.is_none() || wanted.workflow_id == key.workflow_id)
    });
    candidates.sort_by(|a, b| {
        let order = if wanted.by_duration {
            a.key.duration.cmp(&b.key.duration)
        } else {
            a.key.created.cmp(&b.key.created)
        };
        if wanted.descending { order.reverse() } else { order }
    });
    let total = candidates.len();
    let limit = wanted.limit.unwrap_or(total);
    let page: Vec<_> = candidates.into_iter().skip(wanted.offset).take(limit).collect();
    let has_more = wanted.offset.saturating_add(page.len()) < total;
    let jobs = summaries(state, &page)?;
    let pagination = json!({
        "offset": wanted.offset, "limit": wanted.limit, "total": total, "has_more": has_more,
    });
    Ok(Json(json!({ "jobs": jobs, "pagination": pagination })).into_response())
}

fn live(prompt: &QueuedPrompt, status: &str, started: Option<i64>) -> Candidate {
    let item = parse(&prompt.item);
    let key = JobKey {
        prompt_id: prompt.prompt_id.clone(),
        status: status.into(),
        created: item.as_ref().and_then(job::create_time).unwrap_or(0),
        duration: started.map_or(0, |started| now_ms() - started),
        workflow_id: item.as_ref().and_then(job::workflow_id).map(str::to_owned),
    };
    Candidate { key, live: Some((prompt.item.clone(), started)) }
}

fn parse(item: &str) -> Option<QueueItem> {
    serde_json::from_str(item).inspect_err(|error| tracing::error!(%error, "a queue item is not JSON")).ok()
}

fn summaries(state: &AppState, page: &[Candidate]) -> Result<Vec<Value>, ApiError> {
    let ended: Vec<_> =
        page.iter().filter(|job| job.live.is_none()).map(|job| job.key.prompt_id.clone()).collect();
    let mut stored = state.queue.store().jobs(&ended)?.into_iter();
    let mut jobs = Vec::with_capacity(page.len());
    for candidate in page {
        match &candidate.live {
            Some((item, started)) => {
                jobs.extend(parse(item).map(|item| live_summary(&item, &candidate.key.status, *started)));
            }
            None => jobs.extend(stored.next().and_then(|job| serde_json::from_str(&job).ok())),
        }
    }
    Ok(jobs)
}

fn live_summary(item: &QueueItem, status: &str, started: Option<i64>) -> Value {
    let mut summary = job::summary(item, status);
    if let Some(started) = started {
        summary.insert("execution_start_time".into(), started.into());
    }
    summary.insert("outputs_count".into(), 0.into());
    Value::Object(summary)
}

async fn one(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, ApiError> {
    blocking::run(move || {
        Ok::<_, ApiError>(match detail(&state, &id)? {
            Some(job) => Json(job).into_response(),
            None => not_found(),
        })
    })
    .await
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({ "error": "Job not found" }))).into_response()
}

fn find(state: &AppState, id: &str) -> Option<(Arc<QueuedPrompt>, Option<RunningPrompt>)> {
    let (running, pending) = state.queue.snapshot();
    let running = running.into_iter().find(|run| run.prompt.prompt_id.as_ref() == id);
    match running {
        Some(run) => Some((run.prompt.clone(), Some(run))),
        None => {
            pending.into_iter().find(|prompt| prompt.prompt_id.as_ref() == id).map(|prompt| (prompt, None))
        }
    }
}

fn detail(state: &AppState, id: &str) -> Result<Option<Value>, ApiError> {
    let live = find(state, id);
    if let Some(entry) = state.queue.store().history_entry(id)? {
        let entry: HistoryEntry = serde_json::from_str(&entry).map_err(ApiError::internal)?;
        let stored = state.queue.store().jobs(&[id.into()])?.pop().unwrap_or_default();
        let mut job: Map<String, Value> = serde_json::from_str(&stored).unwrap_or_default();
        job.insert("outputs".into(), json!(entry.outputs));
        job.insert("execution_status".into(), json!(entry.status));
        job.insert("workflow".into(), workflow(&entry.prompt));
        return Ok(Some(Value::Object(job)));
    }
    let Some((prompt, run)) = live else { return Ok(None) };
    let Some(item) = parse(&prompt.item) else { return Ok(None) };
    let status = if run.is_some() { "in_progress" } else { "pending" };
    let mut job = live_summary(&item, status, run.map(|run| run.started));
    if let Some(map) = job.as_object_mut() {
        map.insert("outputs".into(), json!({}));
        map.insert("workflow".into(), workflow(&item));
    }
    Ok(Some(job))
}

fn workflow(item: &QueueItem) -> Value {
    json!({ "prompt": item.prompt(), "extra_data": item.extra_data() })
}

/// Removes it if it waits, interrupts it if it runs. Whether it did either.
fn cancel(state: &AppState, id: &str) -> Result<bool, ApiError> {
    Ok(state.queue.remove(|prompt| prompt.prompt_id.as_ref() == id)? > 0
        || state.queue.interrupt(Some(id), Asked::Cancel))
}

async fn cancel_one(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, ApiError> {
    blocking::run(move || {
        if cancel(&state, &id)? {
            return Ok::<_, ApiError>(Json(json!({ "cancelled": true })).into_response());
        }
        Ok(match state.queue.store().history_entry(&id)? {
            // It has ended: there is nothing to cancel, and nothing wrong.
            Some(_) => Json(json!({ "cancelled": false })).into_response(),
            None => not_found(),
        })
    })
    .await
}

#[derive(Debug, Deserialize)]
struct Ids {
    #[serde(alias = "job_ids")]
    ids: Vec<String>,
}

async fn cancel_many(State(state): State<AppState>, request_body: Body) -> Result<Response, ApiError> {
    let Ids { ids } = body::read_json(&state, request_body).await?;
    blocking::run(move || {
        let mut cancelled = Vec::new();
        for id in ids {
            if cancel(&state, &id)? {
                cancelled.push(id);
            }
        }
        Ok::<_, ApiError>(Json(json!({ "cancelled": cancelled })).into_response())
    })
    .await
}
