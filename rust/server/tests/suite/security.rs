use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Socket, get, raw, request};
use super::nodes::one;
use super::server::{settings, start, start_with};

fn body() -> Vec<u8> {
    json!({"prompt": one("TestShow", json!({"value": 1}))}).to_string().into_bytes()
}

#[tokio::test]
async fn a4_a_null_origin_is_refused_on_posts_and_sockets() {
    let server = start().await;
    let addr = server.addr();
    let answer = request(addr, "POST", "/prompt", &[("Origin", "null")], &body()).await;
    assert_eq!((answer.status, answer.error_type().as_str()), (403, "origin_not_allowed"));
    assert_eq!(Socket::try_open(addr, "/ws", &[("origin", "null")]).await.err(), Some(403));
}

#[tokio::test]
async fn a5_a_rebound_host_is_refused() {
    let server = start().await;
    let headers = [("Host", "evil.example:8188"), ("Origin", "http://evil.example:8188")];
    let answer = request(server.addr(), "GET", "/queue", &headers, b"").await;
    assert_eq!((answer.status, answer.error_type().as_str()), (403, "host_not_allowed"));
    let mut open = settings();
    open.allowed_hosts = vec!["evil.example".into()];
    let server = start_with(open).await;
    assert_eq!(request(server.addr(), "GET", "/queue", &headers, b"").await.status, 200);
}

#[tokio::test]
async fn a6_a_foreign_origin_is_refused_unless_cors_is_enabled() {
    let foreign = [("Origin", "https://example.org")];
    let server = start().await;
    assert_eq!(request(server.addr(), "POST", "/prompt", &foreign, &body()).await.status, 403);
    assert_eq!(
        Socket::try_open(server.addr(), "/ws", &[("origin", "https://example.org")]).await.err(),
        Some(403)
    );
    let mut open = settings();
    open.cors_origin = Some("*".into());
    let server = start_with(open).await;
    let headers = [foreign[0], ("Content-Type", "application/json")];
    let answer = request(server.addr(), "POST", "/prompt", &headers, &body()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("access-control-allow-origin: *"));
    assert_eq!(request(server.addr(), "OPTIONS", "/prompt", &foreign, b"").await.status, 200);
    let mut one_site = settings();
    one_site.cors_origin = Some("https://example.org".into());
    let server = start_with(one_site).await;
    assert_eq!(request(server.addr(), "POST", "/prompt", &headers, &body()).await.status, 200);
    let other = [("Origin", "https://example.com"), headers[1]];
    assert_eq!(request(server.addr(), "POST", "/prompt", &other, &body()).await.status, 403);
}

#[tokio::test]
async fn a7_cross_site_and_form_posts_of_browsers_are_refused_and_scripts_pass() {
    let server = start().await;
    let addr = server.addr();
    let cross = [("Sec-Fetch-Site", "cross-site"), ("Content-Type", "application/json")];
    assert_eq!(request(addr, "POST", "/prompt", &cross, &body()).await.status, 403);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let headers = [("Sec-Fetch-Site", "same-origin"), ("Content-Type", kind)];
        assert_eq!(request(addr, "POST", "/prompt", &headers, &body()).await.status, 415, "{kind}");
        assert_eq!(
            request(addr, "POST", "/prompt", &[("Content-Type", kind)], &body()).await.status,
            200,
            "{kind}"
        );
    }
    let own = format!("http://{addr}");
    let headers =
        [("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin"), ("Content-Type", "application/json")];
    assert_eq!(request(addr, "POST", "/prompt", &headers, &body()).await.status, 200);
}

#[tokio::test]
async fn a8_a_session_is_shared_only_with_its_address_or_its_token() {
    let server = start().await;
    let addr = server.addr();
    let mut first = Socket::open(addr, "me").await;
    first.send(&json!({"type": "feature_flags", "data": {"rushlight_resume": true}})).await;
    let flags = first.until("feature_flags").await.pop().unwrap();
    let token = flags["data"]["rushlight_token"].as_str().unwrap().to_owned();

    // Another address of this machine stands for another machine.
    let elsewhere = |path: String| async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.77:0".parse().unwrap()).unwrap();
        let stream = socket.connect(addr).await.unwrap();
        tokio_tungstenite::client_async(format!("ws://{addr}{path}"), stream).await
    };
    assert!(elsewhere("/ws?clientId=me".into()).await.is_err());
    assert!(elsewhere("/ws?clientId=me&session_token=guess".into()).await.is_err());
    assert_eq!(server.state().dispatcher.connected().len(), 1);

    let mut second = Socket::open(addr, "me").await;
    assert_eq!(first.close_code().await, Some(4009));
    assert_eq!(second.text().await["data"]["sid"], "me");
    let third = elsewhere(format!("/ws?clientId=me&session_token={token}")).await;
    assert!(third.is_ok());
    assert_eq!(second.close_code().await, Some(4009));
}

