use serde_json::{Value, json};

use super::client::{Socket, finished, get, post, request, submit};
use super::nodes::one;
use super::server::{settings, start, start_with};

#[tokio::test]
async fn a_prompt_may_be_sent_with_any_content_type_and_under_api() {
    let server = start().await;
    let addr = server.addr();
    for (path, kind) in
        [("/prompt", ""), ("/api/prompt", "text/plain"), ("/prompt", "application/x-www-form-urlencoded")]
    {
        let body = json!({"prompt": one("TestShow", json!({"value": 1}))}).to_string();
        let answer = request(addr, "POST", path, &[("Content-Type", kind)], body.as_bytes()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["node_errors"], json!({}));
    }
}

#[tokio::test]
async fn broken_bodies_are_typed_400s() {
    let server = start().await;
    let addr = server.addr();
    let prompt = one("TestShow", json!({"value": 1}));
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"{}".to_vec(), "no_prompt"),
        (b"[]".to_vec(), "no_prompt"),
        (b"\"x\"".to_vec(), "no_prompt"),
        (b"{".to_vec(), "invalid_json"),
        (b"\xef\xbb\xbf{}".to_vec(), "invalid_json"),
        (b"{\"prompt\": \"\xff\"}".to_vec(), "invalid_json"),
        (deep.into_bytes(), "invalid_json"),
        (json!({"prompt": prompt, "extra_data": []}).to_string().into_bytes(), "invalid_request"),
        (json!({"prompt": prompt, "number": "x"}).to_string().into_bytes(), "invalid_request"),
        (json!({"prompt": prompt, "number": {}}).to_string().into_bytes(), "invalid_request"),
        (
            json!({"prompt": {"1": {"class_type": "Nope", "inputs": {}}}}).to_string().into_bytes(),
            "invalid_prompt",
        ),
        (json!({"prompt": {}}).to_string().into_bytes(), "prompt_no_outputs"),
    ];
    for (body, kind) in cases {
        let answer = request(addr, "POST", "/prompt", &[], &body).await;
        assert_eq!(answer.status, 400, "{kind}");
        assert_eq!(answer.error_type(), kind);
    }
}

#[tokio::test]
async fn a_client_id_of_any_type_hurts_nobody() {
    let server = start().await;
    let addr = server.addr();
    for client_id in [json!([1]), json!({"a": 1}), json!(5), Value::Null] {
        let body = json!({"prompt": one("TestShow", json!({"value": 1})), "client_id": client_id});
        let answer = post(addr, "/prompt", &body).await;
        assert_eq!(answer.status, 200);
        finished(addr, answer.json()["prompt_id"].as_str().unwrap()).await;
    }
}

#[tokio::test]
async fn numbers_order_the_queue() {
    let server = start().await;
    let addr = server.addr();
    let blocker = submit(addr, one("TestSleep", json!({"ms": 60_000})), None).await;
    while get(addr, "/queue").await.json()["queue_running"] == json!([]) {}
    let prompt = |value: u64| one("TestShow", json!({ "value": value }));
    let mut ids = Vec::new();
    for body in [
        json!({"prompt": prompt(1)}),
        json!({"prompt": prompt(2), "front": true}),
        json!({"prompt": prompt(3), "number": 1.5}),
        json!({"prompt": prompt(4), "number": -100, "front": true, "prompt_id": 77}),
    ] {
        let answer = post(addr, "/prompt", &body).await.json();
        ids.push(answer);
    }
    assert_eq!(ids[0]["number"], json!(1));
    assert_eq!(ids[1]["number"], json!(-2));
    assert_eq!(ids[2]["number"], json!(1.5));
    assert_eq!(ids[3]["number"], json!(-100.0));
    assert_eq!(ids[3]["prompt_id"], json!("77"));
    let queue = get(addr, "/api/queue").await.json();
    let order: Vec<_> =
        queue["queue_pending"].as_array().unwrap().iter().map(|item| item[0].clone()).collect();
    assert_eq!(order, [json!(-100.0), json!(-2), json!(1), json!(1.5)]);
    let item = &queue["queue_pending"][2];
    assert_eq!(item[2], prompt(1));
    assert!(item[3]["create_time"].is_u64());
    assert_eq!(item[4], json!(["1"]));
    assert_eq!(get(addr, "/prompt").await.json(), json!({"exec_info": {"queue_remaining": 5}}));

    post(addr, "/queue", &json!({"delete": ["77", "unknown"]})).await;
    assert_eq!(get(addr, "/prompt").await.json()["exec_info"]["queue_remaining"], 4);
    post(addr, "/queue", &json!({"clear": true})).await;
    assert_eq!(get(addr, "/prompt").await.json()["exec_info"]["queue_remaining"], 1);
    post(addr, &format!("/api/jobs/{blocker}/cancel"), &json!({})).await;
    finished(addr, &blocker).await;
}

