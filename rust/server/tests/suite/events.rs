use serde_json::json;

use super::client::{Socket, finished, get, kinds, submit};
use super::nodes::one;
use super::server::start;

#[tokio::test]
async fn a_run_sends_its_events_in_order() {
    let server = start().await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    let first = socket.text().await;
    assert_eq!(
        first,
        json!({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "me"}})
    );
    let id = submit(addr, one("TestShow", json!({"value": 3})), Some("me")).await;
    let messages = socket.until_done().await;
    assert_eq!(
        kinds(&messages),
        [
            "status",
            "status",
            "execution_start",
            "execution_cached",
            "progress_state",
            "executing",
            "executed",
            "progress_state",
            "execution_success",
            "status",
            "executing"
        ]
    );
    let entry = finished(addr, &id).await;
    assert_eq!(entry["status"]["status_str"], "success");
    assert_eq!(entry["outputs"]["1"]["text"], json!(["3"]));
    assert_eq!(entry["prompt"][1], json!(id));
}

#[tokio::test]
async fn history_is_complete_before_success_is_told() {
    let server = start().await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    for seed in 0..20 {
        let id = submit(addr, one("TestShow", json!({"value": seed})), Some("me")).await;
        socket.until("execution_success").await;
        assert!(get(addr, &format!("/history/{id}")).await.json()[&id]["status"]["completed"] == true);
        socket.until_done().await;
    }
}

#[tokio::test]
async fn a_failed_node_ends_its_prompt_only() {
    let server = start().await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    for (seed, class) in ["TestFail", "TestPanic"].into_iter().cycle().take(20).enumerate() {
        let id = submit(addr, one(class, json!({"seed": seed})), Some("me")).await;
        let messages = kinds(&socket.until_done().await);
        assert!(
            messages.ends_with(&["execution_error".into(), "status".into(), "executing".into()]),
            "{messages:?}"
        );
        assert!(!messages.contains(&"execution_success".into()));
        assert_eq!(finished(addr, &id).await["status"]["status_str"], "error");
    }
    let id = submit(addr, one("TestShow", json!({"value": 1})), None).await;
    assert_eq!(finished(addr, &id).await["status"]["status_str"], "success");
}

#[tokio::test]
async fn a_prompt_without_client_sends_status_only() {
    let server = start().await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    let id = submit(addr, one("TestShow", json!({"value": 1})), None).await;
    finished(addr, &id).await;
    let own = submit(addr, one("TestShow", json!({"value": 2})), Some("me")).await;
    let frames = socket.until("execution_start").await;
    assert!(frames[..frames.len() - 1].iter().all(|frame| frame["type"] == "status"));
    assert_eq!(frames.last().unwrap()["data"]["prompt_id"], json!(own));
}

#[tokio::test]
async fn previews_take_the_form_that_the_client_asked_for() {
    let server = start().await;
    let addr = server.addr();
    for (flags, preview, other) in [
        (json!({}), "binary:1", "binary:4"),
        (json!({"supports_preview_metadata": true}), "binary:4", "binary:1"),
    ] {
        let mut socket = Socket::open(addr, "me").await;
        socket.send(&json!({"type": "feature_flags", "data": flags})).await;
        let answer = socket.until("feature_flags").await.pop().unwrap();
        assert_eq!(answer["data"], get(addr, "/features").await.json());
        // Another seed each time, so that nothing is cached.
        let seed = preview.len() + flags.as_object().map_or(0, serde_json::Map::len);
        submit(addr, one("TestSteps", json!({"steps": 3, "seed": seed})), Some("me")).await;
        let kinds = kinds(&socket.until_done().await);
        // Newer previews take the place of older ones that have not been sent; the last always comes.
        let previews = kinds.iter().filter(|kind| *kind == preview).count();
        assert!((1..=3).contains(&previews) && kinds.iter().any(|kind| kind == "progress"), "{kinds:?}");
        assert!(!kinds.iter().any(|kind| kind == other), "{kinds:?}");
        assert!(kinds.iter().any(|kind| kind == "binary:3"), "{kinds:?}");
    }
}

