//! Answers that are files.
//!
//! What a browser could run is never shown in place: a file is inline only when its name *and* its first bytes say
//! that it is a raster picture, sound or video; everything else is a download, of its type only where that is plain
//! data. See [`present`].

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rushlight_store::folders::media::{MediaKind, kind_of_name, mime_of_name, sniff};
use tokio::io::AsyncReadExt;

use crate::error::ApiError;
use crate::files::blocking;

/// Bytes read and sent at once.
const CHUNK: usize = 128 << 10;

/// Names the charset of JSON answers, as the original does: some clients guess another one where none is named.
/// Files (which have an `ETag`) keep the type that they were given.
pub async fn name_json_charset(mut response: Response) -> Response {
    let headers = response.headers();
    let is_file = headers.contains_key(header::ETAG);
    if !is_file && headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json") {
        let named = HeaderValue::from_static("application/json; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, named);
    }
    response
}

/// How a file is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presentation {
    /// `Content-Type`.
    pub content_type: String,
    /// Whether it is a download.
    pub attachment: bool,
    /// Whether it is an svg in an image element: isolated and never cached.
    pub isolated: bool,
}

impl Presentation {
    /// A download of unknown type.
    pub fn download() -> Self {
        Self { content_type: "application/octet-stream".into(), attachment: true, isolated: false }
    }
}

/// How a file of a name and first bytes is shown to a client.
pub fn present(name: &str, head: &[u8], headers: &HeaderMap) -> Presentation {
    let inline = |content_type: &str| Presentation {
        content_type: content_type.into(),
        attachment: false,
        isolated: false,
    };
    let lower = name.to_ascii_lowercase();
    if lower.ends_with(".svg") || lower.ends_with(".svgz") {
        // An image element runs no scripts and loads nothing; any other place would.
        let in_image = headers.get("sec-fetch-dest").is_some_and(|dest| dest == "image");
        return match in_image && lower.ends_with(".svg") {
            true => Presentation { isolated: true, ..inline("image/svg+xml") },
            false => Presentation::download(),
        };
    }
    let (Some(kind), Some(seen)) = (kind_of_name(name), sniff(head)) else { return present_data(name) };
    let seen_kind = seen.split('/').next().unwrap_or("");
    match kind {
        MediaKind::Image if seen_kind == "image" => inline(seen),
        // Containers hold either; the name says which.
        MediaKind::Audio | MediaKind::Video if seen_kind != "image" => inline(&mime_of_name(name)),
        _ => present_data(name),
    }
}

/// A download whatever it is, of its type only where that is plain data: how a user's own file is shown.
pub fn present_data(name: &str) -> Presentation {
    let content_type = match name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()) {
        Some(extension) if extension == "json" => "application/json",
        Some(extension) if extension == "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    Presentation { content_type: content_type.into(), ..Presentation::download() }
}

/// `Content-Disposition` of a name that may hold anything.
pub fn disposition(name: &str, attachment: bool) -> String {
    // RFC 8187's attr-char.
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'!')
        .remove(b'#')
        .remove(b'$')
        .remove(b'&')
        .remove(b'+')
        .remove(b'-')
        .remove(b'.')
        .remove(b'^')
        .remove(b'_')
        .remove(b'`')
        .remove(b'|')
        .remove(b'~');
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '_' }).collect();
    let quoted = plain.replace('\\', "\\\\").replace('"', "\\\"");
    let mut value = if attachment { "attachment; ".to_owned() } else { String::new() };
    value.push_str(&format!("filename=\"{quoted}\""));
    if plain != name {
        value.push_str(&format!("; filename*=UTF-8''{}", utf8_percent_encode(name, ENCODED)));
    }
    value
}

/// Sends a file: whole, the range asked for, or 304 when the client has it.
///
/// # Errors
/// 500 when it cannot be read, 416 for a range outside it.
pub async fn file(
    headers: &HeaderMap,
    file: File,
    name: &str,
    show: impl FnOnce(&[u8]) -> Presentation + Send + 'static,
) -> Result<Response, ApiError> {
    let opened = blocking(move || Opened::new(file, show).map_err(ApiError::internal)).await?;
    let Opened { mut file, size, etag, modified, presentation } = opened;

    let mut response = HeaderMap::new();
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, &presentation.content_type);
    put(header::CONTENT_DISPOSITION, &disposition(name, presentation.attachment));
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::ACCEPT_RANGES, "bytes");
    put(header::ETAG, &etag);
    if let Some(modified) = &modified {
        put(header::LAST_MODIFIED, modified);
    }
    if presentation.isolated {
        put(header::VARY, "Sec-Fetch-Dest");
        put(header::CACHE_CONTROL, "no-store");
        put(header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; sandbox");
    } else if presentation.attachment {
        put(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    }

    let matches = |name: HeaderName, value: &str| headers.get(name).is_some_and(|given| given == value);
    if matches(header::IF_NONE_MATCH, &etag) && !presentation.isolated {
        return Ok((StatusCode::NOT_MODIFIED, response).into_response());
    }
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    // A range of another version than the client has would make a mixed file.
    let same = headers.get(header::IF_RANGE).is_none_or(|version| {
        *version == etag.as_str() || modified.as_deref().is_some_and(|modified| *version == modified)
    });
    let range = match asked.filter(|_| same).map(|asked| parse_range(asked, size)) {
        Some(Range::Bytes(range)) => Some(range),
        Some(Range::Outside) => {
            if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}")) {
                response.insert(header::CONTENT_RANGE, value);
            }
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, response).into_response());
        }
        Some(Range::Ignored) | None => None,
    };
    let (status, start, length) = match range {
        None => (StatusCode::OK, 0, size),
        Some(range) => {
            let content_range = format!("bytes {}-{}/{size}", range.start(), range.end());
            if let Ok(value) = HeaderValue::from_str(&content_range) {
                response.insert(header::CONTENT_RANGE, value);
            }
            (StatusCode::PARTIAL_CONTENT, *range.start(), range.end() - range.start() + 1)
        }
    };
    response.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if start > 0 {
        file = blocking(move || {
            file.seek(SeekFrom::Start(start)).map_err(ApiError::internal)?;
            Ok(file)
        })
        .await?;
    }
    Ok((status, response, stream(file, length)).into_response())
}

