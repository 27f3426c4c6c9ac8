//! What is kept of a prompt when it has ended: its history entry, and its summary for `/api/jobs`.

use indexmap::IndexMap;
use rushlight_protocol::{Event, HistoryEntry, QueueItem};
use rushlight_runtime::Outcome;
use rushlight_store::records::{FinishedPrompt, JobKey};
use serde_json::{Map, Value, json};

/// When a prompt ran, in ms since the epoch.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// It began.
    pub started: i64,
    /// It ended.
    pub ended: i64,
}

/// The rows of a prompt that has ended. An interrupted one is `cancelled` if that is what its client asked for.
pub fn finished(item: &QueueItem, outcome: Outcome, times: Times, cancelled: bool) -> FinishedPrompt {
    let status = match &outcome.terminal {
        Event::ExecutionSuccess { .. } => "completed",
        Event::ExecutionInterrupted { .. } if cancelled => "cancelled",
        _ => "failed",
    };
    let mut job = summary(item, status);
    job.insert("execution_start_time".into(), times.started.into());
    job.insert("execution_end_time".into(), times.ended.into());
    if let Event::ExecutionError(_) = &outcome.terminal {
        job.insert("execution_error".into(), outcome.terminal.data());
    }
    job.insert("outputs_count".into(), count_outputs(&outcome.outputs).into());
    if let Some(preview) = preview_output(&outcome.outputs) {
        job.insert("preview_output".into(), preview);
    }
    let key = JobKey {
        prompt_id: item.prompt_id().into(),
        status: status.into(),
        created: create_time(item).unwrap_or(times.started),
        duration: times.ended - times.started,
        workflow_id: workflow_id(item).map(str::to_owned),
    };
    let entry = HistoryEntry {
        prompt: item.clone(),
        outputs: outcome.outputs,
        status: outcome.status,
        meta: outcome.meta,
    };
    FinishedPrompt {
        prompt_id: item.prompt_id().into(),
        // A record of strings and JSON always serialises.
        entry: serde_json::to_string(&entry).unwrap_or_else(|_| "{}".into()),
        job: Value::Object(job).to_string(),
        key,
    }
}

/// The keys of a job that every status has.
pub fn summary(item: &QueueItem, status: &str) -> Map<String, Value> {
    let mut job = Map::new();
    job.insert("id".into(), item.prompt_id().into());
    job.insert("status".into(), status.into());
    job.insert("priority".into(), item.number().clone().into());
    if let Some(created) = create_time(item) {
        job.insert("create_time".into(), created.into());
    }
    if let Some(id) = workflow_id(item) {
        job.insert("workflow_id".into(), id.into());
    }
    job
}

/// When a prompt was queued, in ms since the epoch.
pub fn create_time(item: &QueueItem) -> Option<i64> {
    item.extra_data().get("create_time").and_then(Value::as_i64)
}

/// `extra_data.extra_pnginfo.workflow.id`.
pub fn workflow_id(item: &QueueItem) -> Option<&str> {
    item.extra_data().get("extra_pnginfo")?.get("workflow")?.get("id")?.as_str()
}

/// Lists of a UI output that hold no items of their own.
const NOT_OUTPUTS: &[&str] = &["animated", "text"];

fn count_outputs(outputs: &IndexMap<String, Value>) -> usize {
    let lists = outputs.values().filter_map(Value::as_object).flatten();
    lists
        .filter(|(kind, _)| !NOT_OUTPUTS.contains(&kind.as_str()))
        .filter_map(|(_, items)| items.as_array())
        .map(|items| items.iter().filter(|item| item.is_object()).count())
        .sum()
}

/// The first item that can be shown: of type `output` if there is one, else any.
fn preview_output(outputs: &IndexMap<String, Value>) -> Option<Value> {
    let mut fallback = None;
    for (node, ui) in outputs {
        for (kind, items) in ui.as_object().into_iter().flatten() {
            for item in items.as_array().into_iter().flatten() {
                let Some(map) = item.as_object() else { continue };
                if !is_previewable(kind, map) {
                    continue;
                }
                let mut preview = map.clone();
                preview.insert("nodeId".into(), json!(node));
                preview.insert("mediaType".into(), json!(kind));
                if map.get("type").and_then(Value::as_str) == Some("output") {
                    return Some(Value::Object(preview));
                }
                fallback.get_or_insert(Value::Object(preview));
            }
        }
    }
    fallback
}

fn is_previewable(kind: &str, item: &Map<String, Value>) -> bool {
    const THREE_D: &[&str] = &[".obj", ".fbx", ".gltf", ".glb", ".stl", ".usdz"];
    let format = item.get("format").and_then(Value::as_str).unwrap_or("");
    let name = item.get("filename").and_then(Value::as_str).unwrap_or("").to_ascii_lowercase();
    matches!(kind, "images" | "video" | "audio")
        || format.starts_with("video/")
        || format.starts_with("audio/")
        || THREE_D.iter().any(|extension| name.ends_with(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(outputs: Value) -> Option<(String, String)> {
        let outputs: IndexMap<String, Value> = serde_json::from_value(outputs).unwrap();
        let preview = preview_output(&outputs)?;
        let text = |key: &str| preview[key].as_str().unwrap().to_owned();
        Some((text("filename"), text("nodeId") + "." + &text("mediaType")))
    }

    #[test]
    fn a_job_shows_the_first_saved_output_that_can_be_seen_or_heard() {
        let item = |name: &str, folder: &str| json!([{"filename": name, "type": folder}]);
        let is = |name: &str, place: &str| Some((name.to_owned(), place.to_owned()));
        // What was saved comes before previews, which serve when there is nothing else.
        let outputs =
            json!({"1": {"images": item("t.png", "temp")}, "2": {"audio": item("a.flac", "output")}});
        assert_eq!(shown(outputs), is("a.flac", "2.audio"));
        assert_eq!(shown(json!({"1": {"images": item("t.png", "temp")}})), is("t.png", "1.images"));
        assert_eq!(shown(json!({"1": {"video": item("v.webm", "output")}})), is("v.webm", "1.video"));
        let gifs = json!([{"filename": "v.mp4", "type": "output", "format": "video/h264-mp4"}]);
        assert_eq!(shown(json!({"1": {"gifs": gifs}})), is("v.mp4", "1.gifs"));
        assert_eq!(shown(json!({"1": {"3d": item("m.GLB", "output")}})), is("m.GLB", "1.3d"));
        assert_eq!(shown(json!({"1": {"text": ["a"], "files": item("a.json", "output")}})), None);
    }
}
