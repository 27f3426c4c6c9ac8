//! Request bodies, bounded in size and in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::error::ApiError;
use crate::state::AppState;

/// Bytes a second that a body must have come at, on the whole, once `body_grace` is over: a client that sends one now
/// and then must not hold a connection for days.
const SLOWEST: f64 = 1024.0;

/// Why a body was not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// More bytes than are taken.
    #[error("the limit is {0} bytes (--max-upload-size)")]
    TooLarge(u64),
    /// No byte for too long, or too few on the whole.
    #[error("{0}")]
    TooSlow(String),
    /// The client broke off.
    #[error("{0}")]
    Broken(String),
    /// A part of a form whose head does not end.
    #[error("no part of the form begins within {0} bytes")]
    NoPart(u64),
}

impl From<BodyFault> for ApiError {
    fn from(fault: BodyFault) -> Self {
        let (status, kind, message) = match &fault {
            BodyFault::TooLarge(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "Request body is too large")
            }
            BodyFault::TooSlow(_) => {
                (StatusCode::REQUEST_TIMEOUT, "body_timeout", "Request body came too slowly")
            }
            BodyFault::Broken(_) => (StatusCode::BAD_REQUEST, "body_broken", "Request body broke off"),
            BodyFault::NoPart(_) => {
                (StatusCode::BAD_REQUEST, "bad_form", "The multipart form cannot be read")
            }
        };
        ApiError::new(status, kind, message, fault.to_string())
    }
}

/// A body within the settings' limits, chunk by chunk.
pub struct Chunks {
    body: Body,
    received: u64,
    limit: u64,
    idle: Duration,
    grace: Duration,
    begun: Instant,
    /// Bytes taken since whoever parses them last got on, and how many there may be.
    pending: (Arc<AtomicU64>, u64),
}

impl Chunks {
    /// The body of a request.
    ///
    /// # Errors
    /// [`BodyFault::TooLarge`] when it says so itself. A declared length is only believed to refuse early, never to
    /// allocate.
    pub fn new(state: &AppState, body: Body) -> Result<Self, BodyFault> {
        let limit = state.settings.max_body_bytes;
        if hyper::body::Body::size_hint(&body).lower() > limit {
            return Err(BodyFault::TooLarge(limit));
        }
        let limits = &state.settings.limits;
        Ok(Self {
            body,
            received: 0,
            limit,
            idle: limits.body_idle_timeout,
            grace: limits.body_grace,
            begun: Instant::now(),
            pending: (Arc::default(), u64::MAX),
        })
    }

    /// The next bytes, `None` at the end.
    ///
    /// # Errors
    /// When a limit is passed or the client breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        loop {
            let (pending, most) = &self.pending;
            if pending.load(Ordering::Relaxed) >= *most {
                return Err(BodyFault::NoPart(*most));
            }
            let frame = match tokio::time::timeout(self.idle, self.body.frame()).await {
                Err(_) => return Err(BodyFault::TooSlow(format!("no byte for {:?}", self.idle))),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(BodyFault::Broken(error.to_string())),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            self.received += data.len() as u64;
            if self.received > self.limit {
                return Err(BodyFault::TooLarge(self.limit));
            }
            let elapsed = self.begun.elapsed();
            if elapsed > self.grace && (self.received as f64) < SLOWEST * elapsed.as_secs_f64() {
                return Err(BodyFault::TooSlow(format!("{} bytes in {elapsed:.0?}", self.received)));
            }
            self.pending.0.fetch_add(data.len() as u64, Ordering::Relaxed);
            return Ok(Some(data));
        }
    }

    /// The same as a body, for a parser that takes one. The counter must be set to 0 whenever the parser got on; when
    /// it passes `most` bytes, the body ends with [`BodyFault::NoPart`].
    pub fn into_body(mut self, most: u64) -> (Body, Arc<AtomicU64>) {
        let counter = Arc::<AtomicU64>::default();
        self.pending = (counter.clone(), most);
        let stream = futures_util::stream::unfold(Some(self), |chunks| async {
            let mut chunks = chunks?;
            if chunks.received > 0 {
                // A parser that takes whatever is there before it looks at it gets one chunk at a time.
                tokio::task::yield_now().await;
            }
            match chunks.next().await {
                Ok(None) => None,
                Ok(Some(data)) => Some((Ok(data), Some(chunks))),
                Err(fault) => Some((Err(fault), None)),
            }
        });
        (Body::from_stream(stream), counter)
    }
}