#[tokio::test]
async fn a15_large_bodies_are_413_and_deep_ones_400() {
    let mut small = settings();
    small.max_body_bytes = 1 << 20;
    let server = start_with(small).await;
    let addr = server.addr();
    let long = json!({"prompt": "x".repeat(2 << 20)}).to_string();
    assert_eq!(request(addr, "POST", "/prompt", &[], long.as_bytes()).await.status, 413);
    let declared = format!(
        "POST /prompt HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(raw(addr, declared.as_bytes()).await.status, 413);
    for open in ["[", "{\"a\":"] {
        assert_eq!(request(addr, "POST", "/prompt", &[], open.repeat(100_000).as_bytes()).await.status, 400);
    }
    assert_eq!(get(addr, "/queue").await.status, 200);
}

#[tokio::test]
async fn a21_slow_heads_and_bodies_are_cut_off() {
    let mut impatient = settings();
    impatient.limits.head_timeout = Duration::from_millis(300);
    impatient.limits.body_idle_timeout = Duration::from_millis(300);
    let server = start_with(impatient).await;
    let addr = server.addr();
    let head = format!("POST /prompt HTTP/1.1\r\nHost: {addr}\r\n");
    let slow_body = format!("{head}Content-Length: 10\r\n\r\n{{");
    for (sent, expected) in [(head.as_str(), ""), (slow_body.as_str(), "408")] {
        let start = Instant::now();
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = [0; 64];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer))
            .await
            .unwrap()
            .unwrap_or(0);
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.contains(expected), "{answer}");
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}

#[tokio::test]
async fn a21_ambiguous_and_oversized_heads_are_refused() {
    let server = start().await;
    let addr = server.addr();
    let smuggled = format!(
        "POST /prompt HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n"
    );
    let answer = raw(addr, smuggled.as_bytes()).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let bomb = format!("GET /queue HTTP/1.1\r\nHost: {addr}\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    assert!(matches!(raw(addr, bomb.as_bytes()).await.status, 0 | 400 | 431));
    assert_eq!(get(addr, "//etc/passwd").await.status, 400);
    let twice =
        format!("GET /queue HTTP/1.1\r\nHost: {addr}\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!(raw(addr, twice.as_bytes()).await.status, 400);
    assert_eq!(get(addr, "/queue").await.status, 200);
}

#[tokio::test]
async fn a25_tokens_open_http_and_sockets() {
    let mut guarded = settings();
    guarded.api_tokens = vec!["secret".into()];
    let server = start_with(guarded).await;
    let addr = server.addr();
    assert_eq!(get(addr, "/queue").await.status, 401);
    assert_eq!(request(addr, "GET", "/queue", &[("Authorization", "Bearer secret")], b"").await.status, 200);
    assert_eq!(Socket::try_open(addr, "/ws", &[]).await.err(), Some(401));
    assert!(Socket::try_open(addr, "/ws?token=secret", &[]).await.is_ok());
}

#[tokio::test]
async fn a25_a_wrong_token_is_answered_late_and_delays_nobody_else() {
    let mut guarded = settings();
    guarded.api_tokens = vec!["secret".into()];
    let server = start_with(guarded).await;
    let addr = server.addr();
    let timed = |token: &'static str| async move {
        let begun = std::time::Instant::now();
        let authorization = format!("Bearer {token}");
        let answer = request(addr, "GET", "/queue", &[("Authorization", &authorization)], b"").await;
        (answer.status, begun.elapsed().as_millis())
    };
    let (first, second, right) = tokio::join!(timed("guess"), timed("other"), timed("secret"));
    assert_eq!((first.0, second.0, right.0), (401, 401, 200));
    assert!(first.1.min(second.1) >= 250 && first.1.max(second.1) >= 500, "{first:?} {second:?}");
    assert!(right.1 < 250, "{right:?}");
}

#[tokio::test]
async fn a_browser_signs_in_once_and_its_cookie_opens_everything() {
    let mut guarded = settings();
    guarded.api_tokens = vec!["secret".into()];
    let server = start_with(guarded).await;
    let addr = server.addr();
    let page = [("Accept", "text/html"), ("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")];
    let asked = request(addr, "GET", "/", &page, b"").await;
    assert_eq!(asked.status, 401);
    assert!(String::from_utf8_lossy(&asked.body).contains("<form"), "a page asks for the token");
    let signed_in = request(addr, "GET", "/?token=secret", &page, b"").await;
    assert_eq!(signed_in.status, 303);
    assert!(signed_in.head.contains("\r\nlocation: /\r\n"), "{}", signed_in.head);
    let line = signed_in.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(line.contains("HttpOnly") && line.contains("SameSite=Strict") && !line.contains("secret"));
    let cookie = line.split(';').next().unwrap();
    for path in ["/", "/queue", "/api/object_info"] {
        assert_eq!(request(addr, "GET", path, &[("Cookie", cookie)], b"").await.status, 200, "{path}");
    }
    assert!(Socket::try_open(addr, "/ws?clientId=a", &[("Cookie", cookie)]).await.is_ok());
    // From a link in another site's page the cookie only counts after a page of this one.
    let link = [
        ("Accept", "text/html"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ];
    let linked = request(addr, "GET", "/?token=secret", &link, b"").await;
    assert_eq!(linked.status, 200);
    assert!(linked.head.contains("set-cookie: ") && String::from_utf8_lossy(&linked.body).contains("url=/"));
}

#[tokio::test]
async fn every_answer_forbids_sniffing() {
    let server = start().await;
    for path in ["/queue", "/nowhere"] {
        assert!(get(server.addr(), path).await.head.contains("x-content-type-options: nosniff"));
    }
}
