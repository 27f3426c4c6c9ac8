//! Defines two node classes, runs a prompt of three nodes twice, and prints every event as a client would get it.
//!
//! `cargo run -p rushlight-runtime --example two_nodes`

use std::sync::Arc;

use bytes::Bytes;
use candle_core::Device;
use rushlight_graph::{InputSpec, NodeSchema, OutputSpec, validate};
use rushlight_protocol::{Audience, Event};
use rushlight_runtime::context::EventSink;
use rushlight_runtime::host::{HostError, ModelSource, SaveRequest, SavedFile};
use rushlight_runtime::{
    ClassTable, Executor, ExecutorOptions, Host, Inputs, Job, Node, NodeContext, NodeError, NodeOutput,
    Registry, RunContext, Value,
};
use serde_json::{Map, json};

/// Adds two integers.
struct Add;

impl Node for Add {
    fn schema(&self, _host: &dyn Host) -> NodeSchema {
        let int = |name| InputSpec::new(name, "INT").default(0);
        NodeSchema::new("Add", "example/math").input(int("a")).input(int("b")).output(OutputSpec::new("INT"))
    }

    fn execute(&self, _ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
        Ok(NodeOutput::one(Value::Int(inputs.int("a")? + inputs.int("b")?)))
    }
}

/// Shows an integer: an output node, so prompts run for its sake.
struct Show;

impl Node for Show {
    fn schema(&self, _host: &dyn Host) -> NodeSchema {
        NodeSchema::new("Show", "example/math").input(InputSpec::new("value", "INT")).output_node()
    }

    fn execute(&self, _ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
        Ok(NodeOutput::default().with_ui("text", json!([inputs.int("value")?.to_string()])))
    }
}

/// A host for nodes that need no files.
struct NoFiles;

impl NoFiles {
    fn none<T>(name: &str) -> Result<T, HostError> {
        Err(HostError::NotFound { what: "file".into(), name: name.into() })
    }
}

impl Host for NoFiles {
    fn model_names(&self, _folder: &str) -> Vec<String> {
        Vec::new()
    }
    fn model(&self, _folder: &str, name: &str) -> Result<ModelSource, HostError> {
        Self::none(name)
    }
    fn input_names(&self, _kinds: &[&str]) -> Vec<String> {
        Vec::new()
    }
    fn read(&self, annotated_name: &str) -> Result<Bytes, HostError> {
        Self::none(annotated_name)
    }
    fn fingerprint(&self, annotated_name: &str) -> Result<String, HostError> {
        Self::none(annotated_name)
    }
    fn save(&self, request: &SaveRequest<'_>, _bytes: &[u8]) -> Result<SavedFile, HostError> {
        Self::none(request.prefix)
    }
}

/// Prints text frames.
struct Print;

impl EventSink for Print {
    fn send(&self, _to: &Audience, event: Event) {
        println!("{}", event.to_text().unwrap_or_else(|| "(binary)".into()));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut registry = Registry::new();
    registry.register("Add", Arc::new(Add));
    registry.register("Show", Arc::new(Show));
    let host: Arc<dyn Host> = Arc::new(NoFiles);
    let classes = Arc::new(ClassTable::new(registry, host.clone()));
    let mut executor = Executor::new(classes.clone(), host.clone(), Device::Cpu, ExecutorOptions::default());

    let prompt = json!({
        "1": {"class_type": "Add", "inputs": {"a": 1, "b": "2"}},
        "2": {"class_type": "Add", "inputs": {"a": ["1", 0], "b": 10}},
        "3": {"class_type": "Show", "inputs": {"value": ["2", 0]}},
    });
    for id in ["first", "cached"] {
        let job = Job::new(id, validate(&prompt, classes.as_ref(), None)?, Map::new());
        let audience = Audience::Session("me".into());
        let run =
            RunContext::new(job.prompt_id.clone(), audience, host.clone(), Arc::new(Print), Device::Cpu);
        let outcome = executor.run(&job, Arc::new(run));
        println!("{id}: {:?}\n", outcome.outputs.get("3"));
    }
    Ok(())
}
