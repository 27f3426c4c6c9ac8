//! Validates and plans a chain of nodes, and prints how long each takes.
//!
//! `cargo run --release -p rushlight-graph --example validate -- 5000`

use std::sync::Arc;
use std::time::Instant;

use rushlight_graph::cache_key::KeyFacts;
use rushlight_graph::{
    Classes, DynamicPrompt, ExecutionList, GraphView, Input, InputSpec, KeyTable, Link, NodeId, NodeSchema,
    OutputSpec, Prompt, validate,
};
use serde_json::{Map, Value, json};

/// `Source` gives an image, `Blur` changes one, `Save` is the output.
struct ThreeClasses(Vec<Arc<NodeSchema>>);

impl ThreeClasses {
    fn new() -> Self {
        let schema = |name: &str| NodeSchema::new(name, "example");
        let classes = [
            schema("Source").output(OutputSpec::new("IMAGE")),
            schema("Blur")
                .input(InputSpec::new("image", "IMAGE"))
                .input(InputSpec::new("radius", "INT").range(1, 31))
                .output(OutputSpec::new("IMAGE")),
            schema("Save").input(InputSpec::new("images", "IMAGE")).output_node(),
        ];
        Self(classes.into_iter().map(Arc::new).collect())
    }
}

impl Classes for ThreeClasses {
    fn schema(&self, class: &str) -> Option<Arc<NodeSchema>> {
        self.0.iter().find(|schema| schema.name.as_ref() == class).cloned()
    }
}

/// A graph in which nothing is cached.
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

/// `Source` → `Blur` × (length - 1) → `Save`.
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

fn main() {
    let length = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5_000);
    let json = chain(length);
    let begun = Instant::now();
    let valid = match validate(&json, &ThreeClasses::new(), None) {
        Ok(valid) => valid,
        Err(rejected) => return eprintln!("{rejected}"),
    };
    println!("validate {length} nodes: {:?}", begun.elapsed());

    let begun = Instant::now();
    let prompt = Arc::new(valid.prompt);
    let mut keys = KeyTable::new();
    keys.extend(&DynamicPrompt::new(prompt.clone()), valid.outputs.clone(), |_, _| KeyFacts::default());
    println!("hash: {:?}", begun.elapsed());

    let begun = Instant::now();
    let mut list = ExecutionList::new();
    let view = Fresh(&prompt);
    valid.outputs.iter().for_each(|output| list.add(output, &view));
    let mut walked = 0;
    while let Some(node) = list.next() {
        list.complete(&node);
        walked += 1;
    }
    println!("plan and walk {walked} nodes: {:?}", begun.elapsed());
}
