//! What packs of nodes bring beside nodes: frontend scripts, workflow templates, translations, subgraphs.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use rushlight_store::folders::listing::Listings;
use rushlight_store::folders::media::mime_of_name;
use rushlight_store::folders::{RelPath, Root};
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::extension::Pack;
use crate::files::{Files, blocking};
use crate::respond::{self, Presentation};
use crate::state::AppState;

/// Names that packs give the folder of their example workflows.
const TEMPLATE_FOLDERS: [&str; 6] =
    ["example_workflows", "example_workflow", "examples", "example", "workflows", "workflow"];
/// Largest file of translations or subgraphs that is read, in bytes.
const MAX_JSON: u64 = 16 << 20;

/// The routes of packs.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/extensions", get(scripts))
        .route("/extensions/{pack}/{*file}", get(script))
        .route("/workflow_templates", get(templates))
        .route("/workflow_templates/{pack}/{*file}", get(template))
        .route("/i18n", get(translations))
        .route("/global_subgraphs", get(subgraphs))
        .route("/global_subgraphs/{id}", get(subgraph))
}

/// Names beneath a folder with an extension. Read anew: these lists are asked for once a page load.
fn names(folder: &std::path::Path, extension: &str) -> Vec<String> {
    let all = Listings::default().files(folder);
    all.iter().filter(|name| name.ends_with(extension)).cloned().collect()
}

async fn scripts(State(state): State<AppState>) -> Result<Json<Vec<String>>, ApiError> {
    blocking(move || {
        let mut urls = Vec::new();
        if let Some(root) = &state.files.frontend.root {
            let own = names(&root.join("extensions"), ".js");
            urls.extend(own.into_iter().map(|name| format!("/extensions/{name}")));
        }
        for pack in state.files.packs() {
            let Some(web) = &pack.web else { continue };
            urls.extend(
                names(web, ".js").into_iter().map(|name| format!("/extensions/{}/{name}", pack.name)),
            );
        }
        Ok(Json(urls))
    })
    .await
}

