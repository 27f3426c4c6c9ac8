use serde_json::{Value, json};

use super::client::{Socket, finished, submit};
use super::nodes::one;
use super::server::start;

/// Connects, negotiates resuming, and gives the server's answer.
async fn resume(addr: std::net::SocketAddr, last_seq: Option<u64>) -> (Socket, Value) {
    let mut socket = Socket::open(addr, "me").await;
    let mut flags = json!({"rushlight_resume": true});
    if let Some(seq) = last_seq {
        flags["rushlight_last_seq"] = seq.into();
    }
    socket.send(&json!({"type": "feature_flags", "data": flags})).await;
    let answer = socket.until("feature_flags").await.pop().unwrap();
    (socket, answer["data"].clone())
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_once_and_in_order() {
    let server = start().await;
    let addr = server.addr();
    let (mut socket, answer) = resume(addr, None).await;
    let mut expected = answer["rushlight_seq"].as_u64().unwrap() + 1;
    let mut seen = Vec::new();
    let mut last_prompt = String::new();
    for round in 0..30u64 {
        last_prompt = submit(addr, one("TestShow", json!({ "value": round })), Some("me")).await;
        // Cut at another place each time.
        for _ in 0..round % 7 {
            let frame = socket.text().await;
            if let Some(seq) = frame["seq"].as_u64() {
                assert_eq!(seq, expected);
                expected += 1;
                seen.push(frame);
            }
        }
        drop(socket);
        submit(addr, one("TestShow", json!({ "value": 1_000 + round })), Some("me")).await;
        socket = resume(addr, Some(expected - 1)).await.0;
    }
    finished(addr, &last_prompt).await;
    submit(addr, one("TestShow", json!({"value": 5_000})), Some("me")).await;
    while seen.iter().filter(|frame| frame["data"]["node"].is_null() && frame["type"] == "executing").count()
        < 61
    {
        let frame = socket.text().await;
        assert_ne!(frame["type"], "rushlight_resume", "nothing is lost: {frame}");
        if let Some(seq) = frame["seq"].as_u64() {
            assert_eq!(seq, expected, "{frame}");
            expected += 1;
            seen.push(frame);
        }
    }
    let successes = seen.iter().filter(|frame| frame["type"] == "execution_success").count();
    assert_eq!(successes, 61);
}

#[tokio::test]
async fn numbers_of_another_process_are_answered_with_what_there_is() {
    let server = start().await;
    let addr = server.addr();
    let (mut socket, _) = resume(addr, Some(4_711)).await;
    let frame = socket.until("rushlight_resume").await.pop().unwrap();
    assert_eq!(frame["data"]["complete"], false);
    submit(addr, one("TestShow", json!({"value": 1})), Some("me")).await;
    assert_eq!(socket.until("execution_start").await.pop().unwrap()["seq"], 1);
}

#[tokio::test]
async fn unflagged_clients_see_no_numbers_and_miss_what_they_missed() {
    let server = start().await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    let id = submit(addr, one("TestShow", json!({"value": 1})), Some("me")).await;
    for frame in socket.until("execution_success").await {
        assert_eq!(frame.as_object().unwrap().len(), 2, "{frame}");
    }
    drop(socket);
    finished(addr, &id).await;
    let id = submit(addr, one("TestShow", json!({"value": 2})), Some("me")).await;
    finished(addr, &id).await;
    let mut socket = Socket::open(addr, "me").await;
    assert_eq!(socket.text().await["data"]["sid"], "me");
    submit(addr, one("TestShow", json!({"value": 3})), Some("me")).await;
    let frames = socket.until("execution_start").await;
    assert!(frames.iter().all(|frame| frame["type"] == "status" || frame["type"] == "execution_start"));
}
