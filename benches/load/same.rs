//! The same requests to this server and to the original.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::Scale;
use crate::http::{Frame, Http, WebSocket};
use crate::prompts::{self, body};
use crate::servers::Running;
use crate::table::Row;

/// Connections that queue prompts at the same time.
const CONNECTIONS: usize = 16;
/// Requests whose latency is measured last at most this long together.
const LATENCY_LIMIT: Duration = Duration::from_secs(8);
/// Between two requests beside a prompt that computes, so that they meet it at different moments.
pub const PAUSE: Duration = Duration::from_millis(3);

/// The value that a share of the others is below.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

/// What can be told of a server that has just started.
pub fn started(server: &Running) -> Vec<Row> {
    vec![
        Row::time("start of the process to answered GET /system_stats", server.start).goal(0.3),
        Row::bytes("resident memory before a model is loaded", server.resident()).goal(60e6),
    ]
}

/// Latencies of reads, and of checking large prompts.
pub async fn latencies(server: &Running, scale: Scale) -> Result<Vec<Row>> {
    let mut http = Http::connect(server.addr).await?;
    let mut rows = Vec::new();
    let size = http.request("GET", "/object_info", "").await?.len();
    let times = sample(&mut http, "/object_info", scale.requests, Duration::ZERO, |_| true).await?;
    rows.push(Row::time("GET /object_info, median", quantile(&times, 0.5)).goal(2e-3).note(format!(
        "{} KiB, {} requests",
        size >> 10,
        times.len()
    )));
    let times = sample(&mut http, "/queue", scale.requests, Duration::ZERO, |_| true).await?;
    rows.push(Row::time("GET /queue of an idle server, p99", quantile(&times, 0.99)));

    for seed in 0..3 {
        http.request("POST", "/prompt", &body(&prompts::computing(seed), None)).await?;
    }
    let busy =
        |answer: &[u8]| !String::from_utf8_lossy(answer).replace(' ', "").contains("\"queue_running\":[]");
    let times = sample(&mut http, "/queue", scale.requests, PAUSE, busy).await?;
    rows.push(
        Row::time("GET /queue while a picture is blurred, p99", quantile(&times, 0.99))
            .note(format!("{} requests while it ran", times.len())),
    );
    prompts::stop_all(&mut http).await?;

    rows.extend(
        refusal(&mut http, "one chain of 5,000 nodes checked and refused", 1, 0)
            .await?
            .map(|row| row.goal(0.05)),
    );
    rows.extend(refusal(&mut http, "50 chains of 100 nodes checked and refused", 50, 100).await?);
    Ok(rows)
}

/// The best of five round trips of a prompt that is looked at in full and refused.
async fn refusal(http: &mut Http, name: &str, chains: usize, seed: usize) -> Result<Option<Row>> {
    let mut best = Duration::MAX;
    for round in 0..5 {
        let body = body(&prompts::refused(5_000, chains, seed + round), None);
        let begun = Instant::now();
        let answer = http.ask("POST", "/prompt", &body).await?;
        best = best.min(begun.elapsed());
        let text = String::from_utf8_lossy(&answer.body);
        let checked = text.contains("filename_prefix") && !text.contains("exception_during");
        if answer.status != 400 || !checked {
            let part = text.find("exception_during").and_then(|at| text.get(at..)).unwrap_or(&text);
            let part: String = part.chars().take(160).collect();
            eprintln!("LEFT OUT: {name}: not checked to the end: {} {part}", answer.status);
            return Ok(None);
        }
    }
    Ok(Some(Row::time(name, best)))
}

