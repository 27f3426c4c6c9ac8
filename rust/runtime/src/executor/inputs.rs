//! The lists that a node is called with.

use std::sync::Arc;

use indexmap::IndexMap;
use rushlight_graph::validate::declared_inputs;
use rushlight_graph::{Input, InputType, Link, NodeId, NodeSchema, Presence, PromptNode};
use serde_json::json;

use super::report::Failure;
use crate::context::RunContext;
use crate::job::Job;
use crate::node::Inputs;
use crate::value::Value;

/// Each input's values, in the prompt's order, then the hidden ones.
pub(super) type InputLists = IndexMap<Arc<str>, Arc<Vec<Value>>>;

/// What hidden inputs are filled from.
pub(super) struct Hidden<'a> {
    pub(super) job: &'a Job,
    pub(super) run: Arc<RunContext>,
    pub(super) node_id: &'a NodeId,
    pub(super) dynamic_prompt: Value,
}

/// A linked value that is not there: a lazy input that was not asked for.
pub(super) fn missing() -> Arc<Vec<Value>> {
    Arc::new(vec![Value::None])
}

/// Collects a node's inputs. `resolve` gives the values at the other end of a link, `None` while they are not
/// computed.
///
/// # Errors
/// A link to nothing.
pub(super) fn collect(
    node: &PromptNode,
    schema: &NodeSchema,
    hidden: &Hidden<'_>,
    mut resolve: impl FnMut(&Link) -> Result<Option<Arc<Vec<Value>>>, Failure>,
) -> Result<InputLists, Failure> {
    let declared = declared_inputs(schema, |name| match node.inputs.get(name) {
        Some(Input::Constant(value)) => Some(value),
        _ => None,
    });
    let find = |name: &str| declared.iter().find(|spec| spec.name.as_ref() == name);
    let mut lists = InputLists::with_capacity(node.inputs.len());
    for (name, input) in &node.inputs {
        let spec = find(name);
        let list = match input {
            Input::Link(link) if spec.is_some_and(|spec| spec.is_raw_link()) => {
                Arc::new(vec![Value::Json(Arc::new(json!([link.node, link.slot])))])
            }
            Input::Link(link) => resolve(link)?.unwrap_or_else(missing),
            // A constant that the class does not declare is no argument of it.
            _ if spec.is_none() && !schema.accepts_any_input && !is_unknown_hidden(schema, name) => continue,
            constant => match Value::from_constant(constant) {
                Some(value) => Arc::new(vec![value]),
                None => continue,
            },
        };
        lists.insert(name.clone(), list);
    }
    for spec in schema.inputs.iter().filter(|spec| spec.presence == Presence::Hidden) {
        if let InputType::Named(kind) = &spec.ty
            && let Some(value) = hidden.value(kind)
        {
            lists.insert(spec.name.clone(), Arc::new(vec![value]));
        }
    }
    Ok(lists)
}

/// Whether the class hides an input of that name whose kind the server does not fill: the prompt's value is passed.
fn is_unknown_hidden(schema: &NodeSchema, name: &str) -> bool {
    schema.find_input(name).is_some_and(|spec| spec.presence == Presence::Hidden)
}

impl Hidden<'_> {
    fn value(&self, kind: &str) -> Option<Value> {
        let extra = |key: &str| self.job.extra_data.get(key).cloned().map_or(Value::None, Value::from);
        if let Some(shared) = self.run.shared(kind) {
            return Some(shared);
        }
        Some(match kind {
            "PROMPT" => Value::Json(self.job.prompt_json.clone()),
            "DYNPROMPT" => self.dynamic_prompt.clone(),
            "EXTRA_PNGINFO" => extra("extra_pnginfo"),
            "UNIQUE_ID" => Value::String(self.node_id.clone()),
            "AUTH_TOKEN_COMFY_ORG" => extra("auth_token_comfy_org"),
            "API_KEY_COMFY_ORG" => extra("api_key_comfy_org"),
            _ => return None,
        })
    }
}

/// How often a node is called for these inputs.
pub(super) fn call_count(schema: &NodeSchema, lists: &InputLists) -> usize {
    if schema.input_is_list || lists.is_empty() {
        return 1;
    }
    if lists.values().any(|list| list.is_empty()) {
        return 0;
    }
    lists.values().map(|list| list.len()).max().unwrap_or(0)
}

/// The inputs of one call: whole lists for an `INPUT_IS_LIST` class, else each list's member, the last one repeated.
pub(super) fn slice(schema: &NodeSchema, lists: &InputLists, index: usize) -> Inputs {
    let mut inputs = Inputs::new();
    for (name, list) in lists {
        let value = if schema.input_is_list {
            Value::List(list.clone())
        } else {
            list.get(index).or_else(|| list.last()).cloned().unwrap_or(Value::None)
        };
        inputs.insert(name.clone(), value);
    }
    inputs
}

/// The first blocker among the inputs of one call, one with a message before silent ones.
pub(super) fn find_blocker(inputs: &Inputs) -> Option<Option<String>> {
    let mut found = None;
    for (_, value) in inputs.iter() {
        let members = match value {
            Value::List(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        for member in members {
            if let Value::Blocker(blocker) = member {
                if blocker.message.is_some() {
                    return Some(blocker.message.clone());
                }
                found = Some(None);
            }
        }
    }
    found
}
