//! Where nodes of a prompt run, when classes have native and Python implementations.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rushlight_graph::{Classes, InputSpec, InputType, NodeSchema, OutputSpec, Prompt};
use rushlight_runtime::host::{HostError, ModelSource, SaveRequest, SavedFile};
use rushlight_runtime::placement::{Dual, Engines, place};
use rushlight_runtime::{ClassTable, Host, Inputs, Node, NodeContext, NodeError, NodeOutput, Registry};
use serde_json::{Value, json};

struct NoFiles;

impl Host for NoFiles {
    fn model_names(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
    fn model(&self, _: &str, name: &str) -> Result<ModelSource, HostError> {
        Err(HostError::NotFound { what: "model".into(), name: name.into() })
    }
    fn input_names(&self, _: &[&str]) -> Vec<String> {
        Vec::new()
    }
    fn read(&self, name: &str) -> Result<Bytes, HostError> {
        Err(HostError::NotFound { what: "file".into(), name: name.into() })
    }
    fn fingerprint(&self, name: &str) -> Result<String, HostError> {
        Err(HostError::NotFound { what: "file".into(), name: name.into() })
    }
    fn save(&self, request: &SaveRequest<'_>, _: &[u8]) -> Result<SavedFile, HostError> {
        Err(HostError::NotFound { what: "folder".into(), name: request.prefix.into() })
    }
}

struct Class {
    schema: NodeSchema,
    engines: Engines,
}

impl Node for Class {
    fn schema(&self, _: &dyn Host) -> NodeSchema {
        self.schema.clone()
    }
    fn engines(&self) -> Engines {
        self.engines
    }
    fn execute(&self, _: &NodeContext, _: &Inputs) -> Result<NodeOutput, NodeError> {
        Ok(NodeOutput::default())
    }
}

/// Loader and Sampler run on both engines, Decoder only natively, Patch and Show only in Python.
fn classes(prefer_python: bool) -> ClassTable {
    let mut registry = Registry::new();
    let schema = |name: &str, inputs: &[(&str, &str)], output: &str| {
        let schema = NodeSchema::new(name, "test").output(OutputSpec::new(output));
        inputs.iter().fold(schema, |schema, (name, ty)| schema.input(InputSpec::new(name, ty)))
    };
    let class = |schema: &NodeSchema, engines| Arc::new(Class { schema: schema.clone(), engines });
    for schema in [schema("Loader", &[], "MODEL"), schema("Sampler", &[("model", "MODEL")], "LATENT")] {
        let dual = Dual::new(class(&schema, Engines::NATIVE), class(&schema, Engines::PYTHON), prefer_python);
        registry.register(&schema.name, Arc::new(dual));
    }
    for (schema, engines) in [
        (schema("Decoder", &[("model", "MODEL"), ("latent", "LATENT")], "IMAGE"), Engines::NATIVE),
        (schema("Patch", &[("model", "MODEL")], "MODEL"), Engines::PYTHON),
        (schema("Show", &[("latent", "LATENT")], "STRING"), Engines::PYTHON),
    ] {
        registry.register(&schema.name, class(&schema, engines));
    }
    ClassTable::new(registry, Arc::new(NoFiles))
}

fn prompt(nodes: Value) -> Prompt {
    Prompt::from_json(&nodes).unwrap()
}

fn python_nodes(nodes: Value, prefer_python: bool) -> Vec<String> {
    let prompt = prompt(nodes);
    let placement = place(&prompt, &classes(prefer_python)).unwrap();
    prompt.nodes.keys().filter(|id| placement.is_python(id)).map(|id| id.to_string()).collect()
}

fn node(class: &str, inputs: Value) -> Value {
    json!({ "class_type": class, "inputs": inputs })
}

#[test]
fn a_group_that_can_run_natively_does() {
    let nodes = json!({"1": node("Loader", json!({})), "2": node("Sampler", json!({"model": ["1", 0]}))});
    assert!(python_nodes(nodes.clone(), false).is_empty());
    assert_eq!(python_nodes(nodes, true), ["1", "2"]);
}

#[test]
fn a_python_only_node_takes_its_group_with_it_and_leaves_others() {
    let nodes = json!({
        "1": node("Loader", json!({})), "2": node("Patch", json!({"model": ["1", 0]})),
        "3": node("Sampler", json!({"model": ["2", 0]})),
        "4": node("Loader", json!({})), "5": node("Sampler", json!({"model": ["4", 0]})),
    });
    assert_eq!(python_nodes(nodes, false), ["1", "2", "3"]);
}

#[test]
fn values_that_both_engines_understand_tie_nothing() {
    let nodes = json!({
        "1": node("Loader", json!({})), "2": node("Sampler", json!({"model": ["1", 0]})),
        "3": node("Show", json!({"latent": ["2", 0]})),
    });
    assert_eq!(python_nodes(nodes, false), ["3"]);
}

#[test]
fn nodes_that_cannot_meet_are_named() {
    let nodes = prompt(json!({
        "1": node("Loader", json!({})), "2": node("Patch", json!({"model": ["1", 0]})),
        "3": node("Decoder", json!({"model": ["1", 0]})),
    }));
    let refused = place(&nodes, &classes(false)).unwrap_err();
    assert_eq!(refused.error.kind, "engines_cannot_meet");
    for name in ["Patch", "Decoder", "'2'", "'3'"] {
        assert!(refused.error.details.contains(name), "{}", refused.error.details);
    }
    assert!(refused.node_errors.contains_key("2") && refused.node_errors.contains_key("3"));
}

#[test]
fn clients_see_the_checkouts_description_and_what_the_native_class_offers_beside_it() {
    let schema = |choices: &[&str], text: &str| {
        let mut schema = NodeSchema::new("Loader", "test").input(InputSpec::combo("name", choices));
        schema.description = text.into();
        schema
    };
    let native = Arc::new(Class { schema: schema(&["a", "built in"], ""), engines: Engines::NATIVE });
    let mut described = schema(&["a", "b"], "Loads.");
    described.extra.insert("input".into(), json!({"required": {"name": [["a", "b"], {"tooltip": "which"}]}}));
    let python = Arc::new(Class { schema: described, engines: Engines::PYTHON });
    let shown = Dual::new(native.clone(), python.clone(), false).schema(&NoFiles);
    let info = shown.to_object_info();
    assert_eq!(info["description"], "Loads.");
    assert_eq!(info["input"]["required"]["name"], json!([["a", "b", "built in"], {"tooltip": "which"}]));
    assert_eq!(shown.inputs[0].ty, InputType::choices(["a", "b", "built in"]));
    let preferred = Dual::new(native, python, true).schema(&NoFiles);
    assert_eq!(preferred.inputs[0].ty, InputType::choices(["a", "b"]));
}

#[test]
fn a_class_that_changes_freely_is_asked_again_and_others_are_not() {
    struct Counting(AtomicUsize, bool);
    impl Node for Counting {
        fn schema(&self, _: &dyn Host) -> NodeSchema {
            let asked = self.0.fetch_add(1, Ordering::Relaxed);
            NodeSchema { description: asked.to_string().into(), ..NodeSchema::new("N", "test") }
        }
        fn changes_freely(&self) -> bool {
            self.1
        }
        fn execute(&self, _: &NodeContext, _: &Inputs) -> Result<NodeOutput, NodeError> {
            Ok(NodeOutput::default())
        }
    }
    for (freely, then) in [(true, "1"), (false, "0")] {
        let mut registry = Registry::new();
        registry.register("N", Arc::new(Counting(AtomicUsize::new(0), freely)));
        let table = ClassTable::new(registry, Arc::new(NoFiles));
        assert_eq!(table.schema("N").unwrap().description.as_ref(), "0");
        assert_eq!(table.refresh_free(Some(&mut ["other", "N"].into_iter())), freely);
        assert_eq!(table.schema("N").unwrap().description.as_ref(), then);
    }
}
