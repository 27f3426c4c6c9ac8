//! Switches and choices.

use std::sync::Arc;

use serde_json::Map;

use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    registry.register(
        "ComfySwitchNode",
        Arc::new(Define::new(comfy_switch_node_schema, comfy_switch_node).lazy(wanted_side)),
    );
    registry.register(
        "CustomCombo",
        Arc::new(Define::new(custom_combo_schema, custom_combo).validate(any_choice)),
    );
}

/// The input that the switch lets through.
fn side(inputs: &Inputs) -> Result<&'static str, NodeError> {
    Ok(if inputs.bool("switch")? { "on_true" } else { "on_false" })
}

/// Only the side that is let through is computed.
fn wanted_side(_: &NodeContext, inputs: &Inputs) -> Result<Vec<String>, NodeError> {
    let side = side(inputs)?;
    Ok(if inputs.present(side).is_none() { vec![side.into()] } else { Vec::new() })
}

fn comfy_switch_node_schema(_: &dyn Host) -> NodeSchema {
    v3("ComfySwitchNode", "logic", "logic")
        .display("Switch")
        .extra("display_name", "Switch")
        .input(InputSpec::new("switch", "BOOLEAN"))
        .input(
            InputSpec::new("on_false", "COMFY_MATCHTYPE_V3")
                .opt("lazy", true)
                .opt("template", json!({"allowed_types": "*", "template_id": "switch"})),
        )
        .input(
            InputSpec::new("on_true", "COMFY_MATCHTYPE_V3")
                .opt("lazy", true)
                .opt("template", json!({"allowed_types": "*", "template_id": "switch"})),
        )
        .output(OutputSpec::named("COMFY_MATCHTYPE_V3", "output"))
        .extra("experimental", true)
        .extra("output_matchtypes", json!(["switch"]))
}
fn comfy_switch_node(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(inputs.value(side(inputs)?)?.clone()))
}

/// The choices are the user's own, so any is accepted.
fn any_choice(_: &dyn Host, _: &Inputs, _: &Map<String, serde_json::Value>) -> rushlight_runtime::Validation {
    rushlight_runtime::Validation { takes_over: vec!["choice".into()], fault: None }
}

fn custom_combo_schema(_: &dyn Host) -> NodeSchema {
    v3("CustomCombo", "utils", "logic")
        .display("Custom Combo")
        .extra("display_name", "Custom Combo")
        .input(choice("choice", [""; 0]))
        .output(OutputSpec::new("STRING"))
        .extra("experimental", true)
}
fn custom_combo(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::String(inputs.str("choice")?.into())))
}
