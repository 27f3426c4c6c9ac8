//! `/userdata` and `/v2/userdata`: files that frontends keep for a user (workflows, templates, …).

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use rushlight_store::folders::{FolderError, Metadata, OnConflict, RelPath, Root};
use serde::Deserialize;
use serde_json::{Value, json};

use super::users::user_root;
use crate::body::Chunks;
use crate::error::ApiError;
use crate::files::blocking;
use crate::respond;
use crate::state::AppState;

/// Files listed at most; a folder of more is not a user's.
const MAX_LISTED: usize = 100_000;
/// Folders deeper than this are not listed.
const MAX_DEPTH: usize = 32;

/// The routes of users' files.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/userdata", get(list))
        .route("/v2/userdata", get(list_folder))
        .route("/userdata/{file}", get(read).post(write).delete(remove))
        .route("/userdata/{file}/move/{dest}", post(rename))
}

/// A file or folder of a listing.
struct Entry {
    path: RelPath,
    is_folder: bool,
    size: u64,
    modified: Option<SystemTime>,
    created: Option<SystemTime>,
}

impl Entry {
    fn new(path: RelPath, metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().map(|time| time.into_std());
        Self {
            path,
            is_folder: metadata.is_dir(),
            size: metadata.len(),
            modified,
            created: metadata.created().ok().map(|time| time.into_std()).or(modified),
        }
    }

    fn full_info(&self) -> Value {
        json!({
            "path": self.path.as_str(), "size": self.size,
            "modified": seconds(self.modified), "created": seconds(self.created),
        })
    }
}

/// Seconds since the epoch, as the original was seen to send them.
fn seconds(time: Option<SystemTime>) -> f64 {
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default().as_secs_f64()
}

/// The path of a user's file in a request.
///
/// # Errors
/// 403 for one that leads out of the user's folder or has no meaning in it, as the original answers.
fn user_file(text: &str) -> Result<RelPath, ApiError> {
    RelPath::file(text).map_err(forbidden)
}

fn forbidden(error: FolderError) -> ApiError {
    ApiError::forbidden("outside_folder", "That leads out of its folder", error.to_string())
}

/// Files (and folders, if asked for) in a folder, their paths relative to it, sorted.
fn entries(root: &Root, folder: &RelPath, recurse: bool, folders: bool) -> Result<Vec<Entry>, FolderError> {
    let mut out = Vec::new();
    let mut waiting = vec![(RelPath::default(), 0)];
    while let Some((beneath, depth)) = waiting.pop() {
        let path = folder.join(&beneath);
        let dir = match root.open_folder(&path, &[]) {
            Ok(dir) => dir,
            Err(error) if depth == 0 => return Err(error),
            Err(_) => continue,
        };
        let listed = dir.entries().map_err(|e| FolderError::from_io(path.as_str(), e))?;
        for entry in listed.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|name| RelPath::file(name).ok()) else { continue };
            let beneath = beneath.join(&name);
            // Asked by path and not by entry, so that a link is what it leads to, or left out if that is outside.
            let Ok(metadata) = root.metadata(&folder.join(&beneath), &[]) else { continue };
            if metadata.is_dir() && recurse && depth < MAX_DEPTH {
                waiting.push((beneath.clone(), depth + 1));
            }
            if (metadata.is_file() || folders) && out.len() < MAX_LISTED {
                out.push(Entry::new(beneath, &metadata));
            }
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}

#[derive(Deserialize)]
struct ListQuery {
    dir: Option<String>,
    recurse: Option<String>,
    full_info: Option<String>,
    split: Option<String>,
}

