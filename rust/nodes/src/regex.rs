//! Regular expressions, in Python's syntax as far as it is shared.

use fancy_regex::{Captures, Regex, RegexBuilder};

use crate::memory;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "RegexMatch", regex_match_schema, regex_match);
    add(registry, "RegexExtract", regex_extract_schema, regex_extract);
    add(registry, "RegexReplace", regex_replace_schema, regex_replace);
}

/// Steps that a match may take before it is given up: keeps a hostile pattern from holding the server.
const BACKTRACKS: usize = 10_000_000;

/// Matches that are looked for in one text.
const MAX_MATCHES: usize = 1 << 20;

/// The pattern of the inputs with its flags; missing flags are off.
fn pattern(inputs: &Inputs) -> Result<Regex, NodeError> {
    let flag = |name: &str| -> Result<bool, NodeError> {
        if inputs.present(name).is_some() { inputs.bool(name) } else { Ok(false) }
    };
    let pattern = inputs.str("regex_pattern")?;
    // Python's end-of-text anchor has another name here.
    let translated = pattern.replace("\\Z", "\\z");
    RegexBuilder::new(&translated)
        .case_insensitive(flag("case_insensitive")?)
        .multi_line(flag("multiline")?)
        .dot_matches_new_line(flag("dotall")?)
        .backtrack_limit(BACKTRACKS)
        .build()
        .map_err(|error| {
            NodeError::new("re.error", format!("invalid regular expression '{pattern}': {error}"))
        })
}

fn failed(error: fancy_regex::Error) -> NodeError {
    NodeError::new("RuntimeError", format!("the regular expression could not be matched: {error}"))
}

fn regex_match_schema(_: &dyn Host) -> NodeSchema {
    v3("RegexMatch", "utils/string", "string")
        .display("Regex Match")
        .extra("display_name", "Regex Match")
        .input(text("string"))
        .input(text("regex_pattern"))
        .input(boolean("case_insensitive", true))
        .input(boolean("multiline", false))
        .input(boolean("dotall", false))
        .output(OutputSpec::named("BOOLEAN", "matches"))
}
fn regex_match(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    // A pattern that cannot be compiled matches nothing.
    let Ok(pattern) = pattern(inputs) else { return Ok(NodeOutput::one(Value::Bool(false))) };
    Ok(NodeOutput::one(Value::Bool(pattern.is_match(inputs.str("string")?).map_err(failed)?)))
}

fn group(captures: &Captures<'_>, index: usize) -> String {
    captures.get(index).map(|found| found.as_str().to_owned()).unwrap_or_default()
}

fn regex_extract_schema(_: &dyn Host) -> NodeSchema {
    v3("RegexExtract", "utils/string", "string")
        .display("Regex Extract")
        .extra("display_name", "Regex Extract")
        .input(text("string"))
        .input(text("regex_pattern"))
        .input(choice("mode", ["First Match", "All Matches", "First Group", "All Groups"]))
        .input(boolean("case_insensitive", true))
        .input(boolean("multiline", false))
        .input(boolean("dotall", false))
        .input(int("group_index", 1, 0, 100))
        .output(OutputSpec::new("STRING"))
}
fn regex_extract(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let text = inputs.str("string")?;
    let Ok(pattern) = pattern(inputs) else { return Ok(NodeOutput::one(Value::String("".into()))) };
    let index = inputs.size("group_index")?;
    let found = matches(&pattern, text, 0)?;
    let last_group = pattern.captures_len().saturating_sub(1);
    let all = |pick: &dyn Fn(&Captures<'_>) -> String| -> Result<String, NodeError> {
        let mut joined = String::new();
        for (index, captures) in found.iter().enumerate() {
            if index > 0 {
                joined.push('\n');
            }
            joined.push_str(&pick(captures));
            memory::check_text(joined.len())?;
        }
        Ok(joined)
    };
    let result = match inputs.str("mode")? {
        "First Match" => found.first().map(|captures| group(captures, 0)).unwrap_or_default(),
        // What Python's `findall` gives: groups where there are any.
        "All Matches" => all(&|captures| group(captures, usize::from(last_group > 0)))?,
        "First Group" if index <= last_group => {
            found.first().map(|captures| group(captures, index)).unwrap_or_default()
        }
        "All Groups" if index <= last_group => all(&|captures| group(captures, index))?,
        _ => String::new(),
    };
    Ok(NodeOutput::one(Value::String(result.into())))
}

