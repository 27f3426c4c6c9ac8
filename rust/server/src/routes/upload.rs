//! `POST /upload/image` and `/upload/mask`.
//!
//! A file goes to disk as it comes in, under a temporary name; the fields that say where it belongs may come before
//! or after it. Memory used does not depend on the file's size.

use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Request, State};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use image::DynamicImage;
use rushlight_store::Folders;
use rushlight_store::folders::{Annotated, FolderKind, OnConflict, RelPath, Saved, Upload};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::{BodyFault, Chunks};
use crate::error::ApiError;
use crate::files::blocking;
use crate::picture::{self, Encoding};
use crate::state::AppState;

/// Longest value of a field that is no file.
const MAX_FIELD: usize = 64 << 10;
/// Bytes before a part of a form begins: its boundary and head.
const MAX_PART_HEAD: u64 = 64 << 10;
/// Most fields of one form.
const MAX_FIELDS: usize = 64;

/// `/upload/image`, `/upload/mask`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/upload/image", post(image)).route("/upload/mask", post(mask))
}

/// A form as it came in.
#[derive(Default)]
struct Form {
    file: Option<(String, Upload)>,
    folder: Option<String>,
    subfolder: String,
    overwrite: bool,
    original_ref: Option<String>,
}

async fn image(State(state): State<AppState>, request: Request) -> Result<Json<Value>, ApiError> {
    let form = receive(&state, request).await?;
    let folders = state.files.folders.clone();
    blocking(move || {
        let (upload, place) = form.into_place()?;
        place.answer(&folders, upload)
    })
    .await
}

async fn mask(State(state): State<AppState>, request: Request) -> Result<Json<Value>, ApiError> {
    let form = receive(&state, request).await?;
    let folders = state.files.folders.clone();
    let max_pixels = state.files.host.max_image_pixels();
    let place = if form.original_ref.is_some() { state.heavy.picture().await } else { None };
    blocking(move || {
        let _place = place;
        let original_ref = form.original_ref.clone();
        let (upload, place) = form.into_place()?;
        // Without an original the upload itself is kept.
        let Some(original_ref) = original_ref else { return place.answer(&folders, upload) };
        let original = read_original(&folders, &original_ref)?;
        let mask = picture::decode(upload.reopen()?, max_pixels)?;
        let masked = apply_mask(&original, mask, max_pixels)?;
        let mut upload = folders.receive(&folders.root(place.kind))?;
        upload.write(&masked)?;
        place.answer(&folders, upload)
    })
    .await
}

/// Takes a form in, the file straight to disk.
async fn receive(state: &AppState, request: Request) -> Result<Form, ApiError> {
    let (head, body) = request.into_parts();
    // The parser keeps what comes before a part, and a part's head, whole: that is bounded too.
    let (body, pending) = Chunks::new(state, body)?.into_body(MAX_PART_HEAD);
    let request = Request::from_parts(head, body);
    let mut multipart = Multipart::from_request(request, &()).await.map_err(|e| broken(e.body_text()))?;
    let mut form = Form::default();
    for _ in 0..MAX_FIELDS {
        pending.store(0, Ordering::Relaxed);
        let next = multipart.next_field().await;
        let Some(mut field) = next.map_err(|e| form_fault(&e))? else { return Ok(form) };
        let name = field.name().unwrap_or("").to_owned();
        if name == "image" && form.file.is_none() {
            form.file = Some(receive_file(state, &pending, field).await?);
            continue;
        }
        let mut value = Vec::new();
        while let Some(chunk) = next_chunk(&pending, &mut field).await? {
            if value.len() + chunk.len() > MAX_FIELD {
                return Err(broken(format!("the field {name:?} is longer than {MAX_FIELD} bytes")));
            }
            value.extend_from_slice(&chunk);
        }
        let value = String::from_utf8(value).map_err(|e| broken(e.to_string()))?;
        match name.as_str() {
            "type" => form.folder = Some(value),
            "subfolder" => form.subfolder = value,
            "overwrite" => form.overwrite = matches!(value.as_str(), "true" | "1"),
            "original_ref" => form.original_ref = Some(value),
            _ => {}
        }
    }
    Err(broken(format!("more than {MAX_FIELDS} fields")))
}

async fn next_chunk(pending: &AtomicU64, field: &mut Field<'_>) -> Result<Option<Bytes>, ApiError> {
    pending.store(0, Ordering::Relaxed);
    field.chunk().await.map_err(|e| form_fault(&e))
}

