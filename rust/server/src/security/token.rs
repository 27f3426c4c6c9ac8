//! Tokens: what a request shows of itself where `--api-token-file` asks for one.
//!
//! Programs send `Authorization: Bearer TOKEN`, or `?token=TOKEN` where headers cannot be set. A frontend can do
//! neither with the pictures and scripts of its page, so a browser that opens `/?token=TOKEN` is given a cookie and sent
//! on to the same page without the token; a browser that has neither is asked for the token by a page. The cookie is
//! `HttpOnly` and `SameSite=Strict`, and holds a value derived from the token, not the token.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use tokio::sync::{Mutex, Semaphore};

use super::Connection;
use crate::error::ApiError;

/// The page that asks for a token.
const LOGIN: &str = include_str!("../../page/login.html");

/// Sends a browser on; unlike a redirect, the page that does so counts as a page of this server, so that a link in
/// another site's page leads here too (the browser withholds `SameSite=Strict` cookies from such redirects).
const ONWARD: &str =
    "<!doctype html><meta http-equiv=\"refresh\" content=\"0; url=/\"><title>Rushlight</title>";

/// Seconds that a cookie lasts: a year.
const COOKIE_SECONDS: u32 = 31_536_000;

/// Time that the answer to a wrong token takes; they are given one after another.
const GUESS_DELAY: Duration = Duration::from_millis(250);

/// Wrong tokens that wait for their answer at once; more are refused unheard.
const WAITING_GUESSES: usize = 32;

/// What a request shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// A token or a cookie that is right, or none is needed.
    Granted,
    /// A browser opens a page with the right token: it gets this cookie instead.
    SignIn(String),
    /// Nothing.
    Missing,
    /// A token or a cookie that is none of ours.
    Wrong,
}

/// What a request shows of itself.
pub fn access(tokens: &[String], request: &Request<Body>) -> Access {
    // The parts of the server's own page are the same for everybody.
    let public = matches!(
        request.uri().path(),
        "/rushlight/" | "/rushlight/page.js" | "/rushlight/page.css" | "/rushlight/icon.svg"
    );
    if tokens.is_empty() || (public && !opens_page(request)) {
        return Access::Granted;
    }
    let headers = request.headers();
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let query = request.uri().query().unwrap_or("").split('&').find_map(|pair| pair.strip_prefix("token="));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let shown: Vec<String> = match (&bearer, query) {
        (Some(bearer), _) => vec![bearer.clone()],
        // A form writes a space as `+`; elsewhere a `+` is itself.
        (None, Some(query)) => vec![decoded(query), decoded(&query.replace('+', " "))],
        (None, None) => Vec::new(),
    };
    if !shown.is_empty() {
        return match find(tokens, &shown) {
            Some(token) if bearer.is_none() && opens_page(request) => {
                Access::SignIn(cookie_line(request, token))
            }
            Some(_) => Access::Granted,
            None => Access::Wrong,
        };
    }
    let name = cookie_name(request);
    let cookies = cookies(headers, &name);
    let values: Vec<String> = tokens.iter().map(|token| cookie_value(token)).collect();
    let known = find(&values, &cookies).is_some();
    match known {
        true => Access::Granted,
        false if cookies.is_empty() => Access::Missing,
        false => Access::Wrong,
    }
}

/// The known text that one of those shown is. All are compared in full, so that the time tells nothing.
fn find<'a>(known: &'a [String], shown: &[impl AsRef<str>]) -> Option<&'a String> {
    let mut found = None;
    for known in known {
        for shown in shown {
            if same_bytes(known, shown.as_ref()) {
                found = Some(known);
            }
        }
    }
    found
}

/// Whether a browser opens one of the pages at this server's root.
fn opens_page(request: &Request<Body>) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    *request.method() == Method::GET
        && matches!(request.uri().path(), "/" | "/rushlight/")
        && accepts.is_some_and(|kinds| kinds.contains("text/html"))
}

/// The cookie's name. Cookies don't keep ports apart, servers on one machine do.
fn cookie_name(request: &Request<Body>) -> String {
    let port = request.extensions().get::<Connection>().map_or(0, |connection| connection.local.port());
    format!("rushlight_token_{port}")
}

/// What the cookie holds for a token: who reads it cannot send it as a token.
fn cookie_value(token: &str) -> String {
    let key = blake3::derive_key("rushlight-server 2025 browser cookie", token.as_bytes());
    blake3::Hash::from_bytes(key).to_hex().to_string()
}

fn cookie_line(request: &Request<Body>, token: &str) -> String {
    let (name, value) = (cookie_name(request), cookie_value(token));
    let encrypted = request.extensions().get::<Connection>().is_some_and(|connection| connection.encrypted);
    // A cookie of an HTTPS server is never sent in the clear.
    let secure = if encrypted { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Strict{secure}")
}

fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';'));
    pairs.filter_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('=')).collect()
}

