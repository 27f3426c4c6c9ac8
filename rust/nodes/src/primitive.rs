//! Primitives and the text preview.

use crate::prelude::*;
use crate::pytext;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "PrimitiveInt", primitive_int_schema, primitive_int);
    add(registry, "PrimitiveFloat", primitive_float_schema, primitive_float);
    add(registry, "PrimitiveBoolean", primitive_boolean_schema, primitive_boolean);
    add(registry, "PrimitiveString", primitive_string_schema, primitive_string);
    add(registry, "PrimitiveStringMultiline", primitive_string_multiline_schema, primitive_string_multiline);
    add(registry, "PreviewAny", preview_any_schema, preview_any);
}

fn primitive_int_schema(_: &dyn Host) -> NodeSchema {
    v3("PrimitiveInt", "utils/primitive", "primitive")
        .display("Int")
        .extra("display_name", "Int")
        .input(
            InputSpec::new("value", "INT")
                .opt("control_after_generate", true)
                .opt("max", i64::MAX)
                .opt("min", -i64::MAX),
        )
        .output(OutputSpec::new("INT"))
}
fn primitive_int(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::Int(inputs.int("value")?)))
}

fn primitive_float_schema(_: &dyn Host) -> NodeSchema {
    v3("PrimitiveFloat", "utils/primitive", "primitive")
        .display("Float")
        .extra("display_name", "Float")
        .input(InputSpec::new("value", "FLOAT").opt("max", i64::MAX).opt("min", -i64::MAX).step(0.1))
        .output(OutputSpec::new("FLOAT"))
}
fn primitive_float(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::Float(inputs.float("value")?)))
}

fn primitive_boolean_schema(_: &dyn Host) -> NodeSchema {
    v3("PrimitiveBoolean", "utils/primitive", "primitive")
        .display("Boolean")
        .extra("display_name", "Boolean")
        .input(InputSpec::new("value", "BOOLEAN"))
        .output(OutputSpec::new("BOOLEAN"))
}
fn primitive_boolean(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::Bool(inputs.bool("value")?)))
}

fn primitive_string_schema(_: &dyn Host) -> NodeSchema {
    v3("PrimitiveString", "utils/primitive", "primitive")
        .display("String")
        .extra("display_name", "String")
        .input(InputSpec::new("value", "STRING").opt("multiline", false))
        .output(OutputSpec::new("STRING"))
}
fn primitive_string(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::String(inputs.str("value")?.into())))
}

fn primitive_string_multiline_schema(_: &dyn Host) -> NodeSchema {
    v3("PrimitiveStringMultiline", "utils/primitive", "primitive")
        .display("String (Multiline)")
        .extra("display_name", "String (Multiline)")
        .input(text("value"))
        .output(OutputSpec::new("STRING"))
}
fn primitive_string_multiline(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    primitive_string(ctx, inputs)
}

fn preview_any_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("PreviewAny", "utils")
        .display("Preview as Text")
        .module("comfy_extras.nodes_preview_any")
        .input(InputSpec::new("source", "*"))
        .output_node()
}
fn preview_any(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let source = inputs.value("source")?;
    let listed = matches!(source, Value::List(_) | Value::Json(_)).then(|| pytext::plain(source)).flatten();
    let text = listed.map_or_else(|| pytext::text(source), |json| pytext::indented_json(&json));
    Ok(NodeOutput::default().with_ui("text", vec![text]))
}
