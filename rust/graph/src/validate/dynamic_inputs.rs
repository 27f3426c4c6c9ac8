//! Inputs that exist only for certain values of others.
//!
//! A dynamic combo (`COMFY_DYNAMICCOMBO_V3`) brings the inputs of the chosen option, an autogrow list
//! (`COMFY_AUTOGROW_V3`) as many inputs as the prompt gives. In prompts their names are joined by dots:
//! `resize_type.width`, `values.value0`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::prompt::{Input, PromptNode};
use crate::schema::{InputSpec, InputType, NodeSchema, Presence};

const DYNAMIC_COMBO: &str = "COMFY_DYNAMICCOMBO_V3";
const AUTOGROW: &str = "COMFY_AUTOGROW_V3";
/// Members that one autogrow list may have when its template states no maximum.
const MAX_GROWN: u64 = 100;

/// The declared inputs of a node, hidden ones left out, given its constant inputs.
///
/// Members of autogrow lists are listed up to the template's maximum and are all optional: a list that is too short
/// passes.
pub fn declared_inputs<'s, 'v>(
    schema: &'s NodeSchema,
    constant: impl Fn(&str) -> Option<&'v Value>,
) -> Vec<Cow<'s, InputSpec>> {
    let mut found = Vec::with_capacity(schema.inputs.len());
    let visible = schema.inputs.iter().filter(|spec| spec.presence != Presence::Hidden);
    let mut stack: Vec<Cow<'s, InputSpec>> = visible.rev().map(Cow::Borrowed).collect();
    while let Some(spec) = stack.pop() {
        match &spec.ty {
            InputType::Named(ty) if ty.as_ref() == DYNAMIC_COMBO => {
                let key = constant(&spec.name);
                stack.extend(
                    key.map(|key| chosen(&spec, key)).unwrap_or_default().into_iter().map(Cow::Owned),
                );
                found.push(spec);
            }
            InputType::Named(ty) if ty.as_ref() == AUTOGROW => {
                stack.extend(grown(&spec).into_iter().rev().map(Cow::Owned));
            }
            _ => found.push(spec),
        }
    }
    found
}

/// The declaration of one input of a node, also of one that exists only for the values of others.
pub fn find_declared<'s>(
    schema: &'s NodeSchema,
    node: &PromptNode,
    name: &str,
) -> Option<Cow<'s, InputSpec>> {
    if let Some(spec) = schema.find_input(name) {
        return Some(Cow::Borrowed(spec));
    }
    if !name.contains('.') {
        return None;
    }
    let constant = |name: &str| match node.inputs.get(name) {
        Some(Input::Constant(value)) => Some(value),
        _ => None,
    };
    declared_inputs(schema, constant).into_iter().find(|spec| spec.name.as_ref() == name)
}

/// Inputs of the combo's option of that key; none for an unknown key.
fn chosen(combo: &InputSpec, key: &Value) -> Vec<InputSpec> {
    let options = combo.options.get("options").and_then(Value::as_array);
    let option = options.into_iter().flatten().find(|option| option.get("key") == Some(key));
    option.and_then(|option| option.get("inputs")).map(|inputs| members(combo, inputs)).unwrap_or_default()
}

/// Members of an autogrow list.
fn grown(list: &InputSpec) -> Vec<InputSpec> {
    let Some(template) = list.options.get("template") else { return Vec::new() };
    let inputs = template.get("input").map(|inputs| members(list, inputs)).unwrap_or_default();
    let Some(member) = inputs.into_iter().next() else { return Vec::new() };
    let names: Vec<String> = match template.get("names").and_then(Value::as_array) {
        Some(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        None => {
            let prefix = template.get("prefix").and_then(Value::as_str).unwrap_or_default();
            let max = template.get("max").and_then(Value::as_u64).unwrap_or(MAX_GROWN).min(MAX_GROWN);
            (0..max).map(|i| format!("{prefix}{i}")).collect()
        }
    };
    let spec = |name: String| InputSpec {
        name: format!("{}.{name}", list.name).into(),
        presence: Presence::Optional,
        ..member.clone()
    };
    names.into_iter().map(spec).collect()
}

/// `{"required": {NAME: [TYPE, {…}]}, "optional": {…}}` with names beneath `parent`.
fn members(parent: &InputSpec, inputs: &Value) -> Vec<InputSpec> {
    let groups = [("required", Presence::Required), ("optional", Presence::Optional)];
    let mut found = Vec::new();
    for (key, presence) in groups {
        for (name, config) in inputs.get(key).and_then(Value::as_object).into_iter().flatten() {
            // An optional parent's members cannot be more required than it is.
            let presence = if parent.presence == Presence::Optional { Presence::Optional } else { presence };
            found.extend(parse_spec(format!("{}.{name}", parent.name), presence, config));
        }
    }
    found
}

fn parse_spec(name: String, presence: Presence, config: &Value) -> Option<InputSpec> {
    let ty = match config.get(0)? {
        Value::String(ty) => InputType::Named(ty.as_str().into()),
        Value::Array(choices) => InputType::Choices(choices.as_slice().into()),
        _ => return None,
    };
    let options = config.get(1).and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
    let bare = config.get(1).is_none();
    Some(InputSpec { name: name.into(), presence, ty, options, bare })
}
