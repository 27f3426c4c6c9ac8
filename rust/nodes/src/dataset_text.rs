//! Texts prepared for training. Each node takes a text (or a list of them) and gives the list of results.

use std::sync::Arc;

use crate::memory;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "AddTextPrefix", add_text_prefix_schema, add_text_prefix);
    add(registry, "AddTextSuffix", add_text_suffix_schema, add_text_suffix);
    add(registry, "ReplaceText", replace_text_schema, replace_text);
    add(registry, "StripWhitespace", strip_whitespace_schema, strip_whitespace);
    add(registry, "TextToLowercase", text_to_lowercase_schema, text_to_lowercase);
    add(registry, "TextToUppercase", text_to_uppercase_schema, text_to_uppercase);
    add(registry, "TruncateText", truncate_text_schema, truncate_text);
    add(registry, "MergeTextLists", merge_text_lists_schema, merge_text_lists);
}

fn each(inputs: &Inputs, f: impl Fn(&str) -> String) -> Result<NodeOutput, NodeError> {
    each_checked(inputs, |text| Ok(f(text)))
}

/// As [`each`], by a function that can fail. The results together are one value, so their length is bounded together.
fn each_checked(
    inputs: &Inputs,
    f: impl Fn(&str) -> Result<String, NodeError>,
) -> Result<NodeOutput, NodeError> {
    let mut total = 0usize;
    let mut one = |value: &Value| match value {
        Value::String(text) => {
            let result = f(text)?;
            total = total.saturating_add(result.len());
            memory::check_text(total)?;
            Ok(Value::String(result.into()))
        }
        other => Err(NodeError::new("TypeError", format!("'texts' must be STRING, got {}", other.kind()))),
    };
    let texts = match inputs.value("texts")? {
        Value::List(items) => items.iter().map(&mut one).collect::<Result<Vec<_>, _>>()?,
        text => vec![one(text)?],
    };
    Ok(NodeOutput::one(Value::List(Arc::new(texts))))
}

fn add_text_prefix_schema(_: &dyn Host) -> NodeSchema {
    v3("AddTextPrefix", "dataset/text", "dataset")
        .display("Add Text Prefix")
        .extra("display_name", "Add Text Prefix")
        .input(InputSpec::new("texts", "STRING").opt("multiline", false))
        .input(line("prefix", ""))
        .output(OutputSpec::named("STRING", "texts"))
        .extra("experimental", true)
        .extra("output_is_list", json!([null]))
}
fn add_text_prefix(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let prefix = inputs.str("prefix")?;
    each(inputs, |text| format!("{prefix}{text}"))
}

fn add_text_suffix_schema(_: &dyn Host) -> NodeSchema {
    v3("AddTextSuffix", "dataset/text", "dataset")
        .display("Add Text Suffix")
        .extra("display_name", "Add Text Suffix")
        .input(InputSpec::new("texts", "STRING").opt("multiline", false))
        .input(line("suffix", ""))
        .output(OutputSpec::named("STRING", "texts"))
        .extra("experimental", true)
        .extra("output_is_list", json!([null]))
}
fn add_text_suffix(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let suffix = inputs.str("suffix")?;
    each(inputs, |text| format!("{text}{suffix}"))
}

fn replace_text_schema(_: &dyn Host) -> NodeSchema {
    v3("ReplaceText", "dataset/text", "dataset")
        .display("Replace Text")
        .extra("display_name", "Replace Text")
        .input(InputSpec::new("texts", "STRING").opt("multiline", false))
        .input(line("find", ""))
        .input(line("replace", ""))
        .output(OutputSpec::named("STRING", "texts"))
        .extra("experimental", true)
        .extra("output_is_list", json!([null]))
}
fn replace_text(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (find, replace) = (inputs.str("find")?, inputs.str("replace")?);
    each_checked(inputs, |text| memory::replace_text(text, find, replace))
}

fn strip_whitespace_schema(_: &dyn Host) -> NodeSchema {
    v3("StripWhitespace", "dataset/text", "dataset")
        .display("Strip Whitespace")
        .extra("display_name", "Strip Whitespace")
        .input(InputSpec::new("texts", "STRING").opt("multiline", false))
        .output(OutputSpec::named("STRING", "texts"))
        .extra("experimental", true)
        .extra("output_is_list", json!([null]))
}
fn strip_whitespace(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    each(inputs, |text| text.trim().to_owned())
}

fn text_to_lowercase_schema(_: &dyn Host) -> NodeSchema {
    v3("TextToLowercase", "dataset/text", "dataset")
        .display("Text to Lowercase")
        .extra("display_name", "Text to Lowercase")
        .input(InputSpec::new("texts", "STRING").opt("multiline", false))
        .output(OutputSpec::named("STRING", "texts"))
        .extra("experimental", true)
        .extra("output_is_list", json!([null]))
}
fn text_to_lowercase(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    each(inputs, str::to_lowercase)
}

fn text_to_uppercase_schema(_: &dyn Host) -> NodeSchema {
    v3("TextToUppercase", "dataset/text", "dataset")
        .display("Text to Uppercase")
        .extra("display_name", "Text to Uppercase")
        .input(InputSpec::new("texts", "STRING").opt("multiline", false))
        .output(OutputSpec::named("STRING", "texts"))
        .extra("experimental", true)
        .extra("output_is_list", json!([null]))
}
fn text_to_uppercase(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    each(inputs, str::to_uppercase)
}

fn truncate_text_schema(_: &dyn Host) -> NodeSchema {
    v3("TruncateText", "dataset/text", "dataset")
        .display("Truncate Text")
        .extra("display_name", "Truncate Text")
        .input(InputSpec::new("texts", "STRING").opt("multiline", false))
        .input(int("max_length", 77, 1, 10000))
        .output(OutputSpec::named("STRING", "texts"))
        .extra("experimental", true)
        .extra("output_is_list", json!([null]))
}
fn truncate_text(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let length = inputs.size("max_length")?;
    each(inputs, |text| text.chars().take(length).collect())
}

fn merge_text_lists_schema(_: &dyn Host) -> NodeSchema {
    v3("MergeTextLists", "dataset/text", "dataset")
        .display("Merge Text Lists")
        .extra("display_name", "Merge Text Lists")
        .input(InputSpec::new("texts", "STRING").opt("multiline", false))
        .output(OutputSpec::named("STRING", "texts"))
        .extra("experimental", true)
        .extra("output_is_list", json!([null]))
}
fn merge_text_lists(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    each(inputs, str::to_owned)
}
