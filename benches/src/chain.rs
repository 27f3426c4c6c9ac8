//! `Source` → `Blur` × n → `Save`: a chain of nodes in API format, and what validation and planning ask of it.

use std::sync::Arc;

use rushlight_graph::{
    Classes, GraphView, Input, InputSpec, Link, NodeId, NodeSchema, OutputSpec, Prompt, PromptNode,
};
use serde_json::{Map, Value, json};

/// The classes of a chain: `Source` gives an image, `Blur` changes one, `Save` is the output.
pub struct ChainClasses([Arc<NodeSchema>; 3]);

impl Default for ChainClasses {
    fn default() -> Self {
        let schema = |name: &str| NodeSchema::new(name, "bench");
        let blur = schema("Blur")
            .input(InputSpec::new("image", "IMAGE"))
            .input(InputSpec::new("radius", "INT").range(1, 31))
            .output(OutputSpec::new("IMAGE"));
        Self([
            Arc::new(schema("Source").output(OutputSpec::new("IMAGE"))),
            Arc::new(blur),
            Arc::new(schema("Save").input(InputSpec::new("images", "IMAGE")).output_node()),
        ])
    }
}

impl Classes for ChainClasses {
    fn schema(&self, class: &str) -> Option<Arc<NodeSchema>> {
        self.0.iter().find(|schema| schema.name.as_ref() == class).cloned()
    }
}

/// A prompt of which nothing is cached, as planning sees it.
pub struct Fresh<'a>(pub &'a Prompt);

impl GraphView for Fresh<'_> {
    fn needs(&self, node: &NodeId) -> Vec<Link> {
        let inputs = self.0.nodes.get(node).into_iter().flat_map(|node: &PromptNode| node.inputs.values());
        inputs.filter_map(Input::as_link).cloned().collect()
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

/// A chain of `length` nodes and its `Save`, in API format. Each `radius` is text, so it is converted too.
pub fn chain(length: usize) -> Value {
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
