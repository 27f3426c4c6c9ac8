//! Many clients, some of which read slowly or never: what the others notice, and what it costs.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinSet;

use crate::Scale;
use crate::http::{Frame, Http, WebSocket};
use crate::nodes::now_us;
use crate::prompts::bench;
use crate::same::{is_event, quantile};
use crate::servers::{Keep, Running};
use crate::table::{Row, Table};

/// Microseconds between two events: 40 a second, times the clients.
const EVERY_US: u64 = 25_000;
/// Bytes that each event carries: a slow client's share of them is more than its socket's buffers hold.
const EVENT_BYTES: usize = 1_024;
/// The receive buffer of clients that read slowly or never.
const SMALL_BUFFER: u32 = 4 << 10;
/// Nothing more comes when nothing has come for so long.
const SILENCE: Duration = Duration::from_secs(20);
/// The close code of a client that was cut off because it was too far behind.
const TOO_SLOW: u16 = 4008;

/// What clients saw.
struct Seen {
    p99: Duration,
    /// Events that came to clients that read, in order and without a gap.
    received: usize,
    expected: usize,
    /// Slow and never-reading clients that got every event once they read, and those that were cut off.
    caught_up: usize,
    cut: usize,
    memory: u64,
}

/// Measures with and without bad clients.
pub async fn run(scale: Scale, table: &mut Table) -> Result<()> {
    let bad = scale.clients / 20;
    let healthy = scale.clients - 2 * bad;
    let alone = measure(scale, healthy, 0).await?;
    let among = measure(scale, healthy, bad).await?;
    let (clients, events) = (scale.clients, scale.events);
    table.push(
        Row::time(format!("{healthy} clients x {events} events, p99 delay"), alone.p99)
            .note(format!("{}/{} events came in order", alone.received, alone.expected)),
    );
    table.push(
        Row::time(format!("the same of {clients}, {bad} reading 1 KB/s, {bad} never, p99 delay"), among.p99)
            .note(format!("{}/{} events came in order", among.received, among.expected)),
    );
    table.push(Row::time("p99 delay added by them", among.p99.saturating_sub(alone.p99)).goal(0.05).note(
        format!(
            "afterwards {} of the {} got every event, {} were cut off with {TOO_SLOW}",
            among.caught_up,
            2 * bad,
            among.cut
        ),
    ));
    table.push(Row::bytes("memory added by them", among.memory.saturating_sub(alone.memory)).goal(64e6));
    Ok(())
}

async fn measure(scale: Scale, healthy: usize, bad: usize) -> Result<Seen> {
    let server = Running::bench(Keep::Memory).await?;
    let addr = server.addr;
    let mut idle = Vec::new();
    let mut slow = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for index in 0..bad {
        idle.push(WebSocket::connect(addr, &format!("never{index}"), Some(SMALL_BUFFER)).await?);
        slow.spawn(read_slowly(addr, index, stopped.clone()));
    }
    let mut clients = JoinSet::new();
    for index in 0..healthy {
        let socket = WebSocket::connect(addr, &format!("c{index}"), None).await?;
        clients.spawn(listen(socket, scale.events));
    }
    let inputs = json!({ "count": scale.events, "every_us": EVERY_US, "bytes": EVENT_BYTES });
    let mut http = Http::connect(addr).await?;
    http.request("POST", "/prompt", &bench("BenchBroadcast", inputs, None)).await?;
    let mut delays = Vec::with_capacity(healthy * scale.events);
    while let Some(seen) = clients.join_next().await {
        delays.extend(seen??.delays);
    }
    let memory = server.resident();
    // Now everybody reads as fast as it can.
    stop.send(true)?;
    let mut late = JoinSet::new();
    for socket in idle {
        late.spawn(listen(socket, scale.events));
    }
    while let Some(socket) = slow.join_next().await {
        late.spawn(listen(socket??, scale.events));
    }
    let (mut caught_up, mut cut) = (0, 0);
    while let Some(heard) = late.join_next().await {
        let heard = heard??;
        caught_up += usize::from(heard.delays.len() == scale.events);
        cut += usize::from(heard.closed == Some(TOO_SLOW));
    }
    delays.sort();
    Ok(Seen {
        p99: quantile(&delays, 0.99),
        received: delays.len(),
        expected: healthy * scale.events,
        caught_up,
        cut,
        memory,
    })
}

/// Takes 1 KB a second until told to stop.
async fn read_slowly(
    addr: SocketAddr,
    index: usize,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) -> Result<WebSocket> {
    let mut socket = WebSocket::connect(addr, &format!("slow{index}"), Some(SMALL_BUFFER)).await?;
    loop {
        tokio::select! {
            // Bytes stay in its buffer, so none is lost when it reads on.
            read = socket.fill(1_024) => if read? == 0 { return Ok(socket) },
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(socket),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(socket),
        }
    }
}

/// What one client heard.
struct Heard {
    /// From sending to arrival, of events that came in order.
    delays: Vec<Duration>,
    closed: Option<u16>,
}

/// Reads until all events have come, the server closes, or nothing comes any more.
async fn listen(mut socket: WebSocket, events: usize) -> Result<Heard> {
    let mut heard = Heard { delays: Vec::with_capacity(events), closed: None };
    while heard.delays.len() < events {
        let Ok(next) = tokio::time::timeout(SILENCE, socket.next()).await else { break };
        match next {
            Ok(Some(Frame::Message(message))) if is_event(message, b"tick") => {
                let arrived = now_us();
                let index = number_after(message, b"\"i\":").context("a tick without a number")?;
                let sent = number_after(message, b"\"t\":").context("a tick without a time")?;
                if index == heard.delays.len() as u64 {
                    heard.delays.push(Duration::from_micros(arrived.saturating_sub(sent)));
                }
            }
            Ok(Some(Frame::Message(_))) => {}
            Ok(Some(Frame::Close(code))) => {
                heard.closed = Some(code);
                break;
            }
            // Cut off without ceremony, or at the end.
            Ok(None) | Err(_) => break,
        }
    }
    Ok(heard)
}

/// The number that follows `key`.
fn number_after(message: &[u8], key: &[u8]) -> Option<u64> {
    let start = message.windows(key.len()).position(|window| window == key)? + key.len();
    let digits = message.get(start..)?.iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