/// Gives the cookie and sends the browser to the page without the token, so that it stays in no history.
pub fn sign_in(request: &Request<Body>, cookie: &str) -> Response {
    let path = request.uri().path().to_owned();
    let site = request.headers().get("sec-fetch-site").and_then(|site| site.to_str().ok());
    let mut response = match site {
        Some("cross-site" | "same-site") => page(StatusCode::OK, ONWARD),
        _ => (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response(),
    };
    let headers = response.headers_mut();
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// 401: a page with a field for browsers that open a page, JSON for everything else.
pub fn ask(request: &Request<Body>) -> Response {
    match opens_page(request) {
        true => page(StatusCode::UNAUTHORIZED, LOGIN),
        false => {
            let how = "send Authorization: Bearer TOKEN, or ?token= where headers cannot be set";
            let message = "This server asks for a token";
            ApiError::new(StatusCode::UNAUTHORIZED, "token_required", message, how).into_response()
        }
    }
}

fn page(status: StatusCode, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; \
             form-action 'self'",
        ),
    ];
    (status, headers, text).into_response()
}

/// Makes guessing slow: wrong tokens are answered one after another, each after a delay. Right ones never wait.
#[derive(Debug)]
pub struct Guesses {
    delay: Duration,
    turn: Mutex<()>,
    waiting: Semaphore,
}

impl Default for Guesses {
    fn default() -> Self {
        Self::new(GUESS_DELAY, WAITING_GUESSES)
    }
}

impl Guesses {
    /// Answers take `delay` each, and `waiting` of them may wait.
    pub fn new(delay: Duration, waiting: usize) -> Self {
        Self { delay, turn: Mutex::new(()), waiting: Semaphore::new(waiting) }
    }

    /// Gives the answer to a wrong token back when it is its turn; 429 at once when too many wait.
    pub async fn answer(&self, answer: Response) -> Response {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            let message = "Too many wrong tokens are waiting for their answer";
            return ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_wrong_tokens", message, "")
                .into_response();
        };
        let _turn = self.turn.lock().await;
        tokio::time::sleep(self.delay).await;
        answer
    }
}

/// Compares in a time that depends on the lengths only.
pub fn same_bytes(a: &str, b: &str) -> bool {
    let differing = a.bytes().zip(b.bytes()).fold(0u8, |acc, (x, y)| acc | (x ^ y));
    a.len() == b.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml");

    fn request(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
        let mut builder = Request::builder().uri(path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Body::empty()).unwrap()
    }

    fn shown(path: &str, headers: &[(&str, &str)]) -> Access {
        access(&["other".into(), "se cret".into()], &request(path, headers))
    }

    #[test]
    fn tokens_are_asked_for_when_configured() {
        assert_eq!(access(&[], &request("/queue", &[])), Access::Granted);
        assert_eq!(shown("/queue", &[]), Access::Missing);
        assert_eq!(shown("/queue", &[("authorization", "Bearer se cre")]), Access::Wrong);
        assert_eq!(shown("/queue", &[("authorization", "Bearer se cret")]), Access::Granted);
        assert_eq!(shown("/ws?clientId=a&token=other", &[]), Access::Granted);
        assert_eq!(shown("/ws?clientId=a&token=se%20cret", &[]), Access::Granted);
        assert_eq!(shown("/ws?token=se+cret", &[]), Access::Granted);
        assert_eq!(access(&["a+b".into()], &request("/?token=a+b", &[])), Access::Granted);
        assert_eq!(shown("/queue?token=", &[]), Access::Wrong);
    }

    #[test]
    fn a_browser_that_opens_a_page_with_the_token_gets_a_cookie_that_opens_everything() {
        let Access::SignIn(line) = shown("/?token=other", &[HTML]) else { panic!("no cookie") };
        assert!(line.contains("HttpOnly; SameSite=Strict") && !line.contains("other"), "{line}");
        let cookie = line.split(';').next().unwrap();
        assert_eq!(shown("/ws", &[("cookie", cookie)]), Access::Granted);
        assert_eq!(shown("/queue", &[("cookie", &format!("a=b; {cookie}; c=d"))]), Access::Granted);
        let (name, value) = cookie.split_once('=').unwrap();
        assert_eq!(shown("/queue", &[("cookie", &format!("{name}={}", &value[1..]))]), Access::Wrong);
        assert_eq!(shown("/queue", &[("authorization", &format!("Bearer {value}"))]), Access::Wrong);
    }

    #[test]
    fn only_browsers_that_open_a_page_are_asked_by_a_page() {
        let kind = |path: &str, headers: &[(&str, &str)]| {
            let answer = ask(&request(path, headers));
            assert_eq!(answer.status(), 401);
            answer.headers()["content-type"].to_str().unwrap().to_owned()
        };
        assert_eq!(kind("/", &[HTML]), "text/html; charset=utf-8");
        assert_eq!(kind("/", &[]), "application/json");
        assert_eq!(kind("/queue", &[HTML]), "application/json");
    }

    #[tokio::test]
    async fn a25_wrong_tokens_are_answered_one_after_another_and_not_all_are_heard() {
        let guesses = Guesses::new(Duration::from_millis(10), 5);
        let begun = std::time::Instant::now();
        let wrong = || guesses.answer(StatusCode::UNAUTHORIZED.into_response());
        let answers = futures_util::future::join_all((0..8).map(|_| wrong())).await;
        let unheard = answers.iter().filter(|answer| answer.status() == 429).count();
        assert_eq!(unheard, 3);
        assert!(begun.elapsed() >= Duration::from_millis(50));
    }
}