/// Reads a whole body within the settings' limits.
///
/// # Errors
/// 413 beyond `max_body_bytes`, 408 when it comes too slowly, 400 when the client breaks off.
pub async fn read(state: &AppState, body: Body) -> Result<Bytes, ApiError> {
    let mut chunks = Chunks::new(state, body)?;
    let mut collected = BytesMut::new();
    while let Some(chunk) = chunks.next().await? {
        collected.extend_from_slice(&chunk);
    }
    Ok(collected.freeze())
}

/// The bytes of a text body as UTF-8, by the charset that its content type names. A content type without one says
/// nothing: JSON is UTF-8.
///
/// # Errors
/// 400 `unknown_charset`.
pub fn as_utf8(headers: &HeaderMap, bytes: Bytes) -> Result<Bytes, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let charset = content_type
        .split(';')
        .skip(1)
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .map(|(_, value)| value.trim().trim_matches('"'));
    let Some(charset) = charset else { return Ok(bytes) };
    let encoding = encoding_rs::Encoding::for_label(charset.as_bytes()).ok_or_else(|| {
        ApiError::bad_request("unknown_charset", "The body's charset is not known", format!("{charset:?}"))
    })?;
    if encoding == encoding_rs::UTF_8 {
        return Ok(bytes);
    }
    let (text, ..) = encoding.decode(&bytes);
    Ok(Bytes::from(text.into_owned()))
}

/// Values in a JSON body at most. Each takes some seventy bytes once it is parsed, where it may be two bytes of text.
const MAX_JSON_VALUES: usize = 2_000_000;

/// An upper bound of the values in a JSON text: what begins one outside of strings.
fn count_values(json: &[u8]) -> usize {
    let (mut count, mut in_string, mut escaped) = (1, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// Parses JSON whatever its content type; a byte order mark is an error as any other stray byte is.
///
/// # Errors
/// 400 `invalid_json` with the place of the fault, 413 `json_too_large` for too many values.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // Two values need two bytes at least.
    if bytes.len() > MAX_JSON_VALUES && count_values(bytes) > MAX_JSON_VALUES {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "json_too_large",
            "Request body has too many values",
            format!("the limit is {MAX_JSON_VALUES}"),
        ));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_of_strings() {
        for (json, count) in [("1", 1), ("[1, 2]", 3), (r#"{"a": "[,{\"", "b": []}"#, 4), (r#""\\","#, 2)] {
            assert_eq!(count_values(json.as_bytes()), count, "{json}");
        }
    }

    #[test]
    fn a_body_is_read_by_its_charset() {
        let read = |content_type: &str, bytes: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
            as_utf8(&headers, Bytes::from_static(bytes))
        };
        assert_eq!(read("application/json", b"\xff").unwrap(), &b"\xff"[..]);
        assert_eq!(read("text/plain; charset=\"latin1\"", b"\xe9").unwrap(), "é".as_bytes());
        assert_eq!(read("application/json; Charset=utf-16le", b"1\0").unwrap(), &b"1"[..]);
        assert_eq!(read("application/json; charset=nope", b"1").unwrap_err().body.kind, "unknown_charset");
    }

    #[test]
    fn a_body_of_very_many_values_is_refused() {
        let zeros = format!("[{}0]", "0,".repeat(MAX_JSON_VALUES));
        let refused = parse_json::<serde_json::Value>(zeros.as_bytes()).unwrap_err();
        assert_eq!(
            (refused.status, refused.body.kind.as_str()),
            (StatusCode::PAYLOAD_TOO_LARGE, "json_too_large")
        );
        let long = format!("\"{}\"", ",".repeat(MAX_JSON_VALUES + 1));
        assert!(parse_json::<String>(long.as_bytes()).is_ok());
    }
}
