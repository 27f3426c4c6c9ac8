//! Pages: the frontend where one is installed, else a page of our own; templates and documentation.
//!
//! The page of our own is always at `/rushlight/`.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use percent_encoding::percent_decode_str;
use rushlight_store::folders::RelPath;

use super::extensions::owned_file;
use crate::error::ApiError;
use crate::files::Files;
use crate::state::AppState;

/// The page of our own: everything it consists of is part of the program.
const PAGE: &str = include_str!("../../page/index.html");
const SCRIPT: &str = include_str!("../../page/page.js");
const STYLE: &str = include_str!("../../page/page.css");
const ICON: &str = include_str!("../../page/icon.svg");

/// The routes that are pages. Not under `/api`.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(index))
        .route("/rushlight", get(|| async { Redirect::permanent("/rushlight/") }))
        .route("/rushlight/", get(|| async { own("text/html; charset=utf-8", PAGE) }))
        .route("/rushlight/page.js", get(|| async { own("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/rushlight/page.css", get(|| async { own("text/css; charset=utf-8", STYLE) }))
        .route("/rushlight/icon.svg", get(|| async { own("image/svg+xml", ICON) }))
        .route("/templates/{*file}", get(template))
        .route("/docs/{*file}", get(document))
}

fn own(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; img-src 'self' blob:; connect-src 'self' ws: wss:; base-uri 'none'; \
             frame-ancestors 'none'; form-action 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}

async fn index(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, ApiError> {
    let page = || own("text/html; charset=utf-8", PAGE);
    let Some(root) = state.files.frontend.root.clone() else { return Ok(page()) };
    match owned_file(&headers, Files::owned_root(root), RelPath::parse("index.html")?).await {
        Err(error) if error.status == StatusCode::NOT_FOUND => Ok(page()),
        other => other,
    }
}

async fn template(
    State(state): State<AppState>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    packaged(state.files.frontend.templates.clone(), "comfyui-workflow-templates", &file, &headers).await
}

async fn document(
    State(state): State<AppState>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    packaged(state.files.frontend.docs.clone(), "comfyui-embedded-docs", &file, &headers).await
}

async fn packaged(
    folder: Option<std::path::PathBuf>,
    package: &str,
    file: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let path = RelPath::file(file)?;
    let folder = folder.ok_or_else(|| {
        ApiError::not_found("There is no such file", format!("the package {package} is not installed"))
    })?;
    owned_file(headers, Files::owned_root(folder), path).await
}

/// A file of the frontend for a path that no route knows; `None` when there is no such file.
///
/// # Errors
/// 400 for a path that is not allowed.
pub async fn frontend_file(
    state: &AppState,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<Response>, ApiError> {
    let Some(root) = state.files.frontend.root.clone() else { return Ok(None) };
    if method != Method::GET && method != Method::HEAD {
        return Ok(None);
    }
    let path = percent_decode_str(uri.path().trim_start_matches('/')).decode_utf8_lossy();
    let path = match RelPath::parse(&path) {
        Ok(path) if path.is_empty() => return Ok(None),
        Ok(path) => path,
        // No file of a frontend is called so, but a route of an extension may be.
        Err(_) if state.extension.is_some() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match owned_file(headers, Files::owned_root(root), path).await {
        Err(error) if error.status == StatusCode::NOT_FOUND => Ok(None),
        other => other.map(Some),
    }
}

/// The answer for what no route knows: a file of the frontend, or whatever an extension's own routes say.
pub async fn fallback(State(state): State<AppState>, request: Request) -> Response {
    match frontend_file(&state, request.method(), request.uri(), request.headers()).await {
        Ok(Some(response)) => response,
        Ok(None) => super::forward::forward(State(state), request).await,
        Err(error) => error.into_response(),
    }
}
