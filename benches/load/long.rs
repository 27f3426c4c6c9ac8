//! Long runs: what a server holds on to after very many prompts, failing ones, and open sockets.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::http::{Frame, Http, WebSocket};
use crate::prompts::{self, bench, body};
use crate::same::{self, is_event, quantile};
use crate::servers::{Keep, Running};

/// Prompts that fail.
const FAILING: usize = 1_000;
/// Sockets that are open at the same time.
const SOCKETS: usize = 1_000;

/// Prints each run as it goes.
pub async fn run(prompts: usize) -> Result<()> {
    many_prompts(prompts).await?;
    failing_prompts().await?;
    open_sockets().await
}

/// The history is bounded (10,000 prompts), so memory grows until it is full and stays from then on.
async fn many_prompts(prompts: usize) -> Result<()> {
    let server = Running::bench(Keep::Memory).await?;
    let mut http = Http::connect(server.addr).await?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("{prompts} prompts in memory; at the start {:.1} MiB", mib(server.resident()));
    let step = (prompts / 10).max(1);
    let mut half = 0;
    for round in 0..10 {
        let begun = Instant::now();
        same::submit(server.addr, step, 16, move |seed| body(&prompts::trivial(round * step + seed), None))
            .await?;
        prompts::wait_empty(&mut http).await?;
        let resident = server.resident();
        if round == 4 {
            half = resident;
        }
        println!(
            "  {:>9} prompts  {:>7.1} MiB  {:>6.0} a second",
            (round + 1) * step,
            mib(resident),
            step as f64 / begun.elapsed().as_secs_f64()
        );
    }
    let grown = mib(server.resident()) - mib(half);
    println!("  the second half added {grown:+.1} MiB");
    Ok(())
}

/// Prompts whose node fails: each tells its client, none takes anything down.
async fn failing_prompts() -> Result<()> {
    let server = Running::bench(Keep::Memory).await?;
    let mut http = Http::connect(server.addr).await?;
    let mut socket = WebSocket::connect(server.addr, "bench", None).await?;
    let before = server.resident();
    let begun = Instant::now();
    same::submit(server.addr, FAILING, 16, |seed| bench("BenchFail", json!({ "seed": seed }), Some("bench")))
        .await?;
    let mut told = 0;
    while told < FAILING {
        match socket.next().await?.context("the socket ended")? {
            Frame::Close(code) => anyhow::bail!("the socket was closed: {code}"),
            Frame::Message(message) => told += usize::from(is_event(message, b"execution_error")),
        }
    }
    let took = begun.elapsed();
    let accepted = http.json("POST", "/prompt", &body(&prompts::trivial(1), None)).await?;
    prompts::wait_empty(&mut http).await?;
    let id = accepted["prompt_id"].as_str().context("no prompt_id")?;
    let history = http.json("GET", &format!("/history/{id}"), "").await?;
    ensure!(history[id]["status"]["status_str"] == "success", "the prompt after them did not run: {history}");
    println!(
        "{FAILING} prompts whose node fails: {told} execution_error events in {took:.2?}, {:+.1} MiB, the next prompt ran",
        (server.resident() as f64 - before as f64) / f64::from(1 << 20)
    );
    Ok(())
}

/// Sockets that are open and idle: what each costs, and how long it takes until each was told of a prompt.
async fn open_sockets() -> Result<()> {
    let server = Running::bench(Keep::Memory).await?;
    let mut http = Http::connect(server.addr).await?;
    let before = server.resident();
    let begun = Instant::now();
    let mut sockets = Vec::with_capacity(SOCKETS);
    for index in 0..SOCKETS {
        sockets.push(WebSocket::connect(server.addr, &format!("c{index}"), None).await?);
    }
    let opened = begun.elapsed();
    for socket in &mut sockets {
        // The first frame of a connection.
        socket.next().await?.context("the socket ended")?;
    }
    let each = (server.resident().saturating_sub(before)) / SOCKETS as u64;
    let times = same::sample(&mut http, "/queue", 500, Duration::ZERO, |_| true).await?;
    let begun = Instant::now();
    http.request("POST", "/prompt", &body(&prompts::trivial(1), None)).await?;
    let mut last = Duration::ZERO;
    for socket in &mut sockets {
        loop {
            match socket.next().await?.context("the socket ended")? {
                Frame::Close(code) => anyhow::bail!("a socket was closed: {code}"),
                Frame::Message(message) if is_event(message, b"status") => break,
                Frame::Message(_) => {}
            }
        }
        last = begun.elapsed();
    }
    println!(
        "{SOCKETS} open sockets: opened in {opened:.2?}, {:.1} KiB each, GET /queue p99 {:.2?}, a status reached the last \
         after {last:.2?}",
        each as f64 / 1_024.0,
        quantile(&times, 0.99)
    );
    Ok(())
}