async fn receive_file(
    state: &AppState,
    pending: &AtomicU64,
    mut field: Field<'_>,
) -> Result<(String, Upload), ApiError> {
    let filename = field.file_name().unwrap_or("").to_owned();
    let folders = state.files.folders.clone();
    let mut upload = blocking(move || Ok(folders.receive(&folders.root(FolderKind::Input))?)).await?;
    while let Some(chunk) = next_chunk(pending, &mut field).await? {
        upload = blocking(move || {
            upload.write(&chunk)?;
            Ok(upload)
        })
        .await?;
    }
    Ok((filename, upload))
}

/// The fault that broke a form: the body's own, or the form's.
fn form_fault(error: &MultipartError) -> ApiError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(fault) = error.downcast_ref::<BodyFault>() {
            return fault.clone().into();
        }
        cause = error.source();
    }
    broken(error.body_text())
}

fn broken(details: impl Into<String>) -> ApiError {
    ApiError::bad_request("bad_form", "The multipart form cannot be read", details)
}

/// Where a file belongs.
struct Place {
    kind: FolderKind,
    /// What the file's own name said of a folder, as the answer repeats it.
    named_folder: RelPath,
    subfolder: String,
    path: RelPath,
    on_conflict: OnConflict,
}

impl Form {
    fn into_place(self) -> Result<(Upload, Place), ApiError> {
        let (filename, upload) = self
            .file
            .ok_or_else(|| ApiError::bad_request("no_image", "The form has no file named image", ""))?;
        let folder = self.folder.as_deref().filter(|name| !name.is_empty()).unwrap_or("input");
        let kind = FolderKind::parse(folder).ok_or_else(|| {
            ApiError::bad_request(
                "bad_type",
                "No such folder type",
                format!("{folder:?}: input, output or temp"),
            )
        })?;
        let subfolder = RelPath::parse(&self.subfolder)?;
        let file = RelPath::file(&filename)?;
        let on_conflict = if self.overwrite { OnConflict::Replace } else { OnConflict::Rename };
        let place = Place {
            kind,
            path: subfolder.join(&file),
            named_folder: file.parent(),
            subfolder: subfolder.to_string(),
            on_conflict,
        };
        Ok((upload, place))
    }
}

impl Place {
    fn answer(&self, folders: &Folders, upload: Upload) -> Result<Json<Value>, ApiError> {
        let root = folders.root(self.kind);
        let Saved { filename, .. } = folders.place(upload, &root, &self.path, self.on_conflict)?;
        let name = self.named_folder.join(&RelPath::file(&filename)?);
        Ok(Json(json!({ "name": name.as_str(), "subfolder": self.subfolder, "type": self.kind.as_str() })))
    }
}

#[derive(Deserialize)]
struct OriginalRef {
    filename: String,
    #[serde(default)]
    subfolder: String,
    #[serde(rename = "type", default)]
    folder: Option<String>,
}

/// Largest original that is read, in bytes.
const MAX_ORIGINAL: u64 = 512 << 20;

fn read_original(folders: &Folders, original_ref: &str) -> Result<Vec<u8>, ApiError> {
    let bad =
        |details: String| ApiError::bad_request("bad_original_ref", "original_ref is not usable", details);
    let original: OriginalRef = serde_json::from_str(original_ref).map_err(|e| bad(e.to_string()))?;
    let annotated = Annotated::parse(&original.filename)?;
    let named = match original.folder.as_deref() {
        None | Some("") => FolderKind::Output,
        Some(name) => FolderKind::parse(name).ok_or_else(|| bad(format!("no such type: {name:?}")))?,
    };
    let path = RelPath::parse(&original.subfolder)?.join(&annotated.path);
    let file = folders.open_file(annotated.folder.unwrap_or(named), &path)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_ORIGINAL), &mut bytes)
        .map_err(ApiError::internal)?;
    Ok(bytes)
}

/// The original's colours with the mask's alpha, as a PNG that keeps the original's text chunks.
fn apply_mask(original: &[u8], mask: DynamicImage, max_pixels: u64) -> Result<Vec<u8>, ApiError> {
    let mut image = picture::decode(Cursor::new(original), max_pixels)?.into_rgba8();
    let mask = mask.into_rgba8();
    if image.dimensions() != mask.dimensions() {
        return Err(ApiError::bad_request(
            "mask_size",
            "The mask must have the size of the original",
            format!("{:?} and {:?}", mask.dimensions(), image.dimensions()),
        ));
    }
    for (pixel, mask) in image.pixels_mut().zip(mask.pixels()) {
        let ([r, g, b, _], [_, _, _, alpha]) = (pixel.0, mask.0);
        pixel.0 = [r, g, b, alpha];
    }
    let png = picture::encode(&DynamicImage::ImageRgba8(image), Encoding::Png)?;
    Ok(picture::with_chunks(png, &picture::text_chunks(original)))
}
