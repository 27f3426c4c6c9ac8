//! One client must not take the memory or the time of the others.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{finished, get, post, request, submit};
use super::nodes::one;
use super::server::{settings, start, start_with};

/// Sends a chunked body piece by piece, with a pause after each; the status of the answer.
async fn chunked(
    addr: std::net::SocketAddr,
    head: &str,
    pieces: impl Iterator<Item = Vec<u8>>,
    pause: Duration,
) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head =
        format!("{head} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"Content-Type: multipart/form-data; boundary=x\r\n\r\n").await.unwrap();
    for piece in pieces {
        let piece = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece[..], b"\r\n"].concat();
        if stream.write_all(&piece).await.is_err() {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_whose_parts_do_not_begin_is_refused_early() {
    let server = start().await;
    let preamble = std::iter::repeat_n(vec![b'y'; 16 << 10], 64);
    let answer = chunked(server.addr(), "POST /upload/image", preamble, Duration::ZERO).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("65536 bytes"), "{answer}");
    // The head of a part may not go on for ever either.
    let begun = std::iter::once(b"--x\r\nContent-Disposition: form-data; name=\"a".to_vec());
    let endless = begun.chain(std::iter::repeat_n(vec![b'y'; 16 << 10], 64));
    let answer = chunked(server.addr(), "POST /upload/image", endless, Duration::ZERO).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_is_given_up() {
    let mut impatient = settings();
    impatient.limits.body_grace = Duration::from_millis(300);
    let server = start_with(impatient).await;
    for path in ["POST /prompt", "POST /userdata/a.json", "POST /upload/image"] {
        let start = Instant::now();
        let bytes = std::iter::repeat_n(vec![b' '], 100);
        let answer = chunked(server.addr(), path, bytes, Duration::from_millis(20)).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_the_history_holds_nobody_up() {
    let server = start().await;
    let addr = server.addr();
    // More than sockets and pipes between client and server hold.
    let large = json!({"extra_pnginfo": {"workflow": "x".repeat(4 << 20)}});
    for index in 0..8 {
        let body = json!({"prompt": one("TestShow", json!({"value": index})), "extra_data": large});
        let id = post(addr, "/prompt", &body).await.json()["prompt_id"].as_str().unwrap().to_owned();
        finished(addr, &id).await;
    }
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(format!("GET /history HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes()).await.unwrap();
        silent.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let id = submit(addr, one("TestShow", json!({"value": 99})), None).await;
    assert_eq!(finished(addr, &id).await["status"]["status_str"], "success");
    // One that does read gets everything, in order.
    let all = get(addr, "/history").await.json();
    let values: Vec<&Value> =
        all.as_object().unwrap().values().map(|e| &e["outputs"]["1"]["text"][0]).collect();
    assert_eq!(values, ["0", "1", "2", "3", "4", "5", "6", "7", "99"]);
}

#[tokio::test]
async fn a_body_of_very_many_values_is_413() {
    let server = start().await;
    let zeros = format!("{{\"prompt\":[{}0]}}", "0,".repeat(2_000_000));
    let answer = request(server.addr(), "POST", "/prompt", &[], zeros.as_bytes()).await;
    assert_eq!((answer.status, answer.error_type().as_str()), (413, "json_too_large"));
    assert_eq!(get(server.addr(), "/queue").await.status, 200);
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_prompts_again_when_some_have_run() {
    let mut small = settings();
    small.limits.queue_bytes = 4_000;
    let server = start_with(small).await;
    let addr = server.addr();
    let running = submit(addr, one("TestSleep", json!({"ms": 60_000})), None).await;
    while get(addr, "/queue").await.json()["queue_running"] == json!([]) {
        tokio::task::yield_now().await;
    }
    let body = json!({
        "prompt": one("TestShow", json!({"value": 1})),
        "extra_data": {"pad": "x".repeat(1_500)},
    });
    let first = post(addr, "/prompt", &body).await.json()["prompt_id"].as_str().unwrap().to_owned();
    let second = post(addr, "/prompt", &body).await.json()["prompt_id"].as_str().unwrap().to_owned();
    let refused = post(addr, "/prompt", &body).await;
    assert_eq!((refused.status, refused.error_type().as_str()), (503, "queue_full"));
    // Deleting makes room, and so does running.
    assert_eq!(post(addr, "/queue", &json!({"delete": [first]})).await.status, 200);
    assert_eq!(post(addr, "/prompt", &body).await.status, 200);
    assert_eq!(post(addr, "/prompt", &body).await.status, 503);
    post(addr, "/interrupt", &json!({"prompt_id": running})).await;
    finished(addr, &second).await;
    assert_eq!(post(addr, "/prompt", &body).await.status, 200);
}

#[tokio::test]
async fn a_body_is_read_by_the_charset_of_its_content_type() {
    let server = start().await;
    let text = json!({"prompt": one("TestShow", json!({"value": 1}))}).to_string();
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (content_type, status) in [
        ("application/json; charset=utf-16le", 200),
        ("application/json", 400),
        ("application/json; charset=nope", 400),
    ] {
        let answer =
            request(server.addr(), "POST", "/prompt", &[("Content-Type", content_type)], &wide).await;
        assert_eq!(answer.status, status, "{content_type}");
    }
}
