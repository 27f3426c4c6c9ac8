//! JSON → [`Prompt`], without judging inputs: only what no prompt can do without is an error.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use rushlight_protocol::{ErrorBody, PromptRejected};
use serde_json::{Map, Value};

use crate::prompt::{Input, Link, NodeId, Prompt, PromptNode};

/// Nodes that one prompt may have.
pub const MAX_NODES: usize = 200_000;

/// The key that marks a constant which would else be taken for a link.
const VALUE_KEY: &str = "__value__";

impl Prompt {
    /// Reads a prompt in API format, of at most [`MAX_NODES`] nodes.
    ///
    /// Inputs that are no object read as none, and lists that are no links as constants: such nodes may be out of
    /// every output's reach, where they do no harm.
    ///
    /// # Errors
    /// `invalid_prompt`: not an object, too many nodes, or a node without a class.
    pub fn from_json(json: &Value) -> Result<Self, PromptRejected> {
        let object = json.as_object().ok_or_else(|| invalid("Prompt is not an object of nodes", ""))?;
        if object.len() > MAX_NODES {
            let details = format!("{} nodes, the limit is {MAX_NODES}", object.len());
            return Err(invalid("Prompt has too many nodes", details));
        }
        let mut names = Names::default();
        let nodes = object
            .iter()
            .map(|(id, node)| Ok((NodeId::from(id.as_str()), parse_node(id, node, &mut names)?)));
        Ok(Self { nodes: nodes.collect::<Result<_, PromptRejected>>()? })
    }
}

/// Names of classes and inputs, each stored once however many nodes use it.
#[derive(Default)]
struct Names<'a>(HashMap<&'a str, Arc<str>>);

impl<'a> Names<'a> {
    fn share(&mut self, name: &'a str) -> Arc<str> {
        self.0.entry(name).or_insert_with(|| name.into()).clone()
    }
}

fn parse_node<'a>(id: &str, json: &'a Value, names: &mut Names<'a>) -> Result<PromptNode, PromptRejected> {
    let class_type = json.get("class_type").and_then(Value::as_str).ok_or_else(|| {
        invalid(
            "Cannot execute because a node is missing the class_type property.",
            format!("Node ID '#{id}'"),
        )
    })?;
    let inputs = match json.get("inputs") {
        Some(Value::Object(inputs)) => parse_inputs(inputs, names),
        _ => IndexMap::new(),
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(Arc::from);
    Ok(PromptNode {
        class_type: names.share(class_type),
        inputs,
        title: text(json.get("_meta").and_then(|meta| meta.get("title"))),
        override_display_id: text(json.get("override_display_id")),
    })
}

fn parse_inputs<'a>(inputs: &'a Map<String, Value>, names: &mut Names<'a>) -> IndexMap<Arc<str>, Input> {
    inputs.iter().map(|(name, value)| (names.share(name), parse_input(value))).collect()
}

/// One input: a link, an unwrapped `__value__`, or the constant as it stands.
pub fn parse_input(value: &Value) -> Input {
    match value {
        Value::Object(object) => Input::Constant(object.get(VALUE_KEY).unwrap_or(value).clone()),
        Value::Array(items) => match parse_link(items) {
            Some(link) => Input::Link(link),
            None => Input::Constant(value.clone()),
        },
        _ => Input::Constant(value.clone()),
    }
}

/// A link, if the list is one: a node id and an index as Python takes it, so `false` is 0 but `0.0` is none.
pub fn parse_link(items: &[Value]) -> Option<Link> {
    let [Value::String(node), slot] = items else { return None };
    let slot = match slot {
        Value::Bool(flag) => i64::from(*flag),
        Value::Number(number) => number.as_i64()?,
        _ => return None,
    };
    Some(Link { node: node.as_str().into(), slot })
}

/// `invalid_prompt` with no node errors.
pub(crate) fn invalid(message: &str, details: impl Into<String>) -> PromptRejected {
    reject("invalid_prompt", message, details)
}

/// A refusal with no node errors.
pub(crate) fn reject(kind: &str, message: &str, details: impl Into<String>) -> PromptRejected {
    PromptRejected { error: ErrorBody::new(kind, message, details), node_errors: IndexMap::new() }
}

/// The refusal of a request that has no `prompt`.
pub fn no_prompt() -> PromptRejected {
    reject("no_prompt", "No prompt provided", "No prompt provided")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(json: Value) -> Prompt {
        match Prompt::from_json(&json) {
            Ok(prompt) => prompt,
            Err(error) => unreachable!("{error}"),
        }
    }

    #[test]
    fn links_constants_and_wrapped_lists_are_told_apart() {
        let prompt = parse(json!({"1": {"class_type": "A", "_meta": {"title": "T"}, "inputs": {
            "link": ["2", 0], "last": ["2", -1], "off": ["2", false], "list": {"__value__": ["2", 0]},
            "text": "x", "float_slot": ["2", 0.0], "text_slot": ["2", "0"], "long": [1, 2, 3]}}}));
        let node = &prompt.nodes["1"];
        let link = |slot| Input::Link(Link { node: "2".into(), slot });
        assert_eq!(node.title.as_deref(), Some("T"));
        assert_eq!(node.inputs["link"], link(0));
        assert_eq!(node.inputs["last"], link(-1));
        assert_eq!(node.inputs["off"], link(0));
        assert_eq!(node.inputs["list"], Input::Constant(json!(["2", 0])));
        for name in ["text", "float_slot", "text_slot", "long"] {
            assert!(node.inputs[name].as_link().is_none(), "{name}");
        }
    }

    #[test]
    fn odd_inputs_are_no_reason_to_refuse() {
        for inputs in [json!(null), json!([1]), json!("x")] {
            assert!(parse(json!({"1": {"class_type": "A", "inputs": inputs}})).nodes["1"].inputs.is_empty());
        }
        assert!(parse(json!({"1": {"class_type": "A"}})).nodes["1"].inputs.is_empty());
    }

    #[test]
    fn a_node_without_a_class_is_named() {
        for node in [json!(null), json!({"inputs": {}}), json!({"class_type": 5}), json!("x")] {
            let error = Prompt::from_json(&json!({ "7": node })).err().map(|rejected| rejected.error);
            let error = error.map(|body| (body.kind, body.details));
            assert_eq!(error, Some(("invalid_prompt".into(), "Node ID '#7'".into())));
        }
    }
}
