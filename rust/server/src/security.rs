//! Who may ask at all: checks on every request before any route sees it.
//!
//! A browser can be made to send requests by any page its user visits, so what a browser tells of itself (`Origin`,
//! `Sec-Fetch-*`) must fit, and `Host` must be a name that cannot have been rebound to this machine. Programs send
//! none of these headers and pass with any content type.
//!
//! | check | answer |
//! |---|---|
//! | path begins with `//`, both `Transfer-Encoding` and `Content-Length` | 400 |
//! | `Host` missing or repeated | 400 |
//! | `Host` is neither a loopback name, an address, nor an allowed name | 403 |
//! | `Origin` is `null` or another site (unless CORS is enabled for it) | 403 |
//! | `Sec-Fetch-Site: cross-site` (but for following a link), `same-site` on anything that changes state | 403 |
//! | a browser sends a form or plain text where JSON is expected | 415 |
//! | no or a wrong token where tokens are configured | 401, see [`token`] |

pub mod token;

use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use self::token::Access;
use crate::error::ApiError;
use crate::settings::ServerSettings;
use crate::state::AppState;

/// Both ends of the connection that a request came over; every request carries it as an extension.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// The client.
    pub peer: SocketAddr,
    /// The address it reached.
    pub local: SocketAddr,
    /// Whether it is HTTPS.
    pub encrypted: bool,
}

/// Resources that take JSON only; a browser's simple content type there is a forged form.
const JSON_ONLY: &[&str] = &["prompt", "queue", "interrupt", "free", "history", "jobs"];

/// The middleware: refuses, or passes on and adds the headers that every answer has.
pub async fn guard(State(state): State<AppState>, request: Request<Body>, next: Next) -> Response {
    let settings = &state.settings;
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match check(settings, &request) {
        Err(refused) => {
            tracing::warn!(
                method = %request.method(),
                path = %request.uri().path().escape_debug(),
                reason = %refused.body.kind,
                "request refused"
            );
            refused.into_response()
        }
        Ok(()) if request.method() == Method::OPTIONS && settings.cors_origin.is_some() => {
            StatusCode::OK.into_response()
        }
        Ok(()) => match token::access(&settings.api_tokens, &request) {
            Access::Granted => next.run(request).await,
            Access::SignIn(cookie) => token::sign_in(&request, &cookie),
            Access::Missing => token::ask(&request),
            Access::Wrong => {
                let peer = request.extensions().get::<Connection>().map(|connection| connection.peer.ip());
                tracing::warn!(?peer, "a wrong token was sent");
                let answer = token::ask(&request);
                state.guesses.answer(answer).await
            }
        },
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(allowed) = &settings.cors_origin {
        add_cors_headers(headers, allowed, origin.as_ref());
    }
    response
}

fn add_cors_headers(headers: &mut HeaderMap, allowed: &str, origin: Option<&HeaderValue>) {
    let Ok(value) = HeaderValue::from_str(allowed) else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST, GET, DELETE, PUT, OPTIONS, PATCH"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Content-Type, Authorization"),
    );
    // Credentials are never shared with `*`, so that a page of any site cannot use the user's cookies.
    if allowed != "*" && origin.is_some_and(|origin| origin == allowed) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

fn check(settings: &ServerSettings, request: &Request<Body>) -> Result<(), ApiError> {
    let headers = request.headers();
    check_form(request)?;
    let host = host_of(request)?;
    check_host(settings, &host)?;
    let same_origin = check_origin(settings, headers, &host)?;
    check_fetch_metadata(settings, request)?;
    check_content_type(request, same_origin)
}

fn check_form(request: &Request<Body>) -> Result<(), ApiError> {
    let headers = request.headers();
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        return Err(ApiError::bad_request(
            "ambiguous_length",
            "Transfer-Encoding and Content-Length exclude each other",
            "",
        ));
    }
    if request.uri().path().starts_with("//") {
        return Err(ApiError::bad_request("bad_path", "A path must not begin with //", ""));
    }
    Ok(())
}

