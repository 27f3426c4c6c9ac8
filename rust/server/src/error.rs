//! Refusals as typed JSON: `{"error": {type, message, details, extra_info}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rushlight_protocol::{ErrorBody, PromptRejected};

/// Why a request gets no answer but a status.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status}: {body}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is said about it.
    pub body: ErrorBody,
}

impl ApiError {
    /// An error of any status.
    pub fn new(
        status: StatusCode,
        kind: &str,
        message: impl Into<String>,
        details: impl Into<String>,
    ) -> Self {
        Self { status, body: ErrorBody::new(kind, message, details) }
    }

    /// 400.
    pub fn bad_request(kind: &str, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, message, details)
    }

    /// 403.
    pub fn forbidden(kind: &str, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, kind, message, details)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message, details)
    }

    /// 500; the cause is logged, not told.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "The server failed", "see its log")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.body }))).into_response()
    }
}

/// The 400 of `POST /prompt`.
pub fn prompt_rejected(rejected: &PromptRejected) -> Response {
    (StatusCode::BAD_REQUEST, Json(rejected)).into_response()
}
