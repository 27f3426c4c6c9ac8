//! One node's inputs against its schema, without looking into the nodes it links to.

use std::borrow::Cow;
use std::sync::Arc;

use indexmap::IndexMap;
use rushlight_protocol::InputError;
use serde_json::{Map, Value};

use super::constant;
use super::dynamic_inputs::declared_inputs;
use super::errors::{self, Exception, Via};
use super::prompt::Schemas;
use crate::classes::{Classes, CustomValidation, LinkedOutput};
use crate::parse::{parse_input, parse_link};
use crate::prompt::{Input, NodeId, Prompt};
use crate::python;
use crate::schema::{InputSpec, InputType, NodeSchema, Presence};

/// A socket type that takes what it is connected to; frontends see to it that both ends agree.
const MATCH_TYPE: &str = "COMFY_MATCHTYPE_V3";

/// What was found out of one node.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) errors: Vec<InputError>,
    /// Constants in their input's type.
    pub(super) converted: IndexMap<Arc<str>, Input>,
    /// Nodes it links to, and through which input.
    pub(super) links: Vec<(NodeId, Arc<str>)>,
}

/// What checks look things up in.
pub(super) struct Surroundings<'a> {
    pub(super) prompt: &'a Prompt,
    pub(super) json: &'a Value,
    pub(super) classes: &'a dyn Classes,
    pub(super) schemas: &'a Schemas,
}

impl Surroundings<'_> {
    /// Checks one node.
    ///
    /// # Errors
    /// What Python would have raised, for inputs that cannot be looked at.
    pub(super) fn check(&self, id: &NodeId) -> Result<Checked, Exception> {
        let missing = || Exception::new("KeyError", python::text_repr(id));
        let node = self.prompt.nodes.get(id).ok_or_else(missing)?;
        let schema = self.schemas.get(&node.class_type).ok_or_else(missing)?;
        let empty = Map::new();
        let inputs = self.inputs_of(id, schema)?.unwrap_or(&empty);
        let declared = declared_inputs(schema, |name| inputs.get(name));

        let mut checked = Checked::default();
        let mut types = Map::new();
        let mut mismatches = Vec::new();
        for spec in &declared {
            match inputs.get(spec.name.as_ref()) {
                None if spec.presence == Presence::Required => {
                    checked.errors.push(errors::required_input_missing(&spec.name));
                }
                None => {}
                Some(value @ Value::Array(items)) if items.len() == 2 => {
                    let (link, output) = self.resolve(items)?;
                    types.insert(spec.name.to_string(), output.ty.to_json());
                    let own = self.classes.types_match(output, &node.class_type, spec);
                    if !own.unwrap_or_else(|| types_match(output.ty, spec)) {
                        mismatches.push((spec, errors::return_type_mismatch(spec, output.ty, value)));
                    }
                    checked.links.push((link, spec.name.clone()));
                }
                Some(value @ Value::Array(_)) => checked.errors.push(errors::bad_linked_input(spec, value)),
                Some(value) => checked.convert(spec, value),
            }
        }
        if schema.accepts_any_input {
            self.follow_undeclared(inputs, &declared, &mut checked);
        }
        let answer = self.classes.custom_validation(&node.class_type, &checked.converted, &types);
        let takes_over = |name: &str| {
            answer.as_ref().is_some_and(|answer| answer.takes_over.iter().any(|taken| taken == name))
        };
        if !takes_over("input_types") {
            for (spec, error) in mismatches {
                checked.errors.push(error);
                // What lies behind a link that does not fit is not looked at.
                checked.links.retain(|(_, name)| *name != spec.name);
            }
        }
        for spec in &declared {
            if let Some(input) = checked.converted.get(&spec.name).filter(|_| !takes_over(&spec.name)) {
                checked.errors.extend(constant::check(spec, input));
            }
        }
        if let Some(answer) = &answer {
            checked.errors.extend(custom_faults(answer, inputs));
        }
        Ok(checked)
    }

    /// The input of `consumer` by which a node was reached, for the error of a node that cannot be looked at.
    pub(super) fn via(&self, consumer: &NodeId, input: &str) -> Via {
        let schema = self.prompt.nodes.get(consumer).and_then(|node| self.schemas.get(&node.class_type));
        let inputs = self.json.get(consumer.as_ref()).and_then(|node| node.get("inputs"));
        let value = |name: &str| inputs.and_then(|inputs| inputs.get(name));
        let declared = schema.map(|schema| declared_inputs(schema, value)).unwrap_or_default();
        let spec = declared.iter().find(|spec| spec.name.as_ref() == input);
        Via {
            input_name: input.to_owned(),
            input_config: spec.map_or(Value::Null, |spec| spec.config_pair_json()),
            linked_node: value(input).cloned().unwrap_or_default(),
        }
    }

    /// The node's `inputs` object; `None` for something else in a node that needs no inputs.
    fn inputs_of(&self, id: &NodeId, schema: &NodeSchema) -> Result<Option<&Map<String, Value>>, Exception> {
        match self.json.get(id.as_ref()).and_then(|node| node.get("inputs")) {
            Some(Value::Object(inputs)) => Ok(Some(inputs)),
            None => Err(Exception::new("KeyError", "'inputs'")),
            Some(_) if schema.inputs.iter().all(|spec| spec.presence == Presence::Hidden) => Ok(None),
            // Nothing is found in a list or a text, so every input counts as missing.
            Some(Value::Array(_) | Value::String(_)) => Ok(None),
            Some(other) => {
                let text = format!("argument of type '{}' is not iterable", python::type_name(other));
                Err(Exception::new("TypeError", text))
            }
        }
    }

    /// The node that a length-2 list points to and the type of the slot, or what Python's look-ups would raise.
    fn resolve(&self, items: &[Value]) -> Result<(NodeId, LinkedOutput<'_>), Exception> {
        let id = items.first().unwrap_or(&Value::Null);
        let slot = items.get(1).unwrap_or(&Value::Null);
        if matches!(id, Value::Array(_) | Value::Object(_)) {
            return Err(Exception::new("TypeError", format!("unhashable type: '{}'", python::type_name(id))));
        }
        let source = id.as_str().and_then(|id| self.prompt.nodes.get_key_value(id));
        let Some((id, node)) = source else { return Err(Exception::new("KeyError", python::repr(id))) };
        let outputs =
            self.schemas.get(&node.class_type).map(|schema| schema.outputs.as_slice()).unwrap_or_default();
        let link = parse_link(items).ok_or_else(|| {
            let text = format!("tuple indices must be integers or slices, not {}", python::type_name(slot));
            Exception::new("TypeError", text)
        })?;
        let output = link.index(outputs.len()).and_then(|slot| Some((slot, &outputs.get(slot)?.ty)));
        let (slot, ty) = output.ok_or_else(|| Exception::new("IndexError", "tuple index out of range"))?;
        Ok((id.clone(), LinkedOutput { class: &node.class_type, slot, ty }))
    }

    /// Links of inputs that the class takes without declaring them: their nodes run, so they are checked too.
    fn follow_undeclared(
        &self,
        inputs: &Map<String, Value>,
        declared: &[Cow<'_, InputSpec>],
        checked: &mut Checked,
    ) {
        for (name, value) in inputs {
            let Value::Array(items) = value else { continue };
            if let Some(link) = parse_link(items)
                && self.prompt.nodes.contains_key(&link.node)
                && !declared.iter().any(|spec| spec.name.as_ref() == name)
            {
                checked.links.push((link.node, name.as_str().into()));
            }
        }
    }
}

