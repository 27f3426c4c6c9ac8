//! Server load: what one server takes, measured from another process over real sockets.
//!
//! `cargo run --release -p rushlight-benches --bin load` prints one table. The server is this program again, as a
//! child, with nodes that do nothing, so that the numbers are the server's. `--quick` measures a tenth.

mod child;
mod fanout;
mod http;
mod measure;

use std::path::Path;

use anyhow::Result;

/// One line of the table.
pub struct Row(pub String, pub String);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Prompts queued.
    pub prompts: usize,
    /// Requests per latency.
    pub requests: usize,
    /// WebSocket clients.
    pub clients: usize,
    /// Events to each.
    pub events: usize,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "--serve") {
        let database = arguments.get(2).filter(|path| !path.is_empty()).map(Path::new);
        return child::serve(database);
    }
    let full = Scale { prompts: 20_000, requests: 2_000, clients: 1_000, events: 1_000 };
    let quick = Scale { prompts: 2_000, requests: 200, clients: 100, events: 100 };
    let scale = if arguments.iter().any(|argument| argument == "--quick") { quick } else { full };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rows = runtime.block_on(run(scale))?;
    let width = rows.iter().map(|row| row.0.chars().count()).max().unwrap_or(0);
    for Row(name, value) in rows {
        println!("{name:<width$}  {value}");
    }
    Ok(())
}

async fn run(scale: Scale) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let folder = std::env::temp_dir().join(format!("rushlight-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    for (name, database) in [("durable", Some(folder.join("rushlight.db"))), ("in memory", None)] {
        let server = child::Child::start(database.as_deref())?;
        measure::throughput(&server, name, scale, &mut rows).await?;
    }
    let server = child::Child::start(None)?;
    measure::latencies(&server, scale, &mut rows).await?;
    measure::one_client(&server, scale, &mut rows).await?;
    drop(server);
    fanout::run(scale, &mut rows).await?;
    std::fs::remove_dir_all(&folder)?;
    Ok(rows)
}
