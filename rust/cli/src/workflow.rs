//! Where a workflow for `run` comes from, and the changes made to it.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

/// A small picture by the embedded checkpoint.
pub const DEFAULT_WORKFLOW: &str = include_str!("../assets/default_workflow.json");

/// Largest text chunk read from a PNG, in bytes, after decompression.
const MAX_PNG_TEXT: usize = 32 << 20;

/// Reads an API-format workflow from a JSON file or a PNG's `prompt` chunk.
///
/// # Errors
/// Names the file, and what was found in place of a workflow.
pub fn read(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png_prompt(&bytes).with_context(|| format!("in {}", path.display()))?
    } else {
        String::from_utf8(bytes).map_err(|_| anyhow!("{} is neither a PNG nor UTF-8 JSON", path.display()))?
    };
    let value: Value = serde_json::from_str(&text)
        .with_context(|| format!("{} does not hold valid JSON", path.display()))?;
    api_format(value).with_context(|| format!("in {}", path.display()))
}

/// The default workflow.
///
/// # Errors
/// Never in a correct build: the text is part of the program.
pub fn default_workflow() -> Result<Value> {
    Ok(serde_json::from_str(DEFAULT_WORKFLOW)?)
}

fn png_prompt(bytes: &[u8]) -> Result<String> {
    let mut decoder =
        png::Decoder::new_with_limits(std::io::Cursor::new(bytes), png::Limits { bytes: MAX_PNG_TEXT });
    decoder.set_ignore_iccp_chunk(true);
    let reader = decoder.read_info().context("damaged PNG")?;
    let info = reader.info();
    let plain = info
        .uncompressed_latin1_text
        .iter()
        .find(|chunk| chunk.keyword == "prompt")
        .map(|chunk| chunk.text.clone());
    if let Some(text) = plain {
        return Ok(text);
    }
    let international = info.utf8_text.iter().find(|chunk| chunk.keyword == "prompt");
    match international {
        Some(chunk) => chunk.get_text().context("damaged text chunk `prompt`"),
        None => {
            bail!("the PNG carries no `prompt` chunk (was it saved with --disable-metadata, or re-encoded?)")
        }
    }
}

/// Takes the API format out of what clients save: the graph itself, or a `POST /prompt` body around it.
fn api_format(value: Value) -> Result<Value> {
    let Value::Object(mut object) = value else { bail!("a workflow is a JSON object") };
    if let Some(Value::Object(prompt)) = object.remove("prompt") {
        return Ok(Value::Object(prompt));
    }
    if object.contains_key("nodes") && object.contains_key("links") {
        bail!(
            "this is the editor's format; export it with “Export (API)” in the frontend, or pass a picture that was \
             saved by a run"
        );
    }
    Ok(Value::Object(object))
}

/// Applies one `NODE.INPUT=VALUE`. VALUE is JSON if it parses as JSON, else text.
///
/// # Errors
/// Names the part that does not fit, and what there is.
pub fn set_input(workflow: &mut Value, assignment: &str) -> Result<()> {
    let (target, text) =
        assignment.split_once('=').ok_or_else(|| anyhow!("--set {assignment}: expected NODE.INPUT=VALUE"))?;
    let (node, input) = target
        .rsplit_once('.')
        .ok_or_else(|| anyhow!("--set {assignment}: expected NODE.INPUT before the `=`"))?;
    let nodes = workflow.as_object_mut().ok_or_else(|| anyhow!("a workflow is a JSON object"))?;
    let id = find_node(nodes, node)?;
    let inputs = nodes
        .get_mut(&id)
        .and_then(|node| node.get_mut("inputs"))
        .and_then(Value::as_object_mut)
        .ok_or_else(|| anyhow!("node {id} has no inputs"))?;
    if !inputs.contains_key(input) {
        let known: Vec<_> = inputs.keys().map(String::as_str).collect();
        bail!("node {id} has no input `{input}`; it has: {}", known.join(", "));
    }
    // A text input takes what was typed even where that happens to be JSON (`--set 6.text=7`).
    let is_text = matches!(inputs.get(input), Some(Value::String(_)));
    let value = match serde_json::from_str(text) {
        Ok(value) if !is_text || matches!(value, Value::String(_) | Value::Array(_)) => value,
        _ => Value::from(text),
    };
    inputs.insert(input.to_owned(), value);
    Ok(())
}

fn find_node(nodes: &Map<String, Value>, name: &str) -> Result<String> {
    if nodes.contains_key(name) {
        return Ok(name.to_owned());
    }
    let matches: Vec<&String> = nodes
        .iter()
        .filter(|(_, node)| {
            let title = node.get("_meta").and_then(|meta| meta.get("title")).and_then(Value::as_str);
            let class = node.get("class_type").and_then(Value::as_str);
            title == Some(name) || class == Some(name)
        })
        .map(|(id, _)| id)
        .collect();
    match matches.as_slice() {
        [only] => Ok((*only).clone()),
        [] => {
            let known: Vec<String> = nodes
                .iter()
                .map(|(id, node)| {
                    format!("{id} ({})", node.get("class_type").and_then(Value::as_str).unwrap_or("?"))
                })
                .collect();
            bail!("no node `{name}`; there are: {}", known.join(", "))
        }
        several => bail!(
            "`{name}` names several nodes, use an id: {}",
            several.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow() -> Value {
        default_workflow().unwrap()
    }

    #[test]
    fn the_default_workflow_is_a_graph_with_an_output() {
        let classes: Vec<String> = workflow()
            .as_object()
            .unwrap()
            .values()
            .map(|node| node["class_type"].as_str().unwrap().to_owned())
            .collect();
        assert!(classes.contains(&"SaveImage".to_owned()), "{classes:?}");
    }

    #[test]
    fn inputs_are_set_by_id_and_by_unique_class() {
        let mut graph = workflow();
        set_input(&mut graph, "KSampler.seed=42").unwrap();
        set_input(&mut graph, "6.text=a blue star = nice").unwrap();
        assert_eq!(graph["3"]["inputs"]["seed"], 42);
        assert_eq!(graph["6"]["inputs"]["text"], "a blue star = nice");
    }

    #[test]
    fn a_text_input_keeps_a_number_as_text() {
        let mut graph = workflow();
        set_input(&mut graph, "6.text=7").unwrap();
        assert_eq!(graph["6"]["inputs"]["text"], "7");
    }

    #[test]
    fn wrong_names_say_what_there_is() {
        let mut graph = workflow();
        let error = set_input(&mut graph, "CLIPTextEncode.text=x").unwrap_err().to_string();
        assert!(error.contains("several nodes") && error.contains('6') && error.contains('7'), "{error}");
        let error = set_input(&mut graph, "3.sede=1").unwrap_err().to_string();
        assert!(error.contains("seed"), "{error}");
        let error = set_input(&mut graph, "99.seed=1").unwrap_err().to_string();
        assert!(error.contains("3 (KSampler)"), "{error}");
    }

    #[test]
    fn the_editor_format_is_refused_with_advice() {
        let error = api_format(serde_json::json!({"nodes": [], "links": []})).unwrap_err().to_string();
        assert!(error.contains("Export (API)"), "{error}");
    }
}