impl Checked {
    fn convert(&mut self, spec: &InputSpec, value: &Value) {
        let Input::Constant(value) = parse_input(value) else { return };
        match constant::convert_or_fault(spec, &value) {
            Ok(converted) => {
                let input = converted.unwrap_or(Input::Constant(value));
                self.converted.insert(spec.name.clone(), input);
            }
            Err(fault) => self.errors.push(fault),
        }
    }
}

/// One fault for each input that the class's own validation was given.
fn custom_faults(answer: &CustomValidation, inputs: &Map<String, Value>) -> Vec<InputError> {
    let Some(text) = &answer.fault else { return Vec::new() };
    let names = answer.takes_over.iter().filter(|name| inputs.contains_key(name.as_str()));
    let faults: Vec<_> = names.map(|name| errors::custom_validation_failed(name, text)).collect();
    if faults.is_empty() { vec![errors::custom_validation_failed("", text)] } else { faults }
}

/// Whether an output may be linked to an input: equal types, `*` on either side, or comma-separated sets that share
/// a member. A combo of either form takes a `COMBO`.
fn types_match(output: &InputType, spec: &InputSpec) -> bool {
    match (output, &spec.ty) {
        (InputType::Named(output), InputType::Named(input)) => {
            let open = |ty: &str| ty == "*" || ty == MATCH_TYPE;
            if output == input || open(output) || open(input) {
                return true;
            }
            let members: Vec<&str> = output.split(',').map(str::trim).collect();
            input.split(',').any(|ty| members.contains(&ty.trim()))
        }
        (InputType::Choices(output), InputType::Choices(input)) => output == input,
        (InputType::Choices(_), InputType::Named(name)) | (InputType::Named(name), InputType::Choices(_)) => {
            matches!(name.as_ref(), "*" | "COMBO" | MATCH_TYPE)
        }
    }
}
