//! The server under load: a child process with nodes that do nothing.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use candle_core::Device;
use rushlight_graph::{InputSpec, NodeSchema};
use rushlight_protocol::{Audience, Event};
use rushlight_runtime::{ExecutorOptions, Host, Inputs, Node, NodeContext, NodeError, NodeOutput, Registry};
use rushlight_server::{FolderHost, LogBuffer, Parts, Server, ServerSettings};
use rushlight_store::folders::FolderSettings;
use rushlight_store::{Folders, SqliteOptions, SqliteStore};
use serde_json::json;

/// A running child; dropping it ends it.
pub struct Child {
    process: std::process::Child,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Child {
    /// Starts this program as a server, with its queue on disk or in memory.
    pub fn start(database: Option<&Path>) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .arg(database.unwrap_or(Path::new("")))
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().context("the child has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let addr = line.trim().parse().with_context(|| format!("the child said {line:?}"))?;
        Ok(Self { process, addr })
    }

    /// Resident memory in bytes; 0 where the system has no `/proc`.
    pub fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until killed; prints the address.
pub fn serve(database: Option<&Path>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let base = std::env::temp_dir().join(format!("rushlight-load-base-{}", std::process::id()));
    let folders = Arc::new(Folders::open(&FolderSettings { base, ..FolderSettings::default() })?);
    let options = SqliteOptions::default();
    let store = match database {
        Some(path) => SqliteStore::open(path, options)?,
        None => SqliteStore::in_memory(options)?,
    };
    let settings =
        ServerSettings { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..Default::default() };
    let parts = Parts {
        host: Arc::new(FolderHost::new(folders.clone(), Vec::new(), true, 64 << 20)),
        folders,
        registry: registry(),
        store: Arc::new(store),
        devices: vec![Device::Cpu],
        executor: ExecutorOptions::default(),
        extension: None,
        logs: LogBuffer::new(),
    };
    runtime.block_on(async {
        let server = Server::start(settings, parts).await?;
        println!("{}", server.addr());
        std::future::pending::<()>().await;
        Ok(())
    })
}

type Run = fn(&NodeContext, &Inputs) -> Result<NodeOutput, NodeError>;

struct BenchNode(NodeSchema, Run);

impl Node for BenchNode {
    fn schema(&self, _host: &dyn Host) -> NodeSchema {
        self.0.clone()
    }

    fn execute(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
        (self.1)(ctx, inputs)
    }
}

fn registry() -> Registry {
    let int = |name: &str| InputSpec::new(name, "INT").default(0).range(0, 1_i64 << 40);
    let mut registry = Registry::new();
    let mut add = |schema: NodeSchema, run: Run| {
        let name = schema.name.clone();
        registry.register(&name, Arc::new(BenchNode(schema, run)));
    };
    add(NodeSchema::new("Nothing", "bench").input(int("seed")).output_node(), |_, _| {
        Ok(NodeOutput::default())
    });
    // Keeps a core busy, as a sampler does.
    add(NodeSchema::new("Busy", "bench").input(int("ms")).input(int("seed")).output_node(), |ctx, inputs| {
        let until = Instant::now() + Duration::from_millis(inputs.int("ms")? as u64);
        let mut rounds = 0u64;
        while Instant::now() < until {
            rounds = std::hint::black_box(rounds.wrapping_mul(31).wrapping_add(7));
            if rounds.is_multiple_of(1_024) {
                ctx.check()?;
            }
        }
        ctx.check()?;
        Ok(NodeOutput::default())
    });
    add(
        NodeSchema::new("Steps", "bench").input(int("steps")).input(int("seed")).output_node(),
        |ctx, inputs| {
            let steps = inputs.int("steps")? as u64;
            for step in 1..=steps {
                ctx.progress(step, steps, None)?;
            }
            Ok(NodeOutput::default())
        },
    );
    // Tells everyone the time, `count` times.
    add(
        NodeSchema::new("Broadcast", "bench").input(int("count")).input(int("every_us")).output_node(),
        |ctx, inputs| {
            let every = Duration::from_micros(inputs.int("every_us")? as u64);
            let start = Instant::now();
            for index in 0..inputs.int("count")? as u32 {
                let due = start + every * index;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let data = json!({ "i": index, "t": now_us(), "pad": "x".repeat(100) });
                ctx.run
                    .sink
                    .send(&Audience::Everyone, Event::Custom { name: "tick".into(), data: Arc::new(data) });
            }
            Ok(NodeOutput::default())
        },
    );
    // As many classes as a real server lists, so that /object_info has a real size.
    for index in 0..600 {
        let mut schema = NodeSchema::new(&format!("Filler{index}"), "bench").output_node();
        for input in 0..8 {
            schema = schema.input(
                int(&format!("input_{input}")).opt("tooltip", "What this input is for, in one sentence."),
            );
        }
        add(schema, |_, _| Ok(NodeOutput::default()));
    }
    registry
}

/// Microseconds since the epoch.
pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}
