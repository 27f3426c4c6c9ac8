//! `GET /view`: pictures and other files of the input, output and temp folders.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use image::DynamicImage;
use rushlight_store::folders::{Annotated, FolderError, FolderKind, RelPath};
use serde::Deserialize;

use crate::error::ApiError;
use crate::files::blocking;
use crate::picture::{self, Encoding};
use crate::respond;
use crate::state::AppState;

/// `/view`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/view", get(view))
}

#[derive(Debug, Deserialize)]
struct ViewQuery {
    filename: Option<String>,
    #[serde(rename = "type")]
    folder: Option<String>,
    subfolder: Option<String>,
    preview: Option<String>,
    channel: Option<String>,
}

async fn view(
    State(state): State<AppState>,
    Query(query): Query<ViewQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (kind, path) = locate(&query)?;
    let folders = state.files.folders.clone();
    let name = path.file_name().to_owned();
    let file = blocking(move || Ok(folders.open_file(kind, &path)?)).await?;
    let Some((encoding, change)) = conversion(&query)? else {
        let shown = name.clone();
        let asked = headers.clone();
        return respond::file(&headers, file, &name, move |head| respond::present(&shown, head, &asked))
            .await;
    };
    let max_pixels = state.files.host.max_image_pixels();
    let place = state.heavy.picture().await;
    let bytes = blocking(move || {
        let _place = place;
        let image = picture::decode(file, max_pixels)?;
        picture::encode(&change(image), encoding)
    })
    .await?;
    let headers = [
        (header::CONTENT_TYPE, encoding.mime().to_owned()),
        (header::CONTENT_DISPOSITION, respond::disposition(&name, false)),
    ];
    Ok((headers, bytes).into_response())
}

/// The folder and file that were asked for. A bad name is 400, a bad subfolder 403.
fn locate(query: &ViewQuery) -> Result<(FolderKind, RelPath), ApiError> {
    let filename = query.filename.as_deref().unwrap_or("");
    if filename.is_empty() {
        return Err(ApiError::bad_request("no_filename", "No filename was given", ""));
    }
    let annotated = Annotated::parse(filename)?;
    let kind = match (annotated.folder, query.folder.as_deref()) {
        (Some(kind), _) => kind,
        (None, None) => FolderKind::Output,
        (None, Some(name)) => FolderKind::parse(name).ok_or_else(|| {
            ApiError::bad_request(
                "bad_type",
                "No such folder type",
                format!("{name:?}: input, output or temp"),
            )
        })?,
    };
    let subfolder =
        RelPath::parse(query.subfolder.as_deref().unwrap_or("")).map_err(|error| match error {
            FolderError::BadName { .. } => {
                ApiError::forbidden("outside_folder", "That leads out of its folder", error.to_string())
            }
            other => other.into(),
        })?;
    Ok((kind, subfolder.join(&annotated.path)))
}

type Change = fn(DynamicImage) -> DynamicImage;

/// How the picture is to be changed and encoded, `None` to send the file as it is.
fn conversion(query: &ViewQuery) -> Result<Option<(Encoding, Change)>, ApiError> {
    if let Some(preview) = query.preview.as_deref().filter(|preview| !preview.is_empty()) {
        let (format, quality) = preview.split_once(';').unwrap_or((preview, "90"));
        let quality = quality.parse::<u8>().unwrap_or(90).clamp(1, 100);
        // As in the original, a format that is not known is webp.
        let encoding = if format == "jpeg" { Encoding::Jpeg(quality) } else { Encoding::WebP(quality) };
        return Ok(Some((encoding, |image| image)));
    }
    match query.channel.as_deref() {
        None | Some("rgba" | "") => Ok(None),
        Some("rgb") => Ok(Some((Encoding::Png, |image| DynamicImage::ImageRgb8(image.to_rgb8())))),
        Some("a") => Ok(Some((Encoding::Png, alpha_only))),
        Some(other) => {
            Err(ApiError::bad_request("bad_channel", "No such channel", format!("{other:?}: rgba, rgb or a")))
        }
    }
}

/// Black with the picture's alpha.
fn alpha_only(image: DynamicImage) -> DynamicImage {
    let mut image = image.into_rgba8();
    for pixel in image.pixels_mut() {
        let [_, _, _, alpha] = pixel.0;
        pixel.0 = [0, 0, 0, alpha];
    }
    DynamicImage::ImageRgba8(image)
}