async fn script(
    State(state): State<AppState>,
    Path((pack, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = RelPath::file(&file)?;
    let (root, path) = match state.files.pack(&pack).and_then(|pack| pack.web) {
        Some(web) => (web, path),
        // The frontend's own scripts are in its folder under the same path.
        None => match &state.files.frontend.root {
            Some(root) => (root.join("extensions"), RelPath::file(&pack)?.join(&path)),
            None => return Err(ApiError::not_found("There is no such pack", format!("{pack:?}"))),
        },
    };
    owned_file(&headers, Files::owned_root(root), path).await
}

/// Sends a file that the server's owner installed, as what its name says: scripts of packs must run.
pub(crate) async fn owned_file(headers: &HeaderMap, root: Root, path: RelPath) -> Result<Response, ApiError> {
    let name = path.file_name().to_owned();
    let file = blocking(move || Ok(root.open_file(&path, &[])?)).await?;
    let content_type = content_type(&name);
    let show = move |_: &[u8]| Presentation { content_type, attachment: false, isolated: false };
    let mut response = respond::file(headers, file, &name, show).await?;
    response.headers_mut().remove(header::CONTENT_DISPOSITION);
    // Always asked again, answered 304 when unchanged: an updated pack shows at once.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn content_type(name: &str) -> String {
    let mime = match name.rsplit_once('.').map(|(_, extension)| extension) {
        // Browsers load modules only as JavaScript.
        Some("js" | "mjs") => "text/javascript".into(),
        _ => mime_of_name(name),
    };
    if mime.starts_with("text/") { format!("{mime}; charset=utf-8") } else { mime }
}

/// The folder of a pack's example workflows.
fn template_folder(pack: &Pack) -> Option<std::path::PathBuf> {
    TEMPLATE_FOLDERS.iter().map(|name| pack.path.join(name)).find(|path| path.is_dir())
}

async fn templates(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    blocking(move || {
        let mut out = Map::new();
        for pack in state.files.packs() {
            let Some(folder) = template_folder(&pack) else { continue };
            let names: Vec<String> = names(&folder, ".json")
                .into_iter()
                .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
                .collect();
            if !names.is_empty() {
                out.insert(pack.name, json!(names));
            }
        }
        Ok(Json(Value::Object(out)))
    })
    .await
}

async fn template(
    State(state): State<AppState>,
    Path((pack, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = RelPath::file(&file)?;
    let folder = state.files.pack(&pack).as_ref().and_then(template_folder);
    let folder =
        folder.ok_or_else(|| ApiError::not_found("There is no such template", format!("{pack:?}")))?;
    owned_file(&headers, Files::owned_root(folder), path).await
}

/// A JSON object of a pack; an absent or broken one is skipped, as a pack's fault is not the server's.
fn read_object(root: &Root, name: &str) -> Option<Map<String, Value>> {
    let file = root.open_file(&RelPath::file(name).ok()?, &[]).ok()?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_JSON), &mut bytes).ok()?;
    serde_json::from_slice(&bytes)
        .inspect_err(|error| tracing::warn!(file = name, %error, "a pack's file is not JSON"))
        .ok()
}

/// Adds what `from` has, object by object.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

async fn translations(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    blocking(move || {
        let mut out = Map::new();
        for pack in state.files.packs() {
            let folder = pack.path.join("locales");
            let Ok(languages) = std::fs::read_dir(&folder) else { continue };
            for language in languages.flatten() {
                let Ok(language) = language.file_name().into_string() else { continue };
                let root = Files::owned_root(folder.join(&language));
                let mut texts = read_object(&root, "main.json").unwrap_or_default();
                for part in ["commands", "settings", "nodeDefs"] {
                    if let Some(object) = read_object(&root, &format!("{part}.json")) {
                        merge(&mut texts, Map::from_iter([(part.to_owned(), Value::Object(object))]));
                    }
                }
                if !texts.is_empty() {
                    merge(&mut out, Map::from_iter([(language, Value::Object(texts))]));
                }
            }
        }
        Ok(Json(Value::Object(out)))
    })
    .await
}

/// A pack's subgraph.
struct Subgraph {
    id: String,
    name: String,
    pack: Pack,
    file: String,
}

fn all_subgraphs(files: &Files) -> Vec<Subgraph> {
    let mut out = Vec::new();
    for pack in files.packs() {
        for file in names(&pack.path.join("subgraphs"), ".json") {
            let name = file.strip_suffix(".json").unwrap_or(&file).to_owned();
            let id = format!("{}-{name}", pack.name).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            out.push(Subgraph { id, name, pack: pack.clone(), file });
        }
    }
    out
}

impl Subgraph {
    fn describe(&self) -> Value {
        json!({ "source": "custom_node", "name": self.name, "info": { "node_pack": self.pack.name } })
    }
}

async fn subgraphs(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    blocking(move || {
        let all = all_subgraphs(&state.files);
        Ok(Json(Value::Object(
            all.iter().map(|subgraph| (subgraph.id.clone(), subgraph.describe())).collect(),
        )))
    })
    .await
}

/// One subgraph with its graph; `null` for an id that is none.
async fn subgraph(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    blocking(move || {
        let all = all_subgraphs(&state.files);
        let Some(subgraph) = all.iter().find(|subgraph| subgraph.id == id) else {
            return Ok(Json(Value::Null));
        };
        let root = Files::owned_root(subgraph.pack.path.join("subgraphs"));
        let Some(object) = read_object(&root, &subgraph.file) else { return Ok(Json(Value::Null)) };
        let mut value = subgraph.describe();
        if let Some(value) = value.as_object_mut() {
            // The frontend takes the graph as text.
            value.insert("data".into(), Value::Object(object).to_string().into());
        }
        Ok(Json(value))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translations_of_packs_are_merged_key_by_key() {
        let object = |value: Value| value.as_object().unwrap().clone();
        let mut into = object(json!({ "a": { "x": 1, "y": 2 }, "b": 1 }));
        merge(&mut into, object(json!({ "a": { "y": 3, "z": 4 }, "b": { "c": 5 } })));
        assert_eq!(Value::Object(into), json!({ "a": { "x": 1, "y": 3, "z": 4 }, "b": { "c": 5 } }));
    }
}
