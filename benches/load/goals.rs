//! What only this server is asked: rates of a full queue, of one client's events, and reads beside a busy model.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::Scale;
use crate::http::{Frame, Http, WebSocket};
use crate::prompts::{self, bench, body};
use crate::same::{self, is_event, quantile};
use crate::servers::Running;
use crate::table::{Row, Table};

/// Connections that queue prompts at the same time.
const CONNECTIONS: usize = 64;

/// Queues prompts behind one that computes, then lets them run.
pub async fn full_queue(
    server: &Running,
    scale: Scale,
    keep: &str,
    goal: f64,
    table: &mut Table,
) -> Result<()> {
    let addr = server.addr;
    let mut http = Http::connect(addr).await?;
    http.request("POST", "/prompt", &bench("BenchBusy", json!({ "ms": 3_600_000, "seed": 0 }), None)).await?;
    let begun = Instant::now();
    same::submit(addr, scale.prompts, CONNECTIONS, |seed| body(&prompts::trivial(seed), None)).await?;
    let queued = begun.elapsed();
    http.request("POST", "/interrupt", "{}").await?;
    let begun = Instant::now();
    prompts::wait_empty(&mut http).await?;
    let completed = begun.elapsed();
    table.push(
        Row::rate(format!("prompts accepted, {keep}"), scale.prompts, queued)
            .note(format!("{CONNECTIONS} connections, one core computing")),
    );
    table.push(
        Row::rate(format!("prompts completed of a full queue, {keep}"), scale.prompts, completed)
            .goal(goal)
            .note(format!("{} prompts of 2 nodes", scale.prompts)),
    );
    table.push(Row::bytes(format!("resident memory after them, {keep}"), server.resident()));
    Ok(())
}

/// Frames a second to one client that reads as fast as it can, and progress a second that a node may report.
pub async fn one_client(server: &Running, scale: Scale, table: &mut Table) -> Result<()> {
    let mut socket = WebSocket::connect(server.addr, "bench", None).await?;
    let mut http = Http::connect(server.addr).await?;
    let count = scale.prompts * 100;
    let inputs = json!({ "count": count, "seed": 1 });
    let (frames, took) =
        frames_of(&mut http, &mut socket, bench("BenchBurst", inputs, Some("bench"))).await?;
    table.push(
        Row::rate("structural events to one client", frames, took)
            .goal(500_000.0)
            .note(format!("{count} sent, {frames} frames came")),
    );
    let steps = scale.prompts * 50;
    let inputs = json!({ "steps": steps, "seed": 1 });
    let (frames, took) =
        frames_of(&mut http, &mut socket, bench("BenchSteps", inputs, Some("bench"))).await?;
    table.push(
        Row::rate("progress updates taken from a node", steps, took)
            .note(format!("{steps} reported, the {frames} newest states reached the client")),
    );
    Ok(())
}

async fn frames_of(http: &mut Http, socket: &mut WebSocket, body: String) -> Result<(usize, Duration)> {
    let begun = Instant::now();
    http.request("POST", "/prompt", &body).await?;
    let mut frames = 0;
    loop {
        match socket.next().await?.context("the socket ended")? {
            Frame::Close(code) => bail!("the socket was closed: {code}"),
            Frame::Message(message) => {
                frames += 1;
                if is_event(message, b"execution_success") {
                    return Ok((frames, begun.elapsed()));
                }
                if is_event(message, b"execution_error") {
                    bail!("the prompt failed: {}", String::from_utf8_lossy(message));
                }
            }
        }
    }
}

/// Reads while the embedded model uses every core.
pub async fn while_sampling(server: &Running, scale: Scale, table: &mut Table) -> Result<()> {
    let mut http = Http::connect(server.addr).await?;
    http.request("POST", "/prompt", &body(&prompts::sampling(), None)).await?;
    // Loading the model is over, every core computes.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let busy = |answer: &[u8]| !String::from_utf8_lossy(answer).contains("\"queue_running\":[]");
    let times = same::sample(&mut http, "/queue", scale.requests, same::PAUSE, busy).await?;
    table.push(
        Row::time("GET /queue while the embedded model samples, p99", quantile(&times, 0.99))
            .goal(0.02)
            .note(format!("{} requests, median {:.2?}", times.len(), quantile(&times, 0.5))),
    );
    table.push(Row::bytes("resident memory while it samples", server.resident()));
    prompts::stop_all(&mut http).await
}

/// A chain that no server that recurses can check, and every one of its nodes runs.
pub async fn long_chain(server: &Running, table: &mut Table) -> Result<()> {
    let mut http = Http::connect(server.addr).await?;
    let body = body(&prompts::running(5_000, 1, 3), None);
    let begun = Instant::now();
    http.request("POST", "/prompt", &body).await?;
    let accepted = begun.elapsed();
    prompts::wait_empty(&mut http).await?;
    table.push(Row::time("one chain of 5,000 nodes: accepted, durable", accepted));
    table.push(Row::time("one chain of 5,000 nodes: accepted, run and kept", begun.elapsed()));
    Ok(())
}
