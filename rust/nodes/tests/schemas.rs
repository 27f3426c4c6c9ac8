//! Every native schema equals the recorded one, to the key.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bytes::Bytes;
use rushlight_runtime::host::{HostError, ModelSource, SaveRequest, SavedFile};
use rushlight_runtime::{Host, Registry};
use serde_json::{Map, Value, json};

/// A host with no files and no models.
struct Empty;

impl Host for Empty {
    fn model_names(&self, _folder: &str) -> Vec<String> {
        Vec::new()
    }

    fn model(&self, _folder: &str, name: &str) -> Result<ModelSource, HostError> {
        Err(HostError::NotFound { what: "model".into(), name: name.into() })
    }

    fn input_names(&self, _kinds: &[&str]) -> Vec<String> {
        Vec::new()
    }

    fn read(&self, name: &str) -> Result<Bytes, HostError> {
        Err(HostError::NotFound { what: "file".into(), name: name.into() })
    }

    fn fingerprint(&self, name: &str) -> Result<String, HostError> {
        Err(HostError::NotFound { what: "file".into(), name: name.into() })
    }

    fn save(&self, _request: &SaveRequest<'_>, _bytes: &[u8]) -> Result<SavedFile, HostError> {
        Err(HostError::Refused { name: String::new(), reason: "no files here".into() })
    }
}

/// Inputs that list files: what was recorded depends on the disk it was recorded on.
const FILE_LISTS: &[(&str, &str)] = &[("LoadImage", "image"), ("LoadImageMask", "image")];

fn recorded() -> Map<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/object_info/core-0.8.0.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_native_schema_equals_the_recorded_one() {
    let mut recorded = recorded();
    for (class, input) in FILE_LISTS {
        recorded[*class]["input"]["required"][*input][0] = json!([]);
    }
    let mut registry = Registry::new();
    rushlight_nodes::register(&mut registry);
    let mut differences = Vec::new();
    for (class, node) in registry.iter() {
        let ours = node.schema(&Empty).to_object_info();
        let Some(theirs) = recorded.get(class.as_ref()).and_then(Value::as_object) else {
            differences.push(format!("{class}: not a class of the original"));
            continue;
        };
        for (key, value) in theirs {
            if ours.get(key) != Some(value) {
                let ours = ours.get(key).unwrap_or(&Value::Null);
                differences.push(format!("{class}.{key}\n  ours:   {ours}\n  theirs: {value}"));
            }
        }
    }
    eprintln!("{} native classes of {}", registry.iter().count(), recorded.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
