//! A whole prompt: classes, outputs, the walk, and what is stored of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;
use rushlight_protocol::{NodeErrors, PromptRejected};
use serde_json::Value;

use crate::classes::Classes;
use crate::parse::{invalid, reject};
use crate::prompt::{Input, NodeId, Prompt};
use crate::schema::NodeSchema;

use super::constant;
use super::dynamic_inputs::declared_inputs;
use super::walk::Walk;

/// A prompt that can run: every wanted output and all its ancestors passed.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidPrompt {
    /// The graph, with constants converted to the types of their inputs.
    pub prompt: Prompt,
    /// The same in API format, as queue, history and pictures hold it. `nan` and infinities stay text.
    pub json: Value,
    /// Output nodes to run.
    pub outputs: Vec<NodeId>,
    /// Faults of outputs that were left out.
    pub node_errors: IndexMap<String, NodeErrors>,
}

/// Schemas of the classes that a prompt names, each looked up once.
pub(super) type Schemas = HashMap<Arc<str>, Arc<NodeSchema>>;

/// Checks a prompt in API format.
///
/// With `targets`, only output nodes of those ids are wanted. Outputs with faults are left out as long as one is
/// left.
///
/// # Errors
/// `invalid_prompt`, `prompt_no_outputs` or `prompt_outputs_failed_validation`, with each node's faults.
pub fn validate(
    request_prompt: &Value,
    classes: &dyn Classes,
    targets: Option<&[String]>,
) -> Result<ValidPrompt, PromptRejected> {
    let mut prompt = Prompt::from_json(request_prompt)?;
    let schemas = look_up_classes(&prompt, classes)?;
    let targets: Option<HashSet<&str>> = targets.map(|ids| ids.iter().map(String::as_str).collect());
    let wanted: Vec<NodeId> = prompt
        .nodes
        .iter()
        .filter(|(_, node)| schemas.get(&node.class_type).is_some_and(|schema| schema.output_node))
        .map(|(id, _)| id.clone())
        .filter(|id| targets.as_ref().is_none_or(|targets| targets.contains(id.as_ref())))
        .collect();
    if wanted.is_empty() {
        return Err(reject("prompt_no_outputs", "Prompt has no outputs", ""));
    }
    let mut walk = Walk::new(&prompt, request_prompt, classes, &schemas);
    for output in &wanted {
        walk.visit(output);
    }
    let report = walk.report(&wanted);
    let converted = walk.into_converted();
    if report.good.is_empty() {
        let error = rushlight_protocol::ErrorBody::new(
            "prompt_outputs_failed_validation",
            "Prompt outputs failed validation",
            report.details,
        );
        return Err(PromptRejected { error, node_errors: report.node_errors });
    }
    let mut json = request_prompt.clone();
    for (id, name, input) in converted {
        store(&mut prompt, &mut json, &id, name, input);
    }
    Ok(ValidPrompt { prompt, json, outputs: report.good, node_errors: report.node_errors })
}

/// Reads a prompt that was validated before, such as a queued one, and converts its constants again; nothing is
/// checked, so a class that changed meanwhile fails where it runs.
///
/// # Errors
/// `invalid_prompt`: it does not parse, or a class is gone.
pub fn revive(stored_prompt: &Value, classes: &dyn Classes) -> Result<Prompt, PromptRejected> {
    let mut prompt = Prompt::from_json(stored_prompt)?;
    let schemas = look_up_classes(&prompt, classes)?;
    for node in prompt.nodes.values_mut() {
        let Some(schema) = schemas.get(&node.class_type) else { continue };
        for spec in declared_inputs(schema, |name| constant_of(&node.inputs, name)).iter() {
            if let Some(input) = node.inputs.get_mut(&spec.name)
                && let Input::Constant(value) = &*input
                && let Ok(Some(converted)) = constant::convert(spec, value)
            {
                *input = converted;
            }
        }
    }
    Ok(prompt)
}

fn constant_of<'a>(inputs: &'a IndexMap<Arc<str>, Input>, name: &str) -> Option<&'a Value> {
    match inputs.get(name) {
        Some(Input::Constant(value)) => Some(value),
        _ => None,
    }
}

fn look_up_classes(prompt: &Prompt, classes: &dyn Classes) -> Result<Schemas, PromptRejected> {
    let mut schemas = Schemas::new();
    for (id, node) in &prompt.nodes {
        if schemas.contains_key(&node.class_type) {
            continue;
        }
        let schema = classes.schema(&node.class_type).ok_or_else(|| {
            let message = format!("Cannot execute because node {} does not exist.", node.class_type);
            invalid(&message, format!("Node ID '#{id}'"))
        })?;
        schemas.insert(node.class_type.clone(), schema);
    }
    Ok(schemas)
}

/// Puts a converted constant into the graph and into its JSON.
fn store(prompt: &mut Prompt, json: &mut Value, id: &NodeId, name: Arc<str>, input: Input) {
    let Some(prompt_slot) = prompt.nodes.get_mut(id).and_then(|node| node.inputs.get_mut(&name)) else {
        return;
    };
    if *prompt_slot == input {
        return;
    }
    if let Input::Constant(value) = &input
        && let Some(slot) = json
            .get_mut(id.as_ref())
            .and_then(|node| node.get_mut("inputs"))
            .and_then(|inputs| inputs.get_mut(name.as_ref()))
        // A wrapped list stays wrapped, or it would read back as a link.
        && !slot.is_object()
    {
        *slot = value.clone();
    }
    *prompt_slot = input;
}
