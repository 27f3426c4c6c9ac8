//! Validating, hashing and planning chains of nodes: each is linear, so 5,000 nodes cost five times what 1,000 do.
//!
//! `cargo bench -p rushlight-benches --bench graph`
#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rushlight_graph::cache_key::KeyFacts;
use rushlight_graph::{
    Classes, DynamicPrompt, ExecutionList, GraphView, Input, InputSpec, KeyTable, Link, NodeId, NodeSchema,
    OutputSpec, Prompt, validate,
};
use serde_json::{Map, Value, json};

struct ThreeClasses([Arc<NodeSchema>; 3]);

impl Default for ThreeClasses {
    fn default() -> Self {
        let schema = |name: &str| NodeSchema::new(name, "bench");
        Self([
            Arc::new(schema("Source").output(OutputSpec::new("IMAGE"))),
            Arc::new(
                schema("Blur")
                    .input(InputSpec::new("image", "IMAGE"))
                    .input(InputSpec::new("radius", "INT").range(1, 31))
                    .output(OutputSpec::new("IMAGE")),
            ),
            Arc::new(schema("Save").input(InputSpec::new("images", "IMAGE")).output_node()),
        ])
    }
}

impl Classes for ThreeClasses {
    fn schema(&self, class: &str) -> Option<Arc<NodeSchema>> {
        self.0.iter().find(|schema| schema.name.as_ref() == class).cloned()
    }
}

struct Fresh<'a>(&'a Prompt);

impl GraphView for Fresh<'_> {
    fn needs(&self, node: &NodeId) -> Vec<Link> {
        let node = self.0.nodes.get(node);
        node.into_iter().flat_map(|node| node.inputs.values().filter_map(Input::as_link).cloned()).collect()
    }
    fn is_output(&self, node: &NodeId) -> bool {
        node.as_ref() == "save"
    }
    fn is_async(&self, _node: &NodeId) -> bool {
        false
    }
    fn is_cached(&self, _node: &NodeId) -> bool {
        false
    }
}

fn chain(length: usize) -> Value {
    let mut prompt = Map::new();
    prompt.insert("0".into(), json!({"class_type": "Source", "inputs": {}}));
    for i in 1..length {
        let inputs = json!({"image": [(i - 1).to_string(), 0], "radius": "3"});
        prompt.insert(i.to_string(), json!({"class_type": "Blur", "inputs": inputs}));
    }
    let images = json!([length.saturating_sub(1).to_string(), 0]);
    prompt.insert("save".into(), json!({"class_type": "Save", "inputs": {"images": images}}));
    Value::Object(prompt)
}

fn graph(criterion: &mut Criterion) {
    let classes = ThreeClasses::default();
    let mut group = criterion.benchmark_group("chain");
    for length in [1_000_usize, 5_000] {
        group.throughput(Throughput::Elements(length as u64));
        let json = chain(length);
        group.bench_with_input(BenchmarkId::new("validate", length), &json, |bench, json| {
            bench.iter(|| validate(black_box(json), &classes, None).is_ok());
        });
        let Ok(valid) = validate(&json, &classes, None) else { continue };
        let prompt = Arc::new(valid.prompt);
        group.bench_with_input(BenchmarkId::new("hash", length), &prompt, |bench, prompt| {
            bench.iter(|| {
                let mut keys = KeyTable::new();
                let dynamic = DynamicPrompt::new(prompt.clone());
                keys.extend(&dynamic, valid.outputs.clone(), |_, _| KeyFacts::default());
                keys.get("save")
            });
        });
        group.bench_with_input(BenchmarkId::new("plan", length), &prompt, |bench, prompt| {
            bench.iter(|| {
                let mut list = ExecutionList::new();
                valid.outputs.iter().for_each(|output| list.add(output, &Fresh(prompt)));
                while let Some(node) = list.next() {
                    list.complete(&node);
                }
                list.is_done()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, graph);
criterion_main!(benches);
