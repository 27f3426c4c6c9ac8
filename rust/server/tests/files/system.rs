//! `/system_stats`, `/internal/*`, `/extensions`, `/workflow_templates`, `/i18n`, `/global_subgraphs`.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use rushlight_server::extension::Pack;
use serde_json::{Value, json};

use super::support::{Options, Site};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn system_stats_say_what_frontends_ask() {
    let mut options = Options::default();
    options.settings.argv = vec!["rushlight".into(), "serve".into()];
    let site = Site::with(options).await;
    let stats = site.get("/api/system_stats").await.json();
    let system = &stats["system"];
    assert_eq!(system["comfyui_version"], "0.8.0");
    assert_eq!(system["rushlight_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(system["argv"], json!(["rushlight", "serve"]));
    assert!(system["ram_total"].as_u64().unwrap() >= system["ram_free"].as_u64().unwrap());
    for version in ["python_version", "pytorch_version"] {
        assert_eq!(system[version], "none", "there is no Python here, and clients take this for a text");
    }
    let device = &stats["devices"][0];
    assert_eq!(
        (&device["name"], &device["type"], &device["index"]),
        (&json!("cpu"), &json!("cpu"), &Value::Null)
    );
    let mut keys: Vec<_> = device.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    let expected =
        ["index", "name", "torch_vram_free", "torch_vram_total", "type", "vram_free", "vram_total"];
    assert_eq!(keys, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn internal_routes_show_logs_folders_and_files() {
    let site = Site::start().await;
    site.logs.push("first line");
    site.logs.push("second\u{1b}[31m line");
    let text = site.get("/internal/logs").await.json();
    assert!(text.as_str().unwrap().contains("first line\n"));
    let raw = site.get("/api/internal/logs/raw").await.json();
    assert_eq!(raw["entries"][1]["m"], "second\\u{1b}[31m line\n");
    assert!(raw["size"]["cols"].is_u64());
    let paths = site.get("/internal/folder_paths").await.json();
    // What nodes saved is found as models too.
    assert_eq!(paths["loras"], json!([site.path("models/loras"), site.path("output/loras")]));
    for (name, age) in [("old.png", 100), ("new.png", 1), ("middle.png", 50)] {
        site.put(&format!("output/{name}"), "");
        let time = SystemTime::now() - Duration::from_secs(age);
        std::fs::File::open(site.path(&format!("output/{name}"))).unwrap().set_modified(time).unwrap();
    }
    site.put("output/folder/x.png", "");
    assert_eq!(site.get("/internal/files/output").await.json(), json!(["new.png", "middle.png", "old.png"]));
    assert_eq!(site.get("/internal/files/models").await.status, 400);
    assert_eq!(site.get("/internal/files/..%2F..").await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_lines_reach_subscribed_sockets() {
    let site = Site::start().await;
    let url = format!("ws://{}/ws?clientId=logs-reader", site.server.addr());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let subscribe = |enabled: bool| json!({ "clientId": "logs-reader", "enabled": enabled }).to_string();
    let answer = site.send("PATCH", "/internal/logs/subscribe", &[], subscribe(true).as_bytes()).await;
    assert_eq!(answer.status, 200);
    site.logs.push("told");
    let frame = tokio::time::timeout(Duration::from_secs(5), socket.next()).await.unwrap().unwrap().unwrap();
    let frame: Value = serde_json::from_str(frame.to_text().unwrap()).unwrap();
    assert_eq!((&frame["type"], &frame["data"]["entries"][0]["m"]), (&json!("logs"), &json!("told\n")));
    site.send("PATCH", "/internal/logs/subscribe", &[], subscribe(false).as_bytes()).await;
    site.logs.push("not told");
    assert!(tokio::time::timeout(Duration::from_millis(200), socket.next()).await.is_err());
    assert_eq!(site.send("PATCH", "/internal/logs/subscribe", &[], b"{}").await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_bring_scripts_templates_translations_and_subgraphs() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("web/js/a.js", "export {};");
    put("web/readme.md", "");
    put("secret.py", "");
    put("example_workflows/first.json", r#"{"w":1}"#);
    put("locales/de/main.json", r#"{"hello":"Hallo"}"#);
    put("locales/de/nodeDefs.json", r#"{"Node":{"display_name":"Knoten"}}"#);
    put("locales/fr/main.json", "broken");
    put("subgraphs/one.json", r#"{"g":1}"#);
    let pack = Pack {
        name: "pack one".into(),
        path: folder.path().into(),
        web: Some(folder.path().join("web")),
        ..Pack::default()
    };
    let site = Site::with(Options { packs: vec![pack], ..Options::default() }).await;
    site.put("frontend/extensions/core/b.js", "");

    assert_eq!(
        site.get("/extensions").await.json(),
        json!(["/extensions/core/b.js", "/extensions/pack one/js/a.js"])
    );
    let script = site.get("/extensions/pack%20one/js/a.js").await;
    assert_eq!(script.text(), "export {};");
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(site.get("/extensions/core/b.js").await.status, 200);
    for path in ["..%2Fsecret.py", "js/..%2F..%2Fsecret.py", "js/none.js"] {
        assert!(
            [400, 404].contains(&site.get(&format!("/extensions/pack%20one/{path}")).await.status),
            "{path}"
        );
    }
    assert_eq!(site.get("/workflow_templates").await.json(), json!({ "pack one": ["first"] }));
    assert_eq!(site.get("/api/workflow_templates/pack%20one/first.json").await.json(), json!({ "w": 1 }));
    assert_eq!(
        site.get("/i18n").await.json(),
        json!({ "de": { "hello": "Hallo", "nodeDefs": { "Node": { "display_name": "Knoten" } } } })
    );
    let subgraphs = site.get("/global_subgraphs").await.json();
    let id = subgraphs.as_object().unwrap().keys().next().unwrap();
    assert_eq!(subgraphs[id]["name"], "one");
    let subgraph = site.get(&format!("/global_subgraphs/{id}")).await.json();
    assert_eq!(subgraph["data"], r#"{"g":1}"#);
    let none = site.get("/global_subgraphs/none").await;
    assert_eq!((none.status, none.json()), (200, Value::Null));
}