fn is_true(value: &Option<String>) -> bool {
    value.as_deref().is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

async fn list(
    State(state): State<AppState>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Result<Json<Vec<Value>>, ApiError> {
    let dir = query.dir.clone().filter(|dir| !dir.is_empty());
    let dir =
        dir.ok_or_else(|| ApiError::bad_request("no_dir", "No directory was given", "the query needs dir"))?;
    let folder = RelPath::parse(&dir).map_err(forbidden)?;
    let root = user_root(&state, &headers).await?;
    blocking(move || {
        let entries = entries(&root, &folder, is_true(&query.recurse), false)?;
        let value = |entry: &Entry| {
            if is_true(&query.full_info) {
                return entry.full_info();
            }
            let path = entry.path.as_str();
            match is_true(&query.split) {
                true => std::iter::once(path).chain(path.split('/')).collect(),
                false => Value::from(path),
            }
        };
        Ok(Json(entries.iter().map(value).collect()))
    })
    .await
}

#[derive(Deserialize)]
struct FolderQuery {
    path: Option<String>,
}

async fn list_folder(
    State(state): State<AppState>,
    Query(query): Query<FolderQuery>,
    headers: HeaderMap,
) -> Result<Json<Vec<Value>>, ApiError> {
    let folder = RelPath::parse(query.path.as_deref().unwrap_or(""))?;
    let root = user_root(&state, &headers).await?;
    blocking(move || {
        let mut entries = match entries(&root, &folder, true, true) {
            // A user that has saved nothing has no folder yet.
            Err(FolderError::NotFound { .. }) if folder.is_empty() => Vec::new(),
            other => other?,
        };
        let name = |entry: &Entry| entry.path.file_name().to_owned();
        entries.sort_by_cached_key(|entry| (!entry.is_folder, name(entry).to_lowercase()));
        let value = |entry: &Entry| {
            let path = folder.join(&entry.path);
            let name = name(entry);
            match entry.is_folder {
                true => json!({ "name": name, "path": path.as_str(), "type": "directory" }),
                false => json!({
                    "name": name, "path": path.as_str(), "type": "file", "size": entry.size,
                    "modified": seconds(entry.modified),
                }),
            }
        };
        Ok(Json(entries.iter().map(value).collect()))
    })
    .await
}

async fn read(
    State(state): State<AppState>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = user_file(&file)?;
    let root = user_root(&state, &headers).await?;
    let name = path.file_name().to_owned();
    let opened = blocking(move || Ok(root.open_file(&path, &[])?)).await?;
    let shown = name.clone();
    respond::file(&headers, opened, &name, move |_| respond::present_data(&shown)).await
}

#[derive(Deserialize)]
struct WriteQuery {
    overwrite: Option<String>,
    full_info: Option<String>,
}

impl WriteQuery {
    fn on_conflict(&self) -> OnConflict {
        match self.overwrite.as_deref() {
            Some(value) if value.eq_ignore_ascii_case("false") => OnConflict::Refuse,
            _ => OnConflict::Replace,
        }
    }

    /// The answer about a file that was written.
    fn answer(&self, root: &Root, path: &RelPath) -> Result<Json<Value>, ApiError> {
        if !is_true(&self.full_info) {
            return Ok(Json(path.as_str().into()));
        }
        let metadata = root.metadata(path, &[])?;
        Ok(Json(Entry::new(path.clone(), &metadata).full_info()))
    }
}

async fn write(
    State(state): State<AppState>,
    Path(file): Path<String>,
    Query(query): Query<WriteQuery>,
    headers: HeaderMap,
    request: Body,
) -> Result<Json<Value>, ApiError> {
    let path = user_file(&file)?;
    let root = user_root(&state, &headers).await?;
    let folders = state.files.folders.clone();
    let receiving = root.clone();
    let mut upload = blocking(move || Ok(folders.receive(&receiving)?)).await?;
    let mut chunks = Chunks::new(&state, request)?;
    while let Some(data) = chunks.next().await? {
        upload = blocking(move || {
            upload.write(&data)?;
            Ok(upload)
        })
        .await?;
    }
    let folders = state.files.folders.clone();
    blocking(move || {
        folders.place(upload, &root, &path, query.on_conflict())?;
        query.answer(&root, &path)
    })
    .await
}

async fn remove(
    State(state): State<AppState>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let path = user_file(&file)?;
    let root = user_root(&state, &headers).await?;
    blocking(move || {
        root.remove_file(&path, &[])?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

async fn rename(
    State(state): State<AppState>,
    Path((file, dest)): Path<(String, String)>,
    Query(query): Query<WriteQuery>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let (from, to) = (user_file(&file)?, user_file(&dest)?);
    let root = user_root(&state, &headers).await?;
    blocking(move || {
        root.rename_file(&from, &to, query.on_conflict() == OnConflict::Replace, &[])?;
        query.answer(&root, &to)
    })
    .await
}
