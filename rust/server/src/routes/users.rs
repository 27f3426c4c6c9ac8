//! `/users`, and whose folder a request means.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use rushlight_store::Folders;
use rushlight_store::folders::{FolderError, OnConflict, RelPath, Root};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::body;
use crate::error::ApiError;
use crate::files::blocking;
use crate::state::AppState;

/// The list of users, beside their folders.
const USERS_FILE: &str = "users.json";
/// The folder of the only user.
const DEFAULT_USER: &str = "default";
/// Largest small file (users, settings) that is read, in bytes.
const MAX_JSON: u64 = 16 << 20;

/// `/users`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/users", get(list).post(create))
}

async fn list(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    if !state.settings.multi_user {
        return Ok(Json(json!({ "storage": "server", "migrated": true })));
    }
    let folders = state.files.folders.clone();
    let users = blocking(move || read_object(&folders, USERS_FILE)).await?;
    Ok(Json(json!({ "storage": "server", "users": users })))
}

#[derive(Deserialize)]
struct NewUser {
    username: String,
}

async fn create(State(state): State<AppState>, request: Body) -> Result<Json<Value>, ApiError> {
    let NewUser { username } = body::read_json(&state, request).await?;
    let name = username.trim().to_owned();
    if !state.settings.multi_user {
        return Err(ApiError::bad_request("single_user", "This server has one user", "see --multi-user"));
    }
    if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(ApiError::bad_request(
            "bad_username",
            "The user name is not allowed",
            "1 to 100 characters",
        ));
    }
    let _guard = state.files.settings_lock.lock().await;
    let folders = state.files.folders.clone();
    blocking(move || {
        let mut users = read_object(&folders, USERS_FILE)?;
        if users.values().any(|known| known.as_str() == Some(&name)) {
            return Err(ApiError::bad_request("duplicate_username", "There is a user of that name", name));
        }
        let safe: String = name.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
        let id = format!("{safe}_{}", uuid::Uuid::new_v4());
        users.insert(id.clone(), name.into());
        write_object(&folders, USERS_FILE, &users)?;
        Ok(Json(Value::String(id)))
    })
    .await
}

/// The folder of the user that a request names, relative to the user folder.
///
/// # Errors
/// 403 for a user that is not known.
pub(crate) async fn user_folder(state: &AppState, headers: &HeaderMap) -> Result<RelPath, ApiError> {
    if !state.settings.multi_user {
        return Ok(RelPath::parse(DEFAULT_USER)?);
    }
    let id =
        headers.get("comfy-user").and_then(|value| value.to_str().ok()).unwrap_or(DEFAULT_USER).to_owned();
    let folders = state.files.folders.clone();
    blocking(move || {
        if !read_object(&folders, USERS_FILE)?.contains_key(&id) {
            return Err(ApiError::forbidden("unknown_user", "There is no such user", format!("{id:?}")));
        }
        Ok(RelPath::file(&id)?)
    })
    .await
}

/// The folder of the user that a request names, as a root: nothing leads out of it into another user's.
///
/// # Errors
/// As [`user_folder`].
pub(crate) async fn user_root(state: &AppState, headers: &HeaderMap) -> Result<Root, ApiError> {
    let folder = user_folder(state, headers).await?;
    Ok(state.files.folders.user_folder(&folder))
}

/// Reads a JSON object beneath the user folder; a missing file is `{}`.
pub(crate) fn read_object(folders: &Folders, name: &str) -> Result<Map<String, Value>, ApiError> {
    let mut bytes = Vec::new();
    match folders.user_root().open_file(&RelPath::file(name)?, &[]) {
        Ok(file) => {
            std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_JSON), &mut bytes)
                .map_err(ApiError::internal)?;
        }
        Err(FolderError::NotFound { .. }) => return Ok(Map::new()),
        Err(error) => return Err(error.into()),
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        // Answering `{}` would let the next change overwrite what somebody may still repair.
        ApiError::internal(format!("{name} in the user folder is not a JSON object: {error}"))
    })
}

/// Writes a JSON object beneath the user folder, whole or not at all.
pub(crate) fn write_object(
    folders: &Folders,
    name: &str,
    value: &Map<String, Value>,
) -> Result<(), ApiError> {
    let text = serde_json::to_vec_pretty(value).map_err(ApiError::internal)?;
    let root = folders.user_root();
    let mut upload = folders.receive(&root)?;
    upload.write(&text)?;
    folders.place(upload, &root, &RelPath::file(name)?, OnConflict::Replace)?;
    Ok(())
}
