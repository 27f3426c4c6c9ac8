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
    for (flags, preview, text) in
        [(json!({}), "binary:1", 12), (json!({"supports_preview_metadata": true}), "binary:4", 12)]
    {
        let mut socket = Socket::open(addr, "me").await;
        socket.send(&json!({"type": "feature_flags", "data": flags})).await;
        let answer = socket.until("feature_flags").await.pop().unwrap();
        assert_eq!(answer["data"], get(addr, "/features").await.json());
        submit(addr, one("TestSteps", json!({"steps": 3, "seed": text + preview.len()})), Some("me")).await;
        submit(addr, one("TestShow", json!({"value": 1})), Some("me")).await;
        let kinds = kinds(&socket.until_done().await);
        let other = if preview == "binary:1" { "binary:4" } else { "binary:1" };
        if kinds.iter().any(|kind| kind == "progress") {
            assert_eq!(kinds.iter().filter(|kind| *kind == preview).count(), 3, "{kinds:?}");
            assert!(!kinds.iter().any(|kind| kind == other));
            assert!(kinds.iter().any(|kind| kind == "binary:3"));
        }
        server
            .state()
            .queue
            .free(rushlight_server::queue::FreeRequest { unload_models: true, free_memory: true }, 1);
        socket.until_done().await;
    }
}

#[tokio::test]
async fn interrupting_ends_the_run_for_everyone() {
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
    other.until("execution_interrupted").await;
    let entry = finished(addr, &id).await;
    assert_eq!(entry["status"]["completed"], false);
    assert_eq!(entry["status"]["status_str"], "error");
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
