//! Request bodies, bounded in size and in time.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::state::AppState;

/// Reads a whole body within the settings' limits.
///
/// # Errors
/// 413 beyond `max_body_bytes`, 408 when no byte comes for `body_idle_timeout`, 400 when the client breaks off.
pub async fn read(state: &AppState, body: Body) -> Result<Bytes, ApiError> {
    read_bounded(body, state.settings.max_body_bytes, state.settings.limits.body_idle_timeout).await
}

async fn read_bounded(mut body: Body, limit: u64, idle: Duration) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "Request body is too large",
            format!("the limit is {limit} bytes (--max-upload-size)"),
        )
    };
    // A declared length is only believed to refuse early, never to allocate.
    let hint = hyper::body::Body::size_hint(&body);
    if hint.lower() > limit {
        return Err(too_large());
    }
    let mut collected = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(idle, body.frame()).await {
            Err(_) => {
                return Err(ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "body_timeout",
                    "Request body came too slowly",
                    format!("no byte for {} s", idle.as_secs()),
                ));
            }
            Ok(None) => return Ok(collected.freeze()),
            Ok(Some(Err(error))) => {
                return Err(ApiError::bad_request(
                    "body_broken",
                    "Request body broke off",
                    error.to_string(),
                ));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            if collected.len() as u64 + data.len() as u64 > limit {
                return Err(too_large());
            }
            collected.extend_from_slice(&data);
        }
    }
}

/// Parses JSON whatever its content type; a byte order mark is an error as any other stray byte is.
///
/// # Errors
/// 400 `invalid_json` with the place of the fault.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request("invalid_json", "Request body is not the JSON expected", error.to_string())
    })
}

/// Reads a JSON body; an empty one is `{}`.
///
/// # Errors
/// As [`read`] and [`parse_json`].
pub async fn read_json<T: DeserializeOwned>(state: &AppState, body: Body) -> Result<T, ApiError> {
    let bytes = read(state, body).await?;
    if bytes.is_empty() { parse_json(b"{}") } else { parse_json(&bytes) }
}
