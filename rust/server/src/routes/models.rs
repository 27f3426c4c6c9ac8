//! `/models`, `/embeddings`, `/view_metadata`, `/experiment/models`: what model folders hold.

use std::fs::File;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use rushlight_runtime::host::ModelSource;
use rushlight_store::folders::RelPath;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::body;
use crate::error::ApiError;
use crate::files::{Files, blocking};
use crate::picture::{self, Encoding};
use crate::state::AppState;

/// Longest safetensors header that is read for its metadata, in bytes.
const MAX_HEADER: u64 = 32 << 20;
/// How pictures that lie beside models are shown.
const PREVIEW: Encoding = Encoding::WebP(80);

/// The routes of model folders.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/models", get(keys))
        .route("/models/{folder}", get(names))
        .route("/embeddings", get(embeddings))
        .route("/view_metadata/{folder}", get(metadata))
        .route("/experiment/models", get(folders))
        .route("/experiment/models/{folder}", get(entries))
        .route("/experiment/models/preview/{folder}/{path_index}/{*filename}", get(preview))
}

async fn keys(State(state): State<AppState>) -> Json<Vec<String>> {
    Json(state.files.folders.models().keys())
}

fn unknown_folder(folder: &str) -> ApiError {
    ApiError::not_found("There is no such model folder", format!("{folder:?}"))
}

async fn names(
    State(state): State<AppState>,
    Path(folder): Path<String>,
) -> Result<Json<Vec<String>>, ApiError> {
    blocking(move || {
        if !state.files.folders.models().has(&folder) {
            return Err(unknown_folder(&folder));
        }
        Ok(Json(state.files.host.model_names(&folder)))
    })
    .await
}

async fn embeddings(State(state): State<AppState>) -> Result<Json<Vec<String>>, ApiError> {
    blocking(move || {
        let names = state.files.host.model_names("embeddings");
        let bare = |name: String| match RelPath::parse(&name).map(|path| path.stem_and_extension().1.len()) {
            Ok(extension) => name.get(..name.len() - extension).unwrap_or(&name).to_owned(),
            Err(_) => name,
        };
        Ok(Json(names.into_iter().map(bare).collect()))
    })
    .await
}

#[derive(Deserialize)]
struct MetadataQuery {
    filename: Option<String>,
}

async fn metadata(
    State(state): State<AppState>,
    Path(folder): Path<String>,
    Query(query): Query<MetadataQuery>,
) -> Result<Json<Value>, ApiError> {
    blocking(move || {
        let name = query.filename.unwrap_or_default();
        if !name.ends_with(".safetensors") {
            return Err(ApiError::not_found("Only safetensors files have metadata", format!("{name:?}")));
        }
        let none = || ApiError::not_found("The file has no metadata", format!("{name:?}"));
        let header = match state.files.host.model(&folder, &name) {
            Ok(ModelSource::Path(path)) => read_header(File::open(path).map_err(|_| none())?),
            Ok(ModelSource::Embedded(bytes)) => read_header(bytes),
            Err(rushlight_runtime::host::HostError::Refused { reason, .. }) => {
                return Err(ApiError::bad_request("bad_name", "That name is not allowed", reason));
            }
            Err(error) => return Err(ApiError::not_found("There is no such model", error.to_string())),
        };
        header.map(|map| Json(Value::Object(map))).ok_or_else(none)
    })
    .await
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Option<Map<String, Value>>,
}

/// The `__metadata__` of a safetensors file. What the header claims is bounded before anything is allocated.
fn read_header(mut file: impl Read) -> Option<Map<String, Value>> {
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return None;
    }
    // Reads what is there, which may be less than the header claims.
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).ok()?;
    body::parse_json::<Header>(&header).ok()?.metadata
}

