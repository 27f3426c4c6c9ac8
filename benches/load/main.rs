//! Server load: what one server takes, measured from another process over real sockets. `README.md` says how to run
//! it and what each line means.
//!
//! - [`servers`]: the processes that are measured; [`nodes`]: the bench server's own nodes.
//! - [`same`]: the same requests to this server and the original; [`goals`]: what only this one is asked.
//! - [`fanout`]: a thousand clients, some of which don't read; [`long`]: what is held on to after long runs.
//! - [`http`], [`prompts`], [`table`]: what is sent, and what is printed.

mod fanout;
mod goals;
mod http;
mod long;
mod nodes;
mod prompts;
mod same;
mod servers;
mod table;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use servers::{Keep, Original, Running};
use table::Table;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Prompts queued.
    pub prompts: usize,
    /// Prompts queued on this server and on the original.
    pub same_prompts: usize,
    /// Requests per latency.
    pub requests: usize,
    /// WebSocket clients.
    pub clients: usize,
    /// Events to each.
    pub events: usize,
}

const FULL: Scale =
    Scale { prompts: 20_000, same_prompts: 2_000, requests: 1_000, clients: 1_000, events: 1_000 };
const QUICK: Scale = Scale { prompts: 2_000, same_prompts: 300, requests: 200, clients: 100, events: 100 };

/// What the command line asks for.
struct Options {
    scale: Scale,
    /// Parts to measure; empty for all.
    only: Vec<String>,
    /// Long runs instead, of that many prompts.
    long: Option<usize>,
}

/// The parts of the table.
const PARTS: [&str; 3] = ["same", "goals", "fanout"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["--rushlight", rest @ ..] => {
            let command = std::iter::once("rushlight").chain(rest.iter().copied());
            return rushlight_cli::main(command.map(Into::into), None);
        }
        ["--serve", folder, port, keep] => port
            .parse()
            .context("--serve FOLDER PORT durable|memory")
            .and_then(|port| nodes::serve(Path::new(folder), port, *keep == "durable")),
        _ => options(&arguments).and_then(bench),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[&str]) -> Result<Options> {
    let mut options = Options { scale: FULL, only: Vec::new(), long: None };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--quick" => options.scale = QUICK,
            "--only" => {
                let parts = arguments.next().context("--only needs parts, separated by commas")?;
                options.only = parts.split(',').map(str::to_owned).collect();
                if let Some(part) = options.only.iter().find(|part| !PARTS.contains(&part.as_str())) {
                    bail!("--only {part}: the parts are {}", PARTS.join(", "));
                }
            }
            "--long" => {
                let prompts = arguments.next().map(|number| number.parse().context("--long PROMPTS"));
                options.long = Some(prompts.unwrap_or(Ok(50_000))?);
            }
            // What `cargo bench` adds.
            "--bench" => {}
            other => bail!("{other}: known are --quick, --only PARTS and --long [PROMPTS]"),
        }
    }
    Ok(options)
}

fn bench(options: Options) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: its figures say little. Use `cargo run --release`.");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if let Some(prompts) = options.long {
            return long::run(prompts).await;
        }
        let mut table = Table::default();
        let result = measure(&options, &mut table).await;
        // What was measured before something failed is worth seeing too.
        table.print();
        result
    })
}

async fn measure(options: &Options, table: &mut Table) -> Result<()> {
    let scale = options.scale;
    let wants = |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    if wants("same") {
        same_requests(scale, table).await.context("same")?;
    }
    if wants("goals") {
        for (keep, name, goal) in [(Keep::Durable, "durable", 2_000.0), (Keep::Memory, "in memory", 5_000.0)]
        {
            let server = Running::bench(keep).await?;
            goals::full_queue(&server, scale, name, goal, table).await.context(name)?;
        }
        let server = Running::bench(Keep::Durable).await?;
        goals::one_client(&server, scale, table).await.context("events to one client")?;
        goals::long_chain(&server, table).await.context("a long chain")?;
        let server = Running::rushlight(Keep::Durable).await?;
        goals::while_sampling(&server, scale, table).await.context("reads while sampling")?;
    }
    if wants("fanout") {
        fanout::run(scale, table).await.context("fanout")?;
    }
    Ok(())
}

/// The same requests to this server and to the original, if that can be run.
async fn same_requests(scale: Scale, table: &mut Table) -> Result<()> {
    // Once unmeasured, so that the program is in the system's cache.
    drop(Running::rushlight(Keep::Durable).await?);
    let server = Running::rushlight(Keep::Durable).await?;
    for row in all(&server, scale, "").await? {
        table.push(row);
    }
    drop(server);
    let server = Running::rushlight(Keep::Memory).await?;
    for row in same::throughput(&server, scale.same_prompts, ", in memory").await? {
        table.push(row);
    }
    drop(server);
    let Some(original) = Original::from_environment() else {
        eprintln!(
            "SKIPPED: the original server. Set COMFYUI_DIR to its folder (and COMFYUI_PYTHON to an interpreter that has \
             its requirements) to measure it beside this one."
        );
        return Ok(());
    };
    drop(Running::original(&original).await?);
    let server = Running::original(&original).await?;
    for row in all(&server, scale, "").await.context("the original server")? {
        table.push_original(row);
    }
    Ok(())
}

async fn all(server: &Running, scale: Scale, keep: &str) -> Result<Vec<table::Row>> {
    let mut rows = same::started(server);
    rows.extend(same::latencies(server, scale).await.context("latencies")?);
    rows.extend(same::throughput(server, scale.same_prompts, keep).await.context("throughput")?);
    rows.extend(same::many_nodes(server).await.context("many nodes")?);
    Ok(rows)
}
