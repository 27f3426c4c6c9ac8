use std::time::Duration;

use serde_json::json;

use super::client::{Socket, finished, get, submit};
use super::nodes::one;
use super::server::{settings, start_on, store};

#[tokio::test]
async fn pending_prompts_survive_a_restart_in_order_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_on(settings(), store(folder.path())).await;
    let addr = server.addr();
    let running = submit(addr, one("TestSleep", json!({"ms": 700})), None).await;
    while get(addr, "/queue").await.json()["queue_running"] == json!([]) {}
    let mut ids = Vec::new();
    for value in 0..5 {
        ids.push(submit(addr, one("TestShow", json!({ "value": value })), None).await);
    }
    server.shutdown().await;

    let server = start_on(settings(), store(folder.path())).await;
    let addr = server.addr();
    let number =
        super::client::post(addr, "/prompt", &json!({"prompt": one("TestShow", json!({"value": 9}))})).await;
    assert_eq!(number.json()["number"], 6, "the counter goes on");
    for id in std::iter::once(&running).chain(&ids) {
        assert_eq!(finished(addr, id).await["status"]["status_str"], "success");
    }
    let history = get(addr, "/history").await.json();
    let order: Vec<_> = history.as_object().unwrap().keys().take(6).cloned().collect();
    let expected: Vec<_> = std::iter::once(running).chain(ids).collect();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn a_prompt_that_ends_the_process_twice_is_given_up() {
    use rushlight_store::Store;
    let folder = tempfile::tempdir().unwrap();
    // What two killed processes leave behind: a row that was taken twice.
    {
        let store = store(folder.path());
        let item =
            json!([0, "lost", one("TestShow", json!({"value": 1})), {"client_id": "me"}, ["1"]]).to_string();
        let (answer, answered) = std::sync::mpsc::channel();
        let prompt = rushlight_store::records::NewPrompt {
            number: 0.0,
            counter: 0,
            prompt_id: "lost".into(),
            item: item.into(),
        };
        store.enqueue(prompt, Box::new(move |result| answer.send(result.unwrap()).unwrap()));
        let seq = answered.recv().unwrap();
        store.take(seq).unwrap();
        store.take(seq).unwrap();
    }
    let server = start_on(settings(), store(folder.path())).await;
    let entry = finished(server.addr(), "lost").await;
    assert_eq!(entry["status"]["status_str"], "error");
    assert_eq!(entry["status"]["messages"][0][0], "execution_error");
    let message = entry["status"]["messages"][0][1]["exception_message"].as_str().unwrap();
    assert!(message.contains("ended 2 times"), "{message}");
}

#[tokio::test]
async fn shutdown_puts_the_running_prompt_back_and_says_goodbye() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_on(settings(), store(folder.path())).await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    let id = submit(addr, one("TestSleep", json!({"ms": 60_000})), Some("me")).await;
    socket.until("executing").await;
    let closing = tokio::spawn(async move { socket.close_code().await });
    tokio::time::timeout(Duration::from_secs(5), server.shutdown()).await.unwrap();
    assert_eq!(closing.await.unwrap(), Some(1001));

    let server = start_on(settings(), store(folder.path())).await;
    let queue = get(server.addr(), "/queue").await.json();
    let back =
        queue["queue_running"].as_array().unwrap().iter().chain(queue["queue_pending"].as_array().unwrap());
    assert_eq!(back.map(|item| item[1].clone()).collect::<Vec<_>>(), [json!(id)]);
}

#[tokio::test]
async fn shutdown_sends_what_waits_before_it_says_goodbye() {
    let mut patient = settings();
    patient.limits.shutdown_deadline = Duration::from_secs(60);
    let folder = tempfile::tempdir().unwrap();
    let server = start_on(patient, store(folder.path())).await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    submit(addr, one("TestSleep", json!({"ms": 300})), Some("me")).await;
    socket.until("executing").await;
    let stopping = tokio::spawn(server.shutdown());
    socket.until("execution_success").await;
    socket.until("executing").await;
    assert_eq!(socket.close_code().await, Some(1001));
    stopping.await.unwrap();
}

#[tokio::test]
async fn secrets_are_not_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_on(settings(), store(folder.path())).await;
    let body = json!({
        "prompt": one("TestShow", json!({"value": 1})),
        "extra_data": {"auth_token_comfy_org": "hunter2"},
    });
    let answer = super::client::post(server.addr(), "/prompt", &body).await;
    finished(server.addr(), answer.json()["prompt_id"].as_str().unwrap()).await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
    }
}
