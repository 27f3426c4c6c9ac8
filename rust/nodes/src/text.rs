//! Strings.

use crate::memory;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "StringConcatenate", string_concatenate_schema, string_concatenate);
    add(registry, "StringSubstring", string_substring_schema, string_substring);
    add(registry, "StringLength", string_length_schema, string_length);
    add(registry, "CaseConverter", case_converter_schema, case_converter);
    add(registry, "StringTrim", string_trim_schema, string_trim);
    add(registry, "StringReplace", string_replace_schema, string_replace);
    add(registry, "StringContains", string_contains_schema, string_contains);
    add(registry, "StringCompare", string_compare_schema, string_compare);
}

fn output(text: impl Into<std::sync::Arc<str>>) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::String(text.into())))
}

fn truth(value: bool) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::Bool(value)))
}

fn string_concatenate_schema(_: &dyn Host) -> NodeSchema {
    v3("StringConcatenate", "utils/string", "string")
        .display("Concatenate")
        .extra("display_name", "Concatenate")
        .input(text("string_a"))
        .input(text("string_b"))
        .input(line("delimiter", ""))
        .output(OutputSpec::new("STRING"))
}
fn string_concatenate(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (a, b, delimiter) = (inputs.str("string_a")?, inputs.str("string_b")?, inputs.str("delimiter")?);
    memory::check_text(a.len() + b.len() + delimiter.len())?;
    output([a, b].join(delimiter))
}

fn string_substring_schema(_: &dyn Host) -> NodeSchema {
    v3("StringSubstring", "utils/string", "string")
        .display("Substring")
        .extra("display_name", "Substring")
        .input(text("string"))
        .input(InputSpec::new("start", "INT"))
        .input(InputSpec::new("end", "INT"))
        .output(OutputSpec::new("STRING"))
}
fn string_substring(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let text: Vec<char> = inputs.str("string")?.chars().collect();
    let length = text.len() as i128;
    // As Python slices: negative indexes count from the end, all are brought inside.
    let place = |name: &str| -> Result<usize, NodeError> {
        let index = inputs.int(name)?;
        let index = if index < 0 { index + length } else { index };
        Ok(index.clamp(0, length) as usize)
    };
    let (start, end) = (place("start")?, place("end")?);
    output(text.get(start..end).unwrap_or(&[]).iter().collect::<String>())
}

fn string_length_schema(_: &dyn Host) -> NodeSchema {
    v3("StringLength", "utils/string", "string")
        .display("Length")
        .extra("display_name", "Length")
        .input(text("string"))
        .output(OutputSpec::named("INT", "length"))
}
fn string_length(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::Int(inputs.str("string")?.chars().count() as i128)))
}

fn case_converter_schema(_: &dyn Host) -> NodeSchema {
    v3("CaseConverter", "utils/string", "string")
        .display("Case Converter")
        .extra("display_name", "Case Converter")
        .input(text("string"))
        .input(choice("mode", ["UPPERCASE", "lowercase", "Capitalize", "Title Case"]))
        .output(OutputSpec::new("STRING"))
}
fn case_converter(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let text = inputs.str("string")?;
    memory::check_text(text.len())?;
    output(match inputs.str("mode")? {
        "UPPERCASE" => text.to_uppercase(),
        "lowercase" => text.to_lowercase(),
        "Capitalize" => capitalized(text),
        "Title Case" => titled(text),
        _ => text.to_owned(),
    })
}

/// A character as it begins a word: of letters that are written with two, only the first is upper case.
fn title_case(character: char) -> impl Iterator<Item = char> {
    let digraph = match character {
        '\u{1c4}'..='\u{1c6}' => Some('\u{1c5}'),
        '\u{1c7}'..='\u{1c9}' => Some('\u{1c8}'),
        '\u{1ca}'..='\u{1cc}' => Some('\u{1cb}'),
        '\u{1f1}'..='\u{1f3}' => Some('\u{1f2}'),
        _ => None,
    };
    let mut upper =
        digraph.map_or_else(|| character.to_uppercase().collect::<Vec<_>>(), |c| vec![c]).into_iter();
    let first = upper.next();
    first.into_iter().chain(upper.flat_map(char::to_lowercase))
}

