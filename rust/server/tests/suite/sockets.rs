use std::time::Duration;

use futures_util::SinkExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Socket, submit};
use super::nodes::one;
use super::server::{settings, start, start_with};

#[tokio::test]
async fn a_client_without_an_id_gets_one() {
    let server = start().await;
    let mut socket = Socket::try_open(server.addr(), "/api/ws", &[]).await.unwrap();
    let sid = socket.text().await["data"]["sid"].as_str().unwrap().to_owned();
    assert_eq!(sid.len(), 32);
    assert!(sid.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
    submit(server.addr(), one("TestShow", json!({"value": 1})), Some(&sid)).await;
    socket.until_done().await;
}

#[tokio::test]
async fn only_the_first_frame_sets_flags_and_text_that_is_no_object_is_ignored() {
    let server = start().await;
    for ignored in ["not json", "[1]", "5"] {
        let mut socket = Socket::open(server.addr(), "me").await;
        socket.0.send(Message::text(ignored)).await.unwrap();
        socket.send(&json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}})).await;
        socket.until("feature_flags").await;
        assert!(server.state().dispatcher.session("me").unwrap().flags().unwrap().preview_metadata());
    }
    let mut socket = Socket::open(server.addr(), "me").await;
    socket.send(&json!({"type": "other"})).await;
    socket.send(&json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}})).await;
    submit(server.addr(), one("TestShow", json!({"value": 1})), Some("me")).await;
    let frames = socket.until("execution_success").await;
    assert!(frames.iter().all(|frame| frame["type"] != "feature_flags"));
    assert!(!server.state().dispatcher.session("me").unwrap().flags().unwrap().preview_metadata());
}

#[tokio::test]
async fn a20_too_large_messages_close_with_1009() {
    let server = start().await;
    let mut socket = Socket::open(server.addr(), "me").await;
    // The server may close while the rest is still being sent.
    let _ = socket.0.send(Message::text("x".repeat(2 << 20))).await;
    assert_eq!(socket.close_code().await, Some(1009));
    let mut socket = Socket::open(server.addr(), "me").await;
    assert_eq!(socket.text().await["type"], "status");
}

/// Opens a socket by hand, sends raw bytes, and gives the close code that comes back.
async fn close_code_of(addr: std::net::SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut all = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut all)).await;
    let close = all.windows(4).rposition(|window| window[0] == 0x88 && window[1] >= 2)?;
    Some(u16::from_be_bytes([all[close + 2], all[close + 3]]))
}

#[tokio::test]
async fn a20_malformed_frames_close_with_the_code_that_says_why() {
    let server = start().await;
    let addr = server.addr();
    let masked = |head: &[u8], payload: &[u8]| [head, &[0, 0, 0, 0], payload].concat();
    let cases = [
        ("bad UTF-8", masked(&[0x81, 0x82], &[0xc3, 0x28]), 1007),
        ("a gigabyte declared", masked(&[0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0], &[]), 1009),
        ("reserved bits", masked(&[0xf1, 0x81], b"x"), 1002),
        ("reserved opcode", masked(&[0x83, 0x81], b"x"), 1002),
        ("unmasked", vec![0x81, 0x01, b'x'], 1002),
        ("continuation of nothing", masked(&[0x80, 0x81], b"x"), 1002),
        ("a fragmented ping", masked(&[0x09, 0x81], b"x"), 1002),
    ];
    for (name, bytes, code) in cases {
        assert_eq!(close_code_of(addr, &bytes).await, Some(code), "{name}");
    }
    // A flood of fragments adds up to one message that is too large.
    let fragment = masked(&[0x01, 0xfe, 0xff, 0xff], &vec![b'x'; 0xffff]);
    let more = masked(&[0x00, 0xfe, 0xff, 0xff], &vec![b'x'; 0xffff]);
    let flood = [fragment, more.repeat(20)].concat();
    assert_eq!(close_code_of(addr, &flood).await, Some(1009));
}

#[tokio::test]
async fn a20_sockets_are_bounded_in_number() {
    let mut few = settings();
    few.limits.sockets = 3;
    let server = start_with(few).await;
    let addr = server.addr();
    let mut open = Vec::new();
    for index in 0..3 {
        open.push(Socket::open(addr, &format!("c{index}")).await);
    }
    assert_eq!(Socket::try_open(addr, "/ws?clientId=one-more", &[]).await.err(), Some(503));
    drop(open);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(Socket::try_open(addr, "/ws?clientId=one-more", &[]).await.is_ok());
    let long = format!("/ws?clientId={}", "x".repeat(300));
    assert_eq!(Socket::try_open(addr, &long, &[]).await.err(), Some(400));
}

#[tokio::test]
async fn silent_peers_are_pinged_and_closed() {
    let mut quick = settings();
    quick.limits.ping_interval = Duration::from_millis(100);
    let server = start_with(quick).await;
    let addr = server.addr();
    let mut answering = Socket::open(addr, "answers").await;
    // This one never reads, so it never answers a ping.
    let _silent = Socket::open(addr, "silent").await;
    // The grace for flags comes first.
    let _ = tokio::time::timeout(Duration::from_millis(3_500), answering.close_code()).await;
    let connected: Vec<_> =
        server.state().dispatcher.connected().iter().map(|session| session.sid.to_string()).collect();
    assert_eq!(connected, ["answers"]);
}