#[tokio::test]
async fn interrupting_ends_the_run() {
    let server = start().await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    let mut other = Socket::open(addr, "other").await;
    let id = submit(addr, one("TestSleep", json!({"ms": 60_000})), Some("me")).await;
    socket.until("executing").await;
    super::client::post(addr, "/interrupt", &json!({"prompt_id": "another"})).await;
    assert_eq!(get(addr, "/queue").await.json()["queue_running"][0][1], json!(id));
    super::client::post(addr, "/interrupt", &json!({"prompt_id": id})).await;
    let messages = kinds(&socket.until_done().await);
    assert!(
        messages.ends_with(&["execution_interrupted".into(), "status".into(), "executing".into()]),
        "{messages:?}"
    );
    // Whose prompt it was is told of its end, the others of the queue.
    assert_eq!(other.until("status").await.len(), 1);
    let entry = finished(addr, &id).await;
    assert_eq!(entry["status"]["completed"], false);
    assert_eq!(entry["status"]["status_str"], "error");
}

#[tokio::test]
async fn an_interrupted_prompt_without_client_is_told_to_everyone() {
    let server = start().await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    let id = submit(addr, one("TestSleep", json!({"ms": 60_000})), None).await;
    while get(addr, "/queue").await.json()["queue_running"] == json!([]) {}
    super::client::post(addr, "/interrupt", &json!({"prompt_id": id})).await;
    let frames = socket.until("execution_interrupted").await;
    assert_eq!(frames.last().unwrap()["data"]["prompt_id"], json!(id));
    assert!(frames[..frames.len() - 1].iter().all(|frame| frame["type"] == "status"), "{frames:?}");
}

#[tokio::test]
async fn deleting_and_clearing_tell_how_many_are_left() {
    let server = start().await;
    let addr = server.addr();
    submit(addr, one("TestSleep", json!({"ms": 60_000})), None).await;
    while get(addr, "/queue").await.json()["queue_running"] == json!([]) {}
    let mut ids = Vec::new();
    for value in 0..3 {
        ids.push(submit(addr, one("TestShow", json!({ "value": value })), None).await);
    }
    let mut socket = Socket::open(addr, "me").await;
    // The status of a prompt that was sent before the socket was open may come late, and tells what is left by then.
    let mut until_left = async |count: u64| {
        let wanted = json!({"queue_remaining": count});
        while socket.until("status").await.pop().unwrap()["data"]["status"]["exec_info"] != wanted {}
    };
    until_left(4).await;
    super::client::post(addr, "/queue", &json!({"delete": [ids[1]]})).await;
    until_left(3).await;
    super::client::post(addr, "/queue", &json!({"clear": true})).await;
    until_left(1).await;
    super::client::post(addr, "/queue", &json!({"clear": true})).await;
    // Clearing an empty queue is told, too.
    until_left(1).await;
}

#[tokio::test]
async fn a_reconnecting_client_is_told_which_node_runs() {
    let server = start().await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    let id = submit(addr, one("TestSleep", json!({"ms": 60_000})), Some("me")).await;
    socket.until("executing").await;
    drop(socket);
    let mut socket = Socket::open(addr, "me").await;
    assert_eq!(socket.text().await["type"], "status");
    assert_eq!(socket.text().await, json!({"type": "executing", "data": {"node": "1"}}));
    super::client::post(addr, "/interrupt", &json!({})).await;
    socket.until_done().await;
    finished(addr, &id).await;
    let mut socket = Socket::open(addr, "me").await;
    assert_eq!(socket.text().await["type"], "status");
    submit(addr, one("TestShow", json!({"value": 2})), Some("me")).await;
    assert_eq!(socket.text().await["type"], "status", "no executing once the run is over");
}