#[tokio::test]
async fn history_pages_and_deletes() {
    let server = start().await;
    let addr = server.addr();
    let mut ids = Vec::new();
    for value in 0..4 {
        let id = submit(addr, one("TestShow", json!({ "value": value })), None).await;
        finished(addr, &id).await;
        ids.push(id);
    }
    let keys = |history: Value| history.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(get(addr, "/history").await.json()), ids);
    assert_eq!(keys(get(addr, "/history?max_items=2").await.json()), ids[2..]);
    assert_eq!(keys(get(addr, "/history?max_items=2&offset=1").await.json()), ids[1..3]);
    assert_eq!(get(addr, "/history?max_items=x").await.status, 400);
    assert_eq!(get(addr, "/history/unknown").await.json(), json!({}));
    post(addr, "/history", &json!({"delete": [ids[0]]})).await;
    assert_eq!(keys(get(addr, "/history").await.json()), ids[1..]);
    post(addr, "/history", &json!({"clear": true})).await;
    assert_eq!(get(addr, "/history").await.json(), json!({}));
}

#[tokio::test]
async fn jobs_list_every_state() {
    let server = start().await;
    let addr = server.addr();
    let done = submit(addr, one("TestSteps", json!({"steps": 1})), None).await;
    finished(addr, &done).await;
    let failed = submit(addr, one("TestFail", json!({})), None).await;
    finished(addr, &failed).await;
    let running = submit(addr, one("TestSleep", json!({"ms": 60_000})), None).await;
    while get(addr, "/queue").await.json()["queue_running"] == json!([]) {}
    let body = json!({"prompt": one("TestShow", json!({"value": 1})), "extra_data": {"extra_pnginfo": {"workflow": {"id": "w"}}}});
    let pending = post(addr, "/prompt", &body).await.json()["prompt_id"].as_str().unwrap().to_owned();

    let jobs = get(addr, "/api/jobs?sort_order=asc").await.json();
    assert_eq!(jobs["pagination"], json!({"offset": 0, "limit": null, "total": 4, "has_more": false}));
    let facts: Vec<_> = jobs["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["id"].as_str().unwrap(), job["status"].as_str().unwrap()))
        .collect();
    let expected =
        [(&done, "completed"), (&failed, "failed"), (&running, "in_progress"), (&pending, "pending")];
    assert_eq!(facts, expected.map(|(id, status)| (id.as_str(), status)));
    assert_eq!(jobs["jobs"][0]["outputs_count"], 1);
    assert_eq!(jobs["jobs"][0]["preview_output"]["nodeId"], "1");
    assert_eq!(jobs["jobs"][1]["execution_error"]["exception_type"], "ValueError");

    let page = get(addr, "/api/jobs?status=completed,failed&limit=1&sort_order=asc").await.json();
    assert_eq!(page["pagination"], json!({"offset": 0, "limit": 1, "total": 2, "has_more": true}));
    assert_eq!(get(addr, "/api/jobs?workflow_id=w").await.json()["jobs"][0]["id"], json!(pending));
    for bad in ["status=nope", "sort_by=x", "sort_order=x", "limit=x", "limit=0"] {
        assert_eq!(get(addr, &format!("/api/jobs?{bad}")).await.status, 400, "{bad}");
    }
    let detail = get(addr, &format!("/api/jobs/{done}")).await.json();
    assert_eq!(detail["execution_status"]["status_str"], "success");
    assert_eq!(detail["workflow"]["prompt"], one("TestSteps", json!({"steps": 1})));
    let missing = get(addr, "/api/jobs/nope").await;
    assert_eq!((missing.status, missing.json()), (404, json!({"error": "Job not found"})));

    let slowest_first = get(addr, "/api/jobs?sort_by=execution_duration&sort_order=desc").await.json();
    let ended: Vec<_> = slowest_first["jobs"].as_array().unwrap().iter().filter_map(duration).collect();
    assert!(ended.len() == 2 && ended.is_sorted_by(|a, b| a >= b), "{ended:?}");
    let page = get(addr, "/api/jobs?sort_order=asc&offset=1&limit=2").await.json();
    assert_eq!(page["pagination"], json!({"offset": 1, "limit": 2, "total": 4, "has_more": true}));
    assert_eq!((&page["jobs"][0]["id"], &page["jobs"][1]["id"]), (&json!(failed), &json!(running)));
    assert_eq!(post(addr, "/api/jobs/nope/cancel", &json!({})).await.status, 404);

    let cancelled = post(addr, "/api/jobs/cancel", &json!({"ids": [running, pending, "nope"]})).await;
    assert_eq!(cancelled.status, 200);
    finished(addr, &running).await;
    assert_eq!(get(addr, "/api/jobs?status=cancelled").await.json()["jobs"][0]["id"], json!(running));
    // By the older route it has failed, as the original has it.
    let interrupted = submit(addr, one("TestSleep", json!({"ms": 60_000, "seed": 1})), None).await;
    while get(addr, "/queue").await.json()["queue_running"] == json!([]) {}
    post(addr, "/interrupt", &json!({})).await;
    finished(addr, &interrupted).await;
    assert_eq!(get(addr, &format!("/api/jobs/{interrupted}")).await.json()["status"], "failed");
    assert_eq!(get(addr, &format!("/api/jobs/{pending}")).await.status, 404);
}

/// How long a job ran, in ms, once it has ended.
fn duration(job: &Value) -> Option<i64> {
    let time = |key: &str| job[key].as_i64();
    Some(time("execution_end_time")? - time("execution_start_time")?)
}

#[tokio::test]
async fn object_info_lists_classes_and_unknown_ones_are_empty() {
    let server = start().await;
    let addr = server.addr();
    let all = get(addr, "/object_info").await.json();
    assert_eq!(all["TestShow"]["output_node"], true);
    assert_eq!(get(addr, "/api/object_info/TestShow").await.json()["TestShow"], all["TestShow"]);
    assert_eq!(get(addr, "/object_info/Nope").await.json(), json!({}));
}

#[tokio::test]
async fn secrets_are_never_shown() {
    let server = start().await;
    let addr = server.addr();
    let blocker = submit(addr, one("TestSleep", json!({"ms": 300})), None).await;
    let body = json!({
        "prompt": one("TestShow", json!({"value": 1})),
        "extra_data": {"auth_token_comfy_org": "hunter2", "api_key_comfy_org": "hunter2", "api_key_other": "hunter2", "kept": 1},
    });
    let id = post(addr, "/prompt", &body).await.json()["prompt_id"].as_str().unwrap().to_owned();
    let queue = String::from_utf8(get(addr, "/queue").await.body).unwrap();
    assert!(queue.contains("\"kept\":1") && !queue.contains("hunter2"));
    finished(addr, &blocker).await;
    finished(addr, &id).await;
    // A node that got the token and fails: the error tells its inputs.
    let mut socket = Socket::open(addr, "me").await;
    let body = json!({
        "prompt": one("TestToken", json!({})), "client_id": "me", "extra_data": {"auth_token_comfy_org": "hunter2"},
    });
    let failed = post(addr, "/prompt", &body).await.json()["prompt_id"].as_str().unwrap().to_owned();
    let told = format!("{:?}", socket.until_done().await);
    assert!(told.contains("no access for [redacted]") && !told.contains("hunter2"), "{told}");
    finished(addr, &failed).await;
    for path in ["/history", "/api/jobs", &format!("/api/jobs/{id}"), &format!("/api/jobs/{failed}")] {
        assert!(!String::from_utf8(get(addr, path).await.body).unwrap().contains("hunter2"), "{path}");
    }
}

#[tokio::test]
async fn queue_answers_while_the_worker_computes_and_large_graphs_are_checked() {
    let server = start().await;
    let addr = server.addr();
    let mut nodes = serde_json::Map::new();
    nodes.insert("0".into(), json!({"class_type": "TestNumber", "inputs": {"value": 1}}));
    for index in 1..5_000 {
        let link = json!([(index - 1).to_string(), 0]);
        nodes.insert(index.to_string(), json!({"class_type": "TestNumber", "inputs": {"value": link}}));
    }
    nodes.insert("end".into(), json!({"class_type": "TestShow", "inputs": {"value": ["4999", 0]}}));
    let id = submit(addr, Value::Object(nodes), None).await;
    let mut slowest = std::time::Duration::ZERO;
    while get(addr, &format!("/history/{id}")).await.json() == json!({}) {
        let start = std::time::Instant::now();
        get(addr, "/prompt").await;
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < std::time::Duration::from_millis(500), "{slowest:?}");
    assert_eq!(finished(addr, &id).await["status"]["status_str"], "success");
}

#[tokio::test]
async fn free_memory_forgets_what_was_computed() {
    let server = start().await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    let mut cached = async || {
        submit(addr, one("TestSteps", json!({"steps": 1})), Some("me")).await;
        let frames = socket.until("execution_cached").await;
        socket.until_done().await;
        frames.last().unwrap()["data"]["nodes"] == json!(["1"])
    };
    assert!(!cached().await);
    assert!(cached().await);
    post(addr, "/free", &json!({"unload_models": true})).await;
    assert!(cached().await, "models alone keep what was computed");
    post(addr, "/free", &json!({"free_memory": 1})).await;
    assert!(!cached().await);
}

#[tokio::test]
async fn a_refused_prompt_uses_up_a_number_and_front_goes_by_truth() {
    let server = start().await;
    let addr = server.addr();
    let number = async |body: Value| post(addr, "/prompt", &body).await.json()["number"].clone();
    let prompt = one("TestShow", json!({"value": 1}));
    assert_eq!(number(json!({"prompt": prompt})).await, json!(0));
    assert_eq!(number(json!({"prompt": {"1": {"class_type": "Nope", "inputs": {}}}})).await, Value::Null);
    assert_eq!(number(json!({"prompt": prompt, "front": "x"})).await, json!(-2));
    assert_eq!(
        number(json!({"prompt": prompt, "front": 0, "partial_execution_targets": null})).await,
        json!(3)
    );
    let id = post(addr, "/prompt", &json!({"prompt": prompt, "prompt_id": null})).await.json();
    assert_eq!(id["prompt_id"], "None");
}

#[tokio::test]
async fn free_is_answered_while_something_runs() {
    let server = start().await;
    let addr = server.addr();
    let mut socket = Socket::open(addr, "me").await;
    submit(addr, one("TestSleep", json!({"ms": 100})), Some("me")).await;
    let answer = post(addr, "/free", &json!({"unload_models": true, "free_memory": true})).await;
    assert_eq!(answer.status, 200);
    socket.until_done().await;
}

#[tokio::test]
async fn answers_are_compressed_when_asked_for() {
    let mut compressing = settings();
    compressing.compress = true;
    let server = start_with(compressing).await;
    let gzip = [("Accept-Encoding", "gzip")];
    let answer = request(server.addr(), "GET", "/object_info", &gzip, b"").await;
    assert!(answer.head.contains("content-encoding: gzip"), "{}", answer.head);
    let plain = request(start().await.addr(), "GET", "/object_info", &gzip, b"").await;
    assert!(!plain.head.contains("content-encoding"), "{}", plain.head);
}