/// Name and port of a `Host` or `Origin`; the name in lower case, without brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    name: String,
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &str) -> Option<Self> {
        let authority: axum::http::uri::Authority = text.parse().ok()?;
        // User names have no place in either header.
        if authority.as_str().contains('@') {
            return None;
        }
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then(|| Self { name, port: authority.port_u16() })
    }

    fn ip(&self) -> Option<IpAddr> {
        self.name.parse().ok()
    }
}

fn host_of(request: &Request<Body>) -> Result<Authority, ApiError> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let bad = |details: &str| ApiError::bad_request("bad_host", "The Host header is not usable", details);
    let first = hosts.next().ok_or_else(|| bad("missing"))?;
    if hosts.next().is_some() {
        return Err(bad("given more than once"));
    }
    first.to_str().ok().and_then(Authority::parse).ok_or_else(|| bad("not a host name"))
}

fn check_host(settings: &ServerSettings, host: &Authority) -> Result<(), ApiError> {
    let allowed = match host.ip() {
        // An address cannot be rebound by a name server. Containers and NAT put addresses in front of the server
        // that it cannot know, so once it listens beyond loopback any address will do.
        Some(ip) => ip.is_loopback() || !settings.loopback_only(),
        None => {
            host.name == "localhost"
                || host.name.ends_with(".localhost")
                || settings.allowed_hosts.iter().any(|name| name.eq_ignore_ascii_case(&host.name))
        }
    };
    if allowed {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "host_not_allowed",
        "This server does not answer to that name",
        format!("Host {:?}: start the server with --allowed-host to allow it", host.name),
    ))
}

/// Whether the request proves to come from a page of this server.
fn check_origin(settings: &ServerSettings, headers: &HeaderMap, host: &Authority) -> Result<bool, ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin"));
    };
    let text = origin.to_str().unwrap_or_default();
    if let Some(allowed) = &settings.cors_origin
        && (allowed == "*" || allowed.eq_ignore_ascii_case(text))
    {
        return Ok(false);
    }
    if same_site(text, host) {
        return Ok(true);
    }
    Err(ApiError::forbidden(
        "origin_not_allowed",
        "Requests from other sites are refused",
        format!("Origin {text:?}: see --enable-cors-header"),
    ))
}

fn same_site(origin: &str, host: &Authority) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let Some(origin) = Authority::parse(rest) else { return false };
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    // Behind a proxy that ends TLS `Host` has no port and the scheme is only known from the origin.
    origin.name == host.name && origin.port.unwrap_or(default) == host.port.unwrap_or(default)
}

fn check_fetch_metadata(settings: &ServerSettings, request: &Request<Body>) -> Result<(), ApiError> {
    let headers = request.headers();
    let Some(site) = headers.get("sec-fetch-site") else { return Ok(()) };
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let socket = headers.contains_key(header::UPGRADE);
    let link = *request.method() == Method::GET
        && !socket
        && headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
        && headers.get("sec-fetch-dest").is_some_and(|dest| dest == "document");
    let refused = match site.to_str().unwrap_or_default() {
        "cross-site" => !link,
        "same-site" => !safe || socket,
        _ => false,
    };
    if !refused || settings.cors_origin.is_some() {
        return Ok(());
    }
    Err(ApiError::forbidden("cross_site", "Requests from other sites are refused", "Sec-Fetch-Site"))
}

