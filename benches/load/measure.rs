//! One server, few clients: prompts a second, events a second, latencies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::child::Child;
use crate::http::Http;
use crate::{Row, Scale};

/// Connections that queue prompts at the same time.
const SUBMITTERS: usize = 64;

/// The body of `POST /prompt` for a prompt of one node.
pub fn body(class: &str, inputs: Value, client_id: Option<&str>) -> String {
    let mut body = json!({ "prompt": { "1": { "class_type": class, "inputs": inputs } } });
    if let Some(id) = client_id {
        body["client_id"] = id.into();
    }
    body.to_string()
}

/// The value that a share of the others is below.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

async fn wait_empty(addr: SocketAddr) -> Result<()> {
    let mut http = Http::connect(addr).await?;
    loop {
        let answer: Value = serde_json::from_slice(&http.request("GET", "/prompt", "").await?)?;
        if answer["exec_info"]["queue_remaining"] == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Queues prompts behind one that waits, then lets them run.
pub async fn throughput(server: &Child, name: &str, scale: Scale, rows: &mut Vec<Row>) -> Result<()> {
    let addr = server.addr;
    let mut http = Http::connect(addr).await?;
    http.request("POST", "/prompt", &body("Busy", json!({ "ms": 3_600_000 }), None)).await?;
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut submitters = JoinSet::new();
    for _ in 0..SUBMITTERS {
        let next = next.clone();
        submitters.spawn(async move {
            let mut http = Http::connect(addr).await?;
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= scale.prompts {
                    return anyhow::Ok(());
                }
                http.request("POST", "/prompt", &body("Nothing", json!({ "seed": seed }), None)).await?;
            }
        });
    }
    while let Some(submitter) = submitters.join_next().await {
        submitter??;
    }
    let queued = start.elapsed();
    http.request("POST", "/interrupt", "{}").await?;
    let start = Instant::now();
    wait_empty(addr).await?;
    let completed = start.elapsed();
    let rate = |took: Duration| scale.prompts as f64 / took.as_secs_f64();
    rows.push(Row(
        format!("prompts queued a second, {name} ({SUBMITTERS} connections, one core computing)"),
        format!("{:.0}", rate(queued)),
    ));
    rows.push(Row(format!("trivial prompts completed a second, {name}"), format!("{:.0}", rate(completed))));
    rows.push(Row(
        format!("resident memory after {} prompts, {name}", scale.prompts),
        format!("{} MiB", server.resident() >> 20),
    ));
    Ok(())
}

/// How long reads take while a core computes.
pub async fn latencies(server: &Child, scale: Scale, rows: &mut Vec<Row>) -> Result<()> {
    let mut http = Http::connect(server.addr).await?;
    let mut latency = async |name: &str, path: &str, rows: &mut Vec<Row>| -> Result<()> {
        let size = http.request("GET", path, "").await?.len();
        let mut times = Vec::with_capacity(scale.requests);
        for _ in 0..scale.requests {
            let start = Instant::now();
            http.request("GET", path, "").await?;
            times.push(start.elapsed());
        }
        times.sort();
        let (median, p99) = (quantile(&times, 0.5), quantile(&times, 0.99));
        rows.push(Row(
            format!("GET {path} {name} ({size} bytes): median, p99"),
            format!("{median:.2?}, {p99:.2?}"),
        ));
        Ok(())
    };
    latency("idle", "/object_info", rows).await?;
    latency("idle", "/queue", rows).await?;
    let mut other = Http::connect(server.addr).await?;
    other.request("POST", "/prompt", &body("Busy", json!({ "ms": 3_600_000 }), None)).await?;
    latency("while computing", "/object_info", rows).await?;
    latency("while computing", "/queue", rows).await?;
    other.request("POST", "/interrupt", "{}").await?;
    wait_empty(server.addr).await
}

/// Frames a second to one client that reads as fast as it can.
pub async fn one_client(server: &Child, scale: Scale, rows: &mut Vec<Row>) -> Result<()> {
    let url = format!("ws://{}/ws?clientId=bench", server.addr);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
    let mut http = Http::connect(server.addr).await?;
    let prompts = scale.prompts / 10;
    let start = Instant::now();
    let submitting = tokio::spawn(async move {
        for seed in 0..prompts {
            http.request("POST", "/prompt", &body("Nothing", json!({ "seed": seed }), Some("bench"))).await?;
        }
        anyhow::Ok(())
    });
    let (mut frames, mut ended) = (0usize, 0);
    while ended < prompts {
        let message = socket.next().await.context("the socket ended")??;
        frames += 1;
        if let Message::Text(text) = message
            && text.contains("\"execution_success\"")
        {
            ended += 1;
        }
    }
    let took = start.elapsed();
    submitting.await??;
    rows.push(Row(
        format!("events a second to one client ({prompts} prompts queued by one connection)"),
        format!("{:.0}", frames as f64 / took.as_secs_f64()),
    ));
    let steps = scale.prompts * 10;
    let mut http = Http::connect(server.addr).await?;
    let start = Instant::now();
    http.request("POST", "/prompt", &body("Steps", json!({ "steps": steps }), Some("bench"))).await?;
    let mut frames = 0usize;
    loop {
        let Message::Text(text) = socket.next().await.context("the socket ended")?? else { continue };
        frames += 1;
        if text.contains("\"execution_success\"") {
            break;
        }
    }
    let took = start.elapsed();
    rows.push(Row(
        format!("progress updates a second taken from a node ({steps}; {frames} frames reached the client)"),
        format!("{:.0}", steps as f64 / took.as_secs_f64()),
    ));
    Ok(())
}
