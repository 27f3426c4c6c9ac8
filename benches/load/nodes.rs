//! The bench server: the native nodes, and some that put load on the server in ways that those do not.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use candle_core::Device;
use rushlight_cli::environment;
use rushlight_graph::{InputSpec, NodeSchema};
use rushlight_protocol::{Audience, Event};
use rushlight_runtime::{ExecutorOptions, Host, Inputs, Node, NodeContext, NodeError, NodeOutput, Registry};
use rushlight_server::dispatcher::Dispatcher;
use rushlight_server::{LogBuffer, Parts, Server, ServerSettings};
use rushlight_store::folders::FolderSettings;
use rushlight_store::{SqliteOptions, SqliteStore};
use serde_json::json;

/// Frames that `Burst` lets its client be behind: far below the bound at which it would be cut off.
const BURST_WINDOW: usize = 4_096;

/// The dispatcher, so that `Burst` can see how far behind its client is.
static DISPATCHER: OnceLock<Arc<Dispatcher>> = OnceLock::new();

/// Serves until killed.
pub fn serve(folder: &Path, port: u16, durable: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let settings = FolderSettings { base: folder.to_owned(), ..FolderSettings::default() };
    let (folders, host) = environment::open_host(&settings, true)?;
    let options = SqliteOptions::default();
    let store = if durable {
        SqliteStore::open(&folders.layout().user.join("rushlight.db"), options)?
    } else {
        SqliteStore::in_memory(options)?
    };
    let settings =
        ServerSettings { listen: vec![SocketAddr::from(([127, 0, 0, 1], port))], ..Default::default() };
    let parts = Parts {
        host,
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
        // Set once: this process is one server.
        let _ = DISPATCHER.set(server.state().dispatcher.clone());
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
    let mut registry = environment::native_registry();
    let nodes: [(&str, &[&str], Run); 5] = [
        ("BenchBusy", &["ms", "seed"], busy),
        ("BenchSteps", &["steps", "seed"], steps),
        ("BenchBurst", &["count", "seed"], burst),
        ("BenchBroadcast", &["count", "every_us", "bytes"], broadcast),
        ("BenchFail", &["seed"], |_, inputs| {
            Err(NodeError::value(format!("no luck: {}", inputs.int("seed")?)))
        }),
    ];
    for (name, inputs, run) in nodes {
        let mut schema = NodeSchema::new(name, "bench").output_node();
        for input in inputs {
            schema = schema.input(InputSpec::new(input, "INT").default(0).range(0, 1_i64 << 40));
        }
        registry.register(name, Arc::new(BenchNode(schema, run)));
    }
    registry
}

fn count(inputs: &Inputs, name: &str) -> Result<u64, NodeError> {
    Ok(u64::try_from(inputs.int(name)?).unwrap_or(0))
}

/// Keeps a core busy.
fn busy(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let until = Instant::now() + Duration::from_millis(count(inputs, "ms")?);
    let mut rounds = 0u64;
    while Instant::now() < until {
        for _ in 0..1_024 {
            rounds = std::hint::black_box(rounds.wrapping_mul(31).wrapping_add(7));
        }
        ctx.check()?;
    }
    Ok(NodeOutput::default())
}

/// Moves its progress bar as fast as it can.
fn steps(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let steps = count(inputs, "steps")?;
    for step in 1..=steps {
        ctx.progress(step, steps, None)?;
    }
    Ok(NodeOutput::default())
}

/// Sends structural events to its client as fast as that takes them.
fn burst(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let Audience::Session(sid) = &ctx.run.audience else { return Ok(NodeOutput::default()) };
    let session = DISPATCHER.get().and_then(|dispatcher| dispatcher.session(sid));
    let session = session.ok_or_else(|| NodeError::value("the client is not connected"))?;
    for index in 0..count(inputs, "count")? {
        while index % 64 == 0 && session.behind() > BURST_WINDOW {
            ctx.check()?;
            std::thread::sleep(Duration::from_micros(20));
        }
        ctx.run.emit(Event::Executing {
            node: ctx.node.node_id.clone(),
            display_node: ctx.node.display_id.clone(),
            prompt_id: ctx.run.prompt_id.clone(),
        });
    }
    Ok(NodeOutput::default())
}

/// Tells everyone the time, at a fixed rate, with some bytes to carry.
fn broadcast(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let every = Duration::from_micros(count(inputs, "every_us")?);
    let pad = "x".repeat(usize::try_from(count(inputs, "bytes")?).unwrap_or(0));
    let start = Instant::now();
    for index in 0..u32::try_from(count(inputs, "count")?).unwrap_or(u32::MAX) {
        let due = start + every * index;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let data = Arc::new(json!({ "i": index, "t": now_us(), "pad": pad }));
        ctx.run.sink.send(&Audience::Everyone, Event::Custom { name: "tick".into(), data });
    }
    Ok(NodeOutput::default())
}

/// Microseconds since the epoch.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