fn check_content_type(request: &Request<Body>, same_origin: bool) -> Result<(), ApiError> {
    let headers = request.headers();
    let from_browser = headers.contains_key(header::ORIGIN)
        || headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"));
    if *request.method() != Method::POST || !from_browser {
        return Ok(());
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let simple = kind == "text/plain" || kind == "application/x-www-form-urlencoded";
    let multipart = kind == "multipart/form-data";
    let path = request.uri().path();
    let resource = path.strip_prefix("/api").unwrap_or(path).trim_start_matches('/').split('/').next();
    let json_only = resource.is_some_and(|resource| JSON_ONLY.contains(&resource));
    // Frontends save settings and user data as plain text from their own pages; everything else is JSON.
    if (json_only && (simple || multipart)) || (simple && !same_origin) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content_type_not_allowed",
            "Browsers must send JSON here",
            format!("Content-Type {kind:?}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
        let mut builder = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Body::empty()).unwrap()
    }

    fn status(settings: &ServerSettings, request: &Request<Body>) -> u16 {
        check(settings, request).map_or_else(|refused| refused.status.as_u16(), |()| 200)
    }

    #[test]
    fn scripts_without_browser_headers_pass_with_any_content_type() {
        let settings = ServerSettings::default();
        for kind in ["", "text/plain", "application/x-www-form-urlencoded", "application/json"] {
            let headers = [("host", "127.0.0.1:8188"), ("content-type", kind)];
            assert_eq!(status(&settings, &request("POST", "/prompt", &headers)), 200, "{kind}");
        }
    }

    #[test]
    fn foreign_and_null_origins_are_refused() {
        let settings = ServerSettings::default();
        for origin in
            ["null", "http://evil.example", "http://127.0.0.1:9999", "https://127.0.0.1:8188.evil.example"]
        {
            for method in ["GET", "POST"] {
                let headers = [("host", "127.0.0.1:8188"), ("origin", origin)];
                assert_eq!(status(&settings, &request(method, "/prompt", &headers)), 403, "{origin}");
            }
        }
        let headers = [("host", "127.0.0.1:8188"), ("origin", "http://127.0.0.1:8188")];
        assert_eq!(status(&settings, &request("POST", "/prompt", &headers)), 200);
    }

    #[test]
    fn rebound_names_are_refused_until_allowed() {
        let mut settings = ServerSettings::default();
        let headers = [("host", "evil.example:8188"), ("origin", "http://evil.example:8188")];
        assert_eq!(status(&settings, &request("GET", "/queue", &headers)), 403);
        settings.allowed_hosts.push("evil.example".into());
        assert_eq!(status(&settings, &request("GET", "/queue", &headers)), 200);
    }

    #[test]
    fn other_addresses_are_names_only_when_listening_beyond_loopback() {
        let mut settings = ServerSettings::default();
        let headers = [("host", "192.168.1.5:8188")];
        assert_eq!(status(&settings, &request("GET", "/queue", &headers)), 403);
        settings.listen = vec!["0.0.0.0:8188".parse().unwrap()];
        assert_eq!(status(&settings, &request("GET", "/queue", &headers)), 200);
    }

    #[test]
    fn cross_site_fetches_are_refused_and_links_are_followed() {
        let settings = ServerSettings::default();
        let host = ("host", "localhost:8188");
        let cross = ("sec-fetch-site", "cross-site");
        assert_eq!(status(&settings, &request("POST", "/prompt", &[host, cross])), 403);
        assert_eq!(status(&settings, &request("GET", "/view", &[host, cross])), 403);
        let link = [host, cross, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(status(&settings, &request("GET", "/", &link)), 200);
        assert_eq!(status(&settings, &request("POST", "/prompt", &link)), 403);
    }

    #[test]
    fn browser_forms_are_refused_where_json_is_expected() {
        let settings = ServerSettings::default();
        let own = [
            ("host", "localhost:8188"),
            ("origin", "http://localhost:8188"),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "text/plain;charset=UTF-8"),
        ];
        assert_eq!(status(&settings, &request("POST", "/api/prompt", &own)), 415);
        assert_eq!(status(&settings, &request("POST", "/api/userdata/x.json", &own)), 200);
        let unproven =
            [("host", "localhost:8188"), ("sec-fetch-mode", "no-cors"), ("content-type", "text/plain")];
        assert_eq!(status(&settings, &request("POST", "/settings", &unproven)), 415);
    }

    #[test]
    fn malformed_requests_are_400() {
        let settings = ServerSettings::default();
        assert_eq!(status(&settings, &request("GET", "/queue", &[])), 400);
        assert_eq!(status(&settings, &request("GET", "/queue", &[("host", "a b")])), 400);
        let both = [("host", "localhost"), ("transfer-encoding", "chunked"), ("content-length", "3")];
        assert_eq!(status(&settings, &request("POST", "/prompt", &both)), 400);
    }
}
