//! `/users`, `/userdata`, `/settings`.

use serde_json::{Value, json};

use super::support::{Options, Site};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_written_read_moved_and_removed() {
    let site = Site::start().await;
    let path = "/userdata/workflows%2Fa%20b.json";
    assert_eq!(site.post(path, r#"{"x":1}"#).await.json(), json!("workflows/a b.json"));
    assert_eq!(site.read("user/default/workflows/a b.json"), br#"{"x":1}"#);
    let read = site.get(&format!("/api{path}")).await;
    assert_eq!(read.json(), json!({ "x": 1 }));
    assert_eq!(read.header("content-type"), Some("application/json"));
    read.assert_download();
    assert_eq!(site.post(&format!("{path}?overwrite=false"), "{}").await.status, 409);
    let info = site.post(&format!("{path}?overwrite=true&full_info=true"), "{}").await.json();
    assert_eq!((&info["path"], &info["size"]), (&json!("workflows/a b.json"), &json!(2)));
    let modified = info["modified"].as_f64().unwrap();
    assert!((1.6e9..1e11).contains(&modified), "seconds: {modified}");
    let moved = site.post(&format!("{path}/move/other%2Fc.json"), "").await;
    assert_eq!(moved.json(), json!("other/c.json"));
    assert_eq!(site.get(path).await.status, 404);
    assert_eq!(site.post("/userdata/none/move/d", "").await.status, 404);
    site.post("/userdata/d.json", "d").await;
    assert_eq!(site.post("/userdata/d.json/move/other%2Fc.json?overwrite=false", "").await.status, 409);
    assert_eq!(site.get("/userdata/d.json").await.text(), "d", "a refused move changes nothing");
    let removed = site.send("DELETE", "/userdata/other%2Fc.json", &[], b"").await;
    assert_eq!((removed.status, removed.body.len()), (204, 0));
    assert_eq!(site.send("DELETE", "/userdata/other%2Fc.json", &[], b"").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_are_listed_in_every_form() {
    let site = Site::start().await;
    site.put("user/default/w/a.json", "1");
    site.put("user/default/w/sub/b.json", "22");
    let list = |query: &'static str| {
        let site = &site;
        async move { site.get(&format!("/userdata?{query}")).await }
    };
    assert_eq!(list("dir=w").await.json(), json!(["a.json"]));
    assert_eq!(list("dir=w&recurse=true").await.json(), json!(["a.json", "sub/b.json"]));
    let split = list("dir=w&recurse=true&split=true").await.json();
    assert_eq!(split, json!([["a.json", "a.json"], ["sub/b.json", "sub", "b.json"]]));
    let full = list("dir=w&recurse=true&full_info=true").await.json();
    assert_eq!((&full[1]["path"], &full[1]["size"]), (&json!("sub/b.json"), &json!(2)));
    assert!(full[1]["created"].is_f64());
    assert_eq!(list("").await.status, 400);
    assert_eq!(list("dir=..").await.status, 403);
    let entries = site.get("/v2/userdata?path=w").await.json();
    assert_eq!(entries[0], json!({ "name": "sub", "path": "w/sub", "type": "directory" }), "folders first");
    let (name, path, kind) = (&entries[1]["name"], &entries[1]["path"], &entries[1]["type"]);
    assert_eq!((name, path, kind), (&json!("a.json"), &json!("w/a.json"), &json!("file")));
    assert_eq!((&entries[2]["name"], &entries[2]["path"]), (&json!("b.json"), &json!("w/sub/b.json")));
    assert_eq!(site.get("/v2/userdata?path=..").await.status, 400);
    assert_eq!(site.get("/v2/userdata?path=none").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_saved_nothing_has_empty_lists() {
    let site = Site::start().await;
    assert_eq!(site.get("/v2/userdata").await.json(), json!([]));
    assert_eq!(site.get("/settings").await.json(), json!({}));
    assert_eq!(site.get("/settings/Comfy.Locale").await.json(), Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_merged_and_kept_on_disk() {
    let site = Site::start().await;
    assert_eq!(site.post("/settings", r#"{"a":1,"b":{"c":2}}"#).await.status, 200);
    assert_eq!(site.post("/settings/a", "[3]").await.status, 200);
    assert_eq!(site.get("/api/settings").await.json(), json!({ "a": [3], "b": { "c": 2 } }));
    assert_eq!(site.get("/settings/b").await.json(), json!({ "c": 2 }));
    let kept: Value = serde_json::from_slice(&site.read("user/default/comfy.settings.json")).unwrap();
    assert_eq!(kept["a"], json!([3]));
    assert_eq!(site.post("/settings", "[]").await.status, 400);
    let changes: Vec<_> = (0..20).map(|i| format!("{{\"k{i}\":{i}}}")).collect();
    futures_util::future::join_all(changes.iter().map(|change| site.post("/settings", change))).await;
    assert_eq!(site.get("/settings").await.json().as_object().unwrap().len(), 22, "no change is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_needs_no_name_and_several_have_folders_of_their_own() {
    let site = Site::start().await;
    assert_eq!(site.get("/users").await.json(), json!({ "storage": "server", "migrated": true }));
    assert_eq!(site.post("/users", r#"{"username":"ann"}"#).await.status, 400);

    let mut options = Options::default();
    options.settings.multi_user = true;
    let site = Site::with(options).await;
    let ann = site.post("/users", r#"{"username":"ann"}"#).await.json().as_str().unwrap().to_owned();
    let bob = site.post("/users", r#"{"username":"bob"}"#).await.json().as_str().unwrap().to_owned();
    assert_eq!(site.post("/users", r#"{"username":"ann"}"#).await.refusal(), "duplicate_username");
    assert_eq!(site.post("/users", r#"{"username":""}"#).await.refusal(), "bad_username");
    let users = site.get("/users").await.json();
    assert_eq!(users["users"][&ann], "ann");
    let wrote = site.send("POST", "/userdata/a.json", &[("comfy-user", &ann)], b"1").await;
    assert_eq!(wrote.status, 200);
    let read = |user: String| {
        let site = &site;
        async move { site.send("GET", "/userdata/a.json", &[("comfy-user", &user)], b"").await.status }
    };
    assert_eq!(read(ann).await, 200);
    assert_eq!(read(bob).await, 404);
    for user in ["nobody", "default", "../x", "__system"] {
        assert_eq!(read(user.to_owned()).await, 403, "{user}");
    }
}
