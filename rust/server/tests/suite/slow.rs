use std::time::{Duration, Instant};

use rushlight_protocol::{Audience, Event};
use rushlight_runtime::EventSink;
use serde_json::json;

use super::client::Socket;
use super::server::{settings, start_with};

fn custom(index: u64, size: usize) -> Event {
    Event::Custom {
        name: "test".into(),
        data: std::sync::Arc::new(json!({"i": index, "pad": "x".repeat(size)})),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_client_does_not_delay_others_and_loses_nothing_structural() {
    let server = start_with(settings()).await;
    let addr = server.addr();
    let mut slow = Socket::open(addr, "slow").await;
    let mut healthy = Socket::open(addr, "healthy").await;
    healthy.text().await;
    let mut slowest = Duration::ZERO;
    for index in 0..2_000 {
        let start = Instant::now();
        server.state().dispatcher.send(&Audience::Everyone, custom(index, 2_000));
        let took = start.elapsed();
        assert!(took < Duration::from_millis(50), "send waited {took:?}");
        let frame = healthy.text().await;
        slowest = slowest.max(start.elapsed());
        assert_eq!(frame["data"]["i"], index);
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    slow.text().await;
    for index in 0..2_000 {
        assert_eq!(slow.text().await["data"]["i"], index);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_too_far_behind_is_closed_with_4008() {
    let mut tight = settings();
    tight.limits.backlog_events = 100;
    let server = start_with(tight).await;
    let mut slow = Socket::open(server.addr(), "slow").await;
    for index in 0..2_000 {
        server.state().dispatcher.send(&Audience::Session("slow".into()), custom(index, 50_000));
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(slow.close_code().await, Some(4008));
    let mut again = Socket::open(server.addr(), "slow").await;
    assert_eq!(again.text().await["type"], "status");
}
