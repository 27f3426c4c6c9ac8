//! Many clients, some of which read slowly or never: what the others notice.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::child::{Child, now_us};
use crate::http::Http;
use crate::measure::{body, quantile};
use crate::{Row, Scale};

/// Microseconds between two events: 40 a second, times the clients.
const EVERY_US: u64 = 25_000;

/// What healthy clients saw.
struct Seen {
    p99: Duration,
    received: usize,
    expected: usize,
    memory: u64,
}

/// Measures with and without bad clients.
pub async fn run(scale: Scale, rows: &mut Vec<Row>) -> Result<()> {
    let bad = scale.clients / 20;
    let healthy = scale.clients - 2 * bad;
    let alone = measure(scale, healthy, 0).await?;
    let among = measure(scale, healthy, bad).await?;
    let clients = scale.clients;
    let events = scale.events;
    rows.push(Row(
        format!("{healthy} clients x {events} events: p99 delay"),
        format!("{:.2?}, {}/{} events", alone.p99, alone.received, alone.expected),
    ));
    rows.push(Row(
        format!("the same among {clients}, {bad} never reading, {bad} at 1 KB/s: p99 delay"),
        format!("{:.2?}, {}/{} events", among.p99, among.received, among.expected),
    ));
    rows.push(Row("added p99 delay".into(), format!("{:.2?}", among.p99.saturating_sub(alone.p99))));
    let extra = among.memory.saturating_sub(alone.memory) as f64 / f64::from(1 << 20);
    rows.push(Row("extra memory of the server".into(), format!("{extra:.1} MiB")));
    Ok(())
}

async fn measure(scale: Scale, healthy: usize, bad: usize) -> Result<Seen> {
    let server = Child::start(None)?;
    let addr = server.addr;
    let mut idle = Vec::new();
    let mut slow = JoinSet::new();
    for index in 0..bad {
        // Kept open, never read.
        idle.push(handshake(addr, &format!("never{index}")).await?);
        let mut stream = handshake(addr, &format!("slow{index}")).await?;
        slow.spawn(async move {
            let mut buffer = [0; 1_024];
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    let mut clients = JoinSet::new();
    for index in 0..healthy {
        let url = format!("ws://{addr}/ws?clientId=c{index}");
        let (socket, _) = tokio_tungstenite::connect_async(url).await?;
        clients.spawn(listen(socket, scale.events));
    }
    let inputs = json!({ "count": scale.events, "every_us": EVERY_US });
    Http::connect(addr).await?.request("POST", "/prompt", &body("Broadcast", inputs, None)).await?;
    let mut delays = Vec::with_capacity(healthy * scale.events);
    while let Some(seen) = clients.join_next().await {
        delays.extend(seen?);
    }
    let memory = server.resident();
    drop(idle);
    slow.abort_all();
    delays.sort();
    Ok(Seen {
        p99: quantile(&delays, 0.99),
        received: delays.len(),
        expected: healthy * scale.events,
        memory,
    })
}

/// Opens a WebSocket by hand, so that nothing reads it.
async fn handshake(addr: SocketAddr, sid: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await?;
    let upgrade = format!(
        "GET /ws?clientId={sid} HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    anyhow::ensure!(answer.ends_with(b"101"), "no upgrade: {}", String::from_utf8_lossy(&answer));
    Ok(stream)
}

/// Delays of the events that came, until all have or nothing comes any more.
async fn listen<S>(mut socket: S, events: usize) -> Vec<Duration>
where
    S: StreamExt<Item = tokio_tungstenite::tungstenite::Result<Message>> + Unpin,
{
    let mut delays = Vec::with_capacity(events);
    while delays.len() < events {
        let next = tokio::time::timeout(Duration::from_secs(30), socket.next()).await;
        let Ok(Some(Ok(message))) = next else { break };
        let arrived = now_us();
        if let Message::Text(text) = message
            && let Ok(sent) = time_of(&text)
        {
            delays.push(Duration::from_micros(arrived.saturating_sub(sent)));
        }
    }
    delays
}

fn time_of(text: &str) -> Result<u64> {
    let frame: Value = serde_json::from_str(text)?;
    frame["data"]["t"].as_u64().context("not a tick")
}