struct Opened {
    file: File,
    size: u64,
    etag: String,
    modified: Option<String>,
    presentation: Presentation,
}

impl Opened {
    fn new(mut file: File, show: impl FnOnce(&[u8]) -> Presentation) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        let mut head = Vec::with_capacity(64);
        (&mut file).take(64).read_to_end(&mut head)?;
        file.seek(SeekFrom::Start(0))?;
        let modified = metadata.modified().ok();
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Ok(Self {
            etag: format!("\"{:x}-{:x}\"", since.as_nanos(), metadata.len()),
            size: metadata.len(),
            modified: modified.map(http_date),
            presentation: show(&head),
            file,
        })
    }
}

fn http_date(time: SystemTime) -> String {
    chrono::DateTime::<chrono::Utc>::from(time).format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The next `length` bytes of a file, a piece at a time.
fn stream(file: File, length: u64) -> Body {
    let start = (tokio::fs::File::from_std(file), length);
    Body::from_stream(futures_util::stream::try_unfold(start, |(mut file, left)| async move {
        if left == 0 {
            return Ok::<_, std::io::Error>(None);
        }
        let mut piece = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        let read = file.read(&mut piece).await?;
        if read == 0 {
            // Cut short meanwhile: breaking off tells the client, an early end would not.
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(read);
        Ok(Some((Bytes::from(piece), (file, left - read as u64))))
    }))
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// Send these bytes.
    Bytes(RangeInclusive<u64>),
    /// Beyond the end: 416.
    Outside,
    /// Not one range of bytes: send everything.
    Ignored,
}

fn parse_range(text: &str, size: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Range::Ignored;
    };
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    match (number(first), number(last)) {
        (Some(first), _) if first >= size && (last.is_empty() || number(last).is_some()) => Range::Outside,
        (Some(first), Some(last)) if last >= first => Range::Bytes(first..=last.min(size - 1)),
        (Some(first), None) if last.is_empty() => Range::Bytes(first..=size - 1),
        (None, Some(0)) if first.is_empty() => Range::Outside,
        (None, Some(_)) if first.is_empty() && size == 0 => Range::Outside,
        (None, Some(length)) if first.is_empty() => Range::Bytes(size.saturating_sub(length)..=size - 1),
        _ => Range::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n....";

    #[test]
    fn only_media_whose_bytes_agree_are_inline() {
        let none = HeaderMap::new();
        let shown = |name: &str, head: &[u8]| present(name, head, &none);
        assert_eq!(shown("a.png", PNG).content_type, "image/png");
        assert_eq!(shown("a.jpg", PNG).content_type, "image/png", "the bytes say what it is");
        assert!(!shown("a.mp4", b"\0\0\0\x18ftypisom").attachment);
        for (name, head) in [
            ("a.png", &b"<html>"[..]),
            ("a.html", PNG),
            ("a.html", b"<html>"),
            ("a.svg", b"<svg/>"),
            ("a.xml", b"<?xml"),
            ("a.js", b"alert(1)"),
            ("a.mhtml", b"MIME-Version"),
            ("a.pdf", b"%PDF-1.7"),
            ("a.mp4", PNG),
            ("a", PNG),
        ] {
            assert_eq!(shown(name, head), Presentation::download(), "{name}");
        }
    }

    #[test]
    fn an_svg_is_inline_only_in_an_image_element() {
        let headers = |dest: &str| {
            HeaderMap::from_iter([(
                HeaderName::from_static("sec-fetch-dest"),
                HeaderValue::from_str(dest).unwrap(),
            )])
        };
        assert!(present("a.svg", b"<svg/>", &headers("image")).isolated);
        for dest in ["document", "iframe", "object", "embed", "empty"] {
            assert_eq!(present("a.svg", b"<svg/>", &headers(dest)), Presentation::download());
        }
    }

    #[test]
    fn names_in_headers_are_quoted() {
        assert_eq!(disposition("a.png", false), "filename=\"a.png\"");
        assert_eq!(disposition("a\"b.png", true), "attachment; filename=\"a\\\"b.png\"");
        assert_eq!(disposition("é.png", false), "filename=\"_.png\"; filename*=UTF-8''%C3%A9.png");
    }

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (text, size, expected) in [
            ("bytes=0-3", 10, Range::Bytes(0..=3)),
            ("bytes=4-", 10, Range::Bytes(4..=9)),
            ("bytes=-3", 10, Range::Bytes(7..=9)),
            ("bytes=-30", 10, Range::Bytes(0..=9)),
            ("bytes=5-99", 10, Range::Bytes(5..=9)),
            ("bytes=10-", 10, Range::Outside),
            ("bytes=0-", 0, Range::Outside),
            ("bytes=-0", 10, Range::Outside),
            ("bytes=-1", 0, Range::Outside),
            ("bytes=3-1", 10, Range::Ignored),
            ("bytes=0-1,3-4", 10, Range::Ignored),
            ("bytes=a-b", 10, Range::Ignored),
            ("lines=1-2", 10, Range::Ignored),
        ] {
            assert_eq!(parse_range(text, size), expected, "{text} of {size}");
        }
    }
}