/// What Python's replacement template stands for: `\1`, `\g<1>`, `\g<name>`, `\n`, `\t`, `\\`.
fn expand(template: &str, captures: &Captures<'_>) -> String {
    let mut result = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('\\') {
        result.push_str(before);
        if let Some((name, tail)) = after.strip_prefix("g<").and_then(|named| named.split_once('>')) {
            let found = match name.parse::<usize>() {
                Ok(index) => captures.get(index),
                Err(_) => captures.name(name),
            };
            result.push_str(found.map_or("", |found| found.as_str()));
            rest = tail;
            continue;
        }
        let digits = after.bytes().take(2).take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            let (number, tail) = after.split_at(digits);
            result.push_str(&group(captures, number.parse().unwrap_or(usize::MAX)));
            rest = tail;
            continue;
        }
        let mut characters = after.chars();
        match characters.next() {
            Some('n') => result.push('\n'),
            Some('t') => result.push('\t'),
            Some('r') => result.push('\r'),
            Some('\\') => result.push('\\'),
            Some(other) => result.extend(['\\', other]),
            None => result.push('\\'),
        }
        rest = characters.as_str();
    }
    result + rest
}

fn regex_replace_schema(_: &dyn Host) -> NodeSchema {
    v3("RegexReplace", "utils/string", "string")
        .display("Regex Replace")
        .extra("display_name", "Regex Replace")
        .input(text("string"))
        .input(text("regex_pattern"))
        .input(text("replace"))
        .input(boolean("case_insensitive", true).optional())
        .input(boolean("multiline", false).optional())
        .input(boolean("dotall", false).optional())
        .input(int("count", 0, 0, 100).optional())
        .output(OutputSpec::new("STRING"))
}
fn regex_replace(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (text, template) = (inputs.str("string")?, inputs.str("replace")?);
    let count = if inputs.present("count").is_some() { inputs.size("count")? } else { 0 };
    let replaced = replace(&pattern(inputs)?, text, template, count)?;
    Ok(NodeOutput::one(Value::String(replaced.into())))
}

/// The first `count` matches (all if 0). As in Python, an empty match may follow another match directly.
fn matches<'t>(pattern: &Regex, text: &'t str, count: usize) -> Result<Vec<Captures<'t>>, NodeError> {
    let mut found = Vec::new();
    let mut from = 0;
    while (count == 0 || found.len() < count) && from <= text.len() {
        if found.len() >= MAX_MATCHES {
            return Err(NodeError::new(
                "MemoryError",
                format!("the regular expression has more than {MAX_MATCHES} matches"),
            ));
        }
        let Some(captures) = pattern.captures_from_pos(text, from).map_err(failed)? else { break };
        let Some(whole) = captures.get(0) else { break };
        from = whole.end();
        if whole.as_str().is_empty() {
            from += text.get(from..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
        }
        found.push(captures);
    }
    Ok(found)
}

/// The text with the first `count` matches (all if 0) replaced.
fn replace(pattern: &Regex, text: &str, template: &str, count: usize) -> Result<String, NodeError> {
    let mut result = String::with_capacity(text.len());
    let mut copied = 0;
    for captures in matches(pattern, text, count)? {
        let Some(whole) = captures.get(0) else { continue };
        result.push_str(text.get(copied..whole.start()).unwrap_or_default());
        result.push_str(&expand(template, &captures));
        copied = whole.end();
        memory::check_text(result.len())?;
    }
    result.push_str(text.get(copied..).unwrap_or_default());
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacement_templates_are_pythons() {
        let pattern = Regex::new(r"(?<first>\w+) (\w+)").unwrap();
        let captures = pattern.captures("ab cd").unwrap().unwrap();
        assert_eq!(expand(r"\2-\g<first>\n\\1", &captures), "cd-ab\n\\1");
    }

    #[test]
    fn empty_matches_may_follow_others() {
        let pattern = Regex::new("x*").unwrap();
        assert_eq!(replace(&pattern, "x2y", "-", 0).unwrap(), "--2-y-");
        assert_eq!(replace(&pattern, "ax", "-", 2).unwrap(), "-a-");
    }
}
