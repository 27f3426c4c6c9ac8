//! What goes over the wire, as it is: every byte but ids, times and what the machine is.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::client::{Socket, finished, get, post, request, submit};
use super::nodes::one;
use super::server::{settings, start, start_with};

/// Replaces a prompt's id, and every number that is a time in ms.
fn fixed(text: &str, id: &str) -> String {
    let text = text.replace(id, "ID");
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        out.push_str(if digits.len() == 13 { "TIME" } else { &digits });
        digits.clear();
        out.push(c);
    }
    out.trim_end().to_owned()
}

/// Text frames as they are, binary ones as id and the beginning of the rest.
fn shown(message: &Message) -> String {
    match message {
        Message::Text(text) => text.to_string(),
        Message::Binary(bytes) => {
            let bytes: String = bytes.iter().take(200).map(|b| b.escape_ascii().to_string()).collect();
            format!("binary {bytes}")
        }
        other => format!("{other:?}"),
    }
}

/// The first frame of each kind of a run, and the last.
async fn frames(addr: SocketAddr, flags: Option<Value>, prompt: Value) -> String {
    let name = format!("session-{}", flags.is_some());
    let mut socket = Socket::open(addr, &name).await;
    let mut lines = vec![socket.text().await.to_string()];
    if let Some(flags) = flags {
        socket.send(&json!({ "type": "feature_flags", "data": flags })).await;
        lines.push(socket.until("feature_flags").await.pop().unwrap().to_string());
    }
    let id = submit(addr, prompt, Some(&name)).await;
    let messages = socket.until_done().await;
    let mut seen = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let text = shown(message);
        let kind = match message {
            Message::Text(_) => text.split('"').nth(3).unwrap_or_default().to_owned(),
            _ => text.chars().take(24).collect(),
        };
        if !seen.contains(&kind) || index + 1 == messages.len() {
            seen.push(kind);
            lines.push(fixed(&text, &id));
        }
    }
    lines.join("\n")
}

#[tokio::test]
async fn frames_have_their_wire_form() {
    let server = start().await;
    let addr = server.addr();
    let steps = |seed: u64| one("TestSteps", json!({ "steps": 1, "seed": seed }));
    insta::assert_snapshot!("frames_without_flags", frames(addr, None, steps(1)).await);
    let flags = json!({ "supports_preview_metadata": true, "supports_progress_text_metadata": true });
    insta::assert_snapshot!("frames_with_flags", frames(addr, Some(flags), steps(2)).await);
    insta::assert_snapshot!("frames_of_a_failure", frames(addr, None, one("TestFail", json!({}))).await);
}

#[tokio::test]
async fn queue_history_and_jobs_have_their_wire_form() {
    let server = start().await;
    let addr = server.addr();
    let body = json!({
        "prompt": one("TestSteps", json!({ "steps": 1 })),
        "client_id": "me",
        "prompt_id": "first",
        "extra_data": { "extra_pnginfo": { "workflow": { "id": "w" } } },
    });
    let mut lines = vec![String::from_utf8(post(addr, "/prompt", &body).await.body).unwrap()];
    finished(addr, "first").await;
    let failing = json!({ "prompt": one("TestFail", json!({})), "prompt_id": "second" });
    post(addr, "/prompt", &failing).await;
    finished(addr, "second").await;
    let sleep = json!({ "prompt": one("TestSleep", json!({ "ms": 60_000 })), "prompt_id": "third" });
    post(addr, "/prompt", &sleep).await;
    while get(addr, "/queue").await.json()["queue_running"] == json!([]) {}
    for path in
        ["/prompt", "/queue", "/history/first", "/history/second", "/api/jobs/first", "/api/jobs/second"]
    {
        lines.push(format!("{path} {}", String::from_utf8(get(addr, path).await.body).unwrap()));
    }
    lines.push(format!("/api/jobs {}", get(addr, "/api/jobs?sort_order=asc&limit=2").await.json()));
    insta::assert_snapshot!(fixed(&lines.join("\n"), "no id"));
    post(addr, "/interrupt", &json!({})).await;
}

/// Method, path, headers and body.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8]);

#[tokio::test]
async fn refusals_have_their_wire_form() {
    let mut guarded = settings();
    guarded.max_body_bytes = 1 << 20;
    let server = start_with(guarded).await;
    let addr = server.addr();
    let unknown = json!({ "prompt": { "5": { "class_type": "Nope", "inputs": {} } } }).to_string();
    let bad = json!({ "prompt": { "1": { "class_type": "TestShow", "inputs": { "value": 9_999_999 } } } })
        .to_string();
    let null = [("Origin", "null")];
    let form = [("Origin", "http://HOST"), ("Content-Type", "text/plain")];
    let cases: [Case<'_>; 10] = [
        ("POST", "/prompt", &[], b"{}"),
        ("POST", "/prompt", &[], b"{"),
        ("POST", "/prompt", &[], unknown.as_bytes()),
        ("POST", "/prompt", &[], bad.as_bytes()),
        ("POST", "/prompt", &null, b"{}"),
        ("POST", "/prompt", &form, b"{}"),
        ("GET", "/view", &[], b""),
        ("GET", "/view?filename=..%2Fa.png", &[], b""),
        ("GET", "/history?max_items=x", &[], b""),
        ("GET", "/api/jobs?status=x", &[], b""),
    ];
    let host = addr.to_string();
    let mut lines = Vec::new();
    for (method, path, headers, body) in cases {
        let headers: Vec<(&str, String)> =
            headers.iter().map(|(name, value)| (*name, value.replace("HOST", &host))).collect();
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = request(addr, method, path, &headers, body).await;
        lines.push(format!("{method} {path} {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

/// Names and types in place of values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(items) => items.iter().take(1).map(shape).collect(),
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
    }
}

#[tokio::test]
async fn system_stats_and_features_have_their_shape() {
    let server = start().await;
    let addr = server.addr();
    let mut stats = shape(&get(addr, "/system_stats").await.json());
    // What is installed beside the tests is not of the server.
    for name in ["required_frontend_version", "installed_templates_version", "required_templates_version"] {
        assert!(stats["system"].get(name).is_some(), "{name}");
        stats["system"][name] = "string or null".into();
    }
    stats["system"]["argv"] = "list".into();
    let features = get(addr, "/features").await.json();
    assert_eq!(features, get(addr, "/api/features").await.json());
    insta::assert_json_snapshot!(json!([stats, features]));
}