/// Whether a character has an upper and a lower case.
fn is_cased(character: char) -> bool {
    character.is_uppercase()
        || character.is_lowercase()
        || matches!(character, '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}')
}

/// The first character upper case, the others lower case.
fn capitalized(text: &str) -> String {
    // Lower case of the whole text, so that a sigma at the end of a word is seen as one.
    let lower = text.to_lowercase();
    let Some(first) = text.chars().next() else { return String::new() };
    let skipped: usize = first.to_lowercase().map(char::len_utf8).sum();
    title_case(first).chain(lower.get(skipped..).unwrap_or_default().chars()).collect()
}

/// Every run of letters capitalized, as Python's `title` does.
fn titled(text: &str) -> String {
    let mut inside = false;
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (is_cased(character), inside) {
            (true, false) => result.extend(title_case(character)),
            // The small sigma has another form at the end of a word.
            (true, true) if character == 'Σ' => {
                let ends = !characters.peek().is_some_and(|next| next.is_alphabetic());
                result.push(if ends { 'ς' } else { 'σ' });
            }
            (true, true) => result.extend(character.to_lowercase()),
            (false, _) => result.push(character),
        }
        inside = is_cased(character);
    }
    result
}

fn string_trim_schema(_: &dyn Host) -> NodeSchema {
    v3("StringTrim", "utils/string", "string")
        .display("Trim")
        .extra("display_name", "Trim")
        .input(text("string"))
        .input(choice("mode", ["Both", "Left", "Right"]))
        .output(OutputSpec::new("STRING"))
}
fn string_trim(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let text = inputs.str("string")?;
    output(match inputs.str("mode")? {
        "Both" => text.trim(),
        "Left" => text.trim_start(),
        "Right" => text.trim_end(),
        _ => text,
    })
}

fn string_replace_schema(_: &dyn Host) -> NodeSchema {
    v3("StringReplace", "utils/string", "string")
        .display("Replace")
        .extra("display_name", "Replace")
        .input(text("string"))
        .input(text("find"))
        .input(text("replace"))
        .output(OutputSpec::new("STRING"))
}
fn string_replace(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    output(memory::replace_text(inputs.str("string")?, inputs.str("find")?, inputs.str("replace")?)?)
}

fn string_contains_schema(_: &dyn Host) -> NodeSchema {
    v3("StringContains", "utils/string", "string")
        .display("Contains")
        .extra("display_name", "Contains")
        .input(text("string"))
        .input(text("substring"))
        .input(boolean("case_sensitive", true))
        .output(OutputSpec::named("BOOLEAN", "contains"))
}
fn string_contains(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (text, part) = (inputs.str("string")?, inputs.str("substring")?);
    truth(match inputs.bool("case_sensitive")? {
        true => text.contains(part),
        false => text.to_lowercase().contains(&part.to_lowercase()),
    })
}

fn string_compare_schema(_: &dyn Host) -> NodeSchema {
    v3("StringCompare", "utils/string", "string")
        .display("Compare")
        .extra("display_name", "Compare")
        .input(text("string_a"))
        .input(text("string_b"))
        .input(choice("mode", ["Starts With", "Ends With", "Equal"]))
        .input(boolean("case_sensitive", true))
        .output(OutputSpec::new("BOOLEAN"))
}
fn string_compare(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let fold = |name: &str| -> Result<String, NodeError> {
        let text = inputs.str(name)?;
        Ok(if inputs.bool("case_sensitive")? { text.to_owned() } else { text.to_lowercase() })
    };
    let (a, b) = (fold("string_a")?, fold("string_b")?);
    truth(match inputs.str("mode")? {
        "Equal" => a == b,
        "Starts With" => a.starts_with(&b),
        "Ends With" => a.ends_with(&b),
        other => return Err(NodeError::value(format!("unknown mode '{other}'"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_pythons() {
        for (text, title) in [
            ("they're 3rd x2y", "They'Re 3Rd X2Y"),
            ("ǆ straße ΑΣ ß", "ǅ Straße Ας Ss"),
            ("日本語text", "日本語Text"),
            ("ﬁne", "Fine"),
        ] {
            assert_eq!(titled(text), title);
        }
        assert_eq!(capitalized("ΣΑΣ ΑΣ"), "Σας ας");
        assert_eq!(capitalized(""), "");
    }
}