/// Times of requests, sorted; only those whose answer counts.
pub async fn sample(
    http: &mut Http,
    path: &str,
    requests: usize,
    pause: Duration,
    counts: impl Fn(&[u8]) -> bool,
) -> Result<Vec<Duration>> {
    let begun = Instant::now();
    let mut times = Vec::with_capacity(requests);
    while times.len() < requests && begun.elapsed() < LATENCY_LIMIT {
        let start = Instant::now();
        let answer = http.request("GET", path, "").await?;
        let took = start.elapsed();
        if counts(&answer) {
            times.push(took);
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    times.sort();
    Ok(times)
}

/// Prompts of two nodes, queued over many connections while they run, with a client that is told of each.
pub async fn throughput(server: &Running, prompts: usize, keep: &str) -> Result<Vec<Row>> {
    let addr = server.addr;
    let mut http = Http::connect(addr).await?;
    let told = tokio::spawn(count_events(addr, prompts));
    // Connected before the first prompt runs.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    submit(addr, prompts, CONNECTIONS, |seed| body(&prompts::trivial(seed), Some("bench"))).await?;
    let queued = begun.elapsed();
    prompts::wait_empty(&mut http).await?;
    let completed = begun.elapsed();
    let (events, took) = told.await??;
    Ok(vec![
        Row::rate(
            format!("prompts accepted, {CONNECTIONS} connections, while they run{keep}"),
            prompts,
            queued,
        ),
        Row::rate(format!("prompts accepted, run and kept, the same{keep}"), prompts, completed),
        Row::rate(format!("events to their client, the same{keep}"), events, took)
            .note(format!("{:.1} events a prompt", events as f64 / prompts as f64)),
    ])
}

/// Queues prompts over several connections at the same time.
pub async fn submit<F>(addr: SocketAddr, prompts: usize, connections: usize, body: F) -> Result<()>
where
    F: Fn(usize) -> String + Clone + Send + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let mut submitters = JoinSet::new();
    for _ in 0..connections {
        let (next, body) = (next.clone(), body.clone());
        submitters.spawn(async move {
            let mut http = Http::connect(addr).await?;
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= prompts {
                    return anyhow::Ok(());
                }
                http.request("POST", "/prompt", &body(seed)).await?;
            }
        });
    }
    while let Some(submitter) = submitters.join_next().await {
        submitter??;
    }
    Ok(())
}

/// Frames until that many prompts have ended, and the time from the first to the last.
async fn count_events(addr: SocketAddr, prompts: usize) -> Result<(usize, Duration)> {
    let mut socket = WebSocket::connect(addr, "bench", None).await?;
    let (mut frames, mut ended, mut begun) = (0, 0, None);
    while ended < prompts {
        match socket.next().await?.context("the socket ended")? {
            Frame::Close(code) => anyhow::bail!("the socket was closed: {code}"),
            Frame::Message(message) => {
                frames += 1;
                begun.get_or_insert_with(Instant::now);
                ended += usize::from(is_event(message, b"execution_success"));
            }
        }
    }
    Ok((frames, begun.map(|begun| begun.elapsed()).unwrap_or_default()))
}

/// Whether a text frame is of that event.
pub fn is_event(message: &[u8], name: &[u8]) -> bool {
    // The type comes first, with or without a space before it.
    let head = message.get(..message.len().min(10 + name.len())).unwrap_or_default();
    head.windows(name.len()).any(|window| window == name)
}

/// 1,000 nodes that run, in chains that are short enough for a server that recurses.
pub async fn many_nodes(server: &Running) -> Result<Vec<Row>> {
    let mut http = Http::connect(server.addr).await?;
    let body = body(&prompts::running(1_000, 10, 7), None);
    let begun = Instant::now();
    let accepted = http.json("POST", "/prompt", &body).await?;
    prompts::wait_empty(&mut http).await?;
    let took = begun.elapsed();
    let id = accepted["prompt_id"].as_str().context("no prompt_id")?;
    let history = http.json("GET", &format!("/history/{id}"), "").await?;
    let status = &history[id]["status"]["status_str"];
    ensure!(status == "success", "the chains ended with {status}");
    Ok(vec![Row::time("10 chains of 100 nodes: accepted, run and kept", took)])
}