async fn folders(State(state): State<AppState>) -> Json<Vec<Value>> {
    let models = state.files.folders.models();
    let shown = |key: &String| !matches!(key.as_str(), "configs" | "custom_nodes");
    let entry = |key: String| json!({ "name": key, "folders": models.paths(&key) });
    Json(models.keys().into_iter().filter(shown).map(entry).collect())
}

async fn entries(
    State(state): State<AppState>,
    Path(folder): Path<String>,
) -> Result<Json<Vec<Value>>, ApiError> {
    blocking(move || {
        let models = state.files.folders.models();
        if !models.has(&folder) {
            return Err(unknown_folder(&folder));
        }
        let roots = models.roots(&folder);
        let mut out = Vec::new();
        for (index, name) in models.names_by_path(&folder) {
            let Some(path) = RelPath::parse(&name).ok() else { continue };
            // A folder of a diffusers pipeline has no size of its own.
            let Some(metadata) = roots.get(index).and_then(|root| root.metadata(&path, &[]).ok()) else {
                continue;
            };
            let seconds = |time: Option<SystemTime>| {
                time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs_f64())
            };
            let modified = seconds(metadata.modified().ok().map(|time| time.into_std()));
            let created = seconds(metadata.created().ok().map(|time| time.into_std()));
            out.push(json!({
                "name": name, "pathIndex": index, "modified": modified,
                "created": created.or(modified), "size": metadata.len(),
            }));
        }
        // What is part of the program is in no folder.
        for name in state.files.host.model_names(&folder) {
            if let Ok(ModelSource::Embedded(bytes)) = state.files.host.model(&folder, &name) {
                out.push(
                    json!({ "name": name, "pathIndex": 0, "modified": 0, "created": 0, "size": bytes.len() }),
                );
            }
        }
        Ok(Json(out))
    })
    .await
}

async fn preview(
    State(state): State<AppState>,
    Path((folder, path_index, filename)): Path<(String, usize, String)>,
) -> Result<Response, ApiError> {
    let place = state.heavy.picture().await;
    let bytes = blocking(move || {
        let _place = place;
        find_preview(&state.files, &folder, path_index, &filename)
    })
    .await?;
    let headers = [(header::CONTENT_TYPE, PREVIEW.mime()), (header::CACHE_CONTROL, "private, max-age=3600")];
    Ok((headers, bytes).into_response())
}

/// Encodes the picture that lies beside a model, by the names that download tools give it.
fn find_preview(files: &Files, folder: &str, index: usize, filename: &str) -> Result<Vec<u8>, ApiError> {
    let root = files.folders.models().roots(folder).into_iter().nth(index);
    let root = root.ok_or_else(|| unknown_folder(folder))?;
    let path = RelPath::file(filename)?;
    let (stem, _) = path.stem_and_extension();
    for extension in
        ["preview.png", "preview.jpg", "preview.jpeg", "preview.webp", "png", "jpg", "jpeg", "webp"]
    {
        let Ok(name) = RelPath::file(&format!("{stem}.{extension}")) else { continue };
        if let Ok(file) = root.open_file(&path.parent().join(&name), &[]) {
            let image = picture::decode(file, files.host.max_image_pixels())?;
            return picture::encode(&image, PREVIEW);
        }
    }
    Err(ApiError::not_found("The model has no preview", format!("{filename:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(claimed: u64, header: &str) -> Vec<u8> {
        [&claimed.to_le_bytes()[..], header.as_bytes()].concat()
    }

    #[test]
    fn metadata_is_read_and_lies_about_its_length_are_not_believed() {
        let header = r#"{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
        let read = |claimed: u64, header: &str| read_header(&file(claimed, header)[..]);
        assert_eq!(read(header.len() as u64, header).unwrap()["a"], "b");
        assert!(read(u64::MAX, header).is_none());
        assert!(read(MAX_HEADER, r#"{"__metadata__":{"a""#).is_none());
        assert!(read(2, "{}").is_none());
        assert!(read_header(&b"short"[..]).is_none());
    }
}
