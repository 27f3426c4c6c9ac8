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

/// Numbers that look random and are the same in every run.
struct Generator(u64);

impl Generator {
    /// One of `0..below`.
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

const CLIENTS: u64 = 8;
const CUTS_EACH: u64 = 25;
const PROMPTS_EACH: u64 = 24;

/// A prompt of two outputs; `seed` makes it one that is in no cache.
fn steps_and_show(seed: u64) -> Value {
    json!({
        "1": { "class_type": "TestSteps", "inputs": { "steps": 20, "seed": seed } },
        "2": { "class_type": "TestShow", "inputs": { "value": seed } },
    })
}

/// Follows a session until all its prompts have ended, cutting the socket at random `cuts` times. Gives its own events
/// without what differs from client to client, and the cuts made.
async fn follow(addr: std::net::SocketAddr, client: u64, cuts: u64) -> (Vec<Value>, u64) {
    let name = format!("client-{client}");
    let mut generator = Generator(0x9e37_79b9_7f4a_7c15 ^ (client + 1));
    let mut made = 0;
    let mut last_seq: Option<u64> = None;
    let mut events = Vec::new();
    let mut ended = 0;
    loop {
        let mut socket = Socket::open(addr, &name).await;
        let mut flags = json!({ "rushlight_resume": true });
        if let Some(seq) = last_seq {
            flags["rushlight_last_seq"] = seq.into();
        }
        socket.send(&json!({ "type": "feature_flags", "data": flags })).await;
        let mut frames = if made < cuts { generator.next(14) } else { u64::MAX };
        while frames > 0 && ended < PROMPTS_EACH {
            let mut frame = socket.text().await;
            frames -= 1;
            assert_ne!(frame["type"], "rushlight_resume", "nothing is lost: {frame}");
            if frame["type"] == "feature_flags" && last_seq.is_none() {
                last_seq = frame["data"]["rushlight_seq"].as_u64();
                // Only now is it certain that nothing is missed.
                for index in 0..PROMPTS_EACH {
                    submit(addr, steps_and_show(client * 1_000 + index), Some(&name)).await;
                }
            }
            let Some(seq) = frame["seq"].as_u64() else { continue };
            assert_eq!(Some(seq), last_seq.map(|last| last + 1), "each once and in order: {frame}");
            last_seq = Some(seq);
            // Who else queues prompts meanwhile is not the same for everyone.
            if frame["type"] == "status" {
                continue;
            }
            ended += u64::from(frame["type"] == "executing" && frame["data"]["node"].is_null());
            let data = frame["data"].as_object_mut().unwrap();
            data.remove("prompt_id");
            data.remove("timestamp");
            if let Some(text) = data.get_mut("output").and_then(|output| output.get_mut("text")) {
                let value: u64 = text[0].as_str().unwrap().parse().unwrap();
                *text = (value % 1_000).into();
            }
            events.push(json!([frame["type"], frame["data"]]));
        }
        if ended == PROMPTS_EACH {
            return (events, made);
        }
        drop(socket);
        made += 1;
        tokio::time::sleep(std::time::Duration::from_millis(generator.next(15))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_cut_200_times_at_random_end_with_the_events_of_an_uncut_one() {
    let server = start().await;
    let addr = server.addr();
    let uncut = tokio::spawn(follow(addr, CLIENTS, 0));
    let cut: Vec<_> = (0..CLIENTS).map(|client| tokio::spawn(follow(addr, client, CUTS_EACH))).collect();
    let (expected, _) = uncut.await.unwrap();
    let each = ["execution_start", "execution_cached", "executing", "executed", "executing", "executed"];
    assert_eq!(expected.len() as u64, PROMPTS_EACH * (each.len() as u64 + 2));
    let mut cuts = 0;
    for client in cut {
        let (events, made) = client.await.unwrap();
        assert_eq!(events, expected);
        cuts += made;
    }
    assert_eq!(cuts, CLIENTS * CUTS_EACH);
    println!("{cuts} cuts, {} events a client, none missing, doubled or out of order", expected.len());
}
