//! `/models`, `/embeddings`, `/view_metadata`, `/experiment/models`.

use serde_json::{Value, json};

use super::support::{Options, Site, png};

fn safetensors(metadata: &str) -> Vec<u8> {
    let header = format!("{{\"__metadata__\":{metadata}}}");
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_and_their_models_are_listed() {
    let site = Site::start().await;
    site.put("models/checkpoints/sub/b.ckpt", "b");
    site.put("models/clip/c.safetensors", "c");
    site.put("models/checkpoints/readme.txt", "");
    let keys = site.get("/models").await.json();
    let expected = [
        "checkpoints",
        "configs",
        "loras",
        "vae",
        "text_encoders",
        "diffusion_models",
        "clip_vision",
        "style_models",
        "embeddings",
        "diffusers",
        "vae_approx",
        "controlnet",
        "gligen",
        "upscale_models",
        "latent_upscale_models",
        "custom_nodes",
        "hypernetworks",
        "photomaker",
        "classifiers",
        "model_patches",
        "audio_encoders",
    ];
    assert_eq!(keys, json!(expected));
    let names = site.get("/api/models/checkpoints").await.json();
    assert_eq!(names, json!(["sub/b.ckpt", "tiny.safetensors"]), "the embedded model is listed, text is not");
    assert_eq!(site.get("/models/clip").await.json(), json!(["c.safetensors"]), "an older key still works");
    assert_eq!(site.get("/models/nonsense").await.status, 404);
    assert_eq!(site.get("/models/..%2F..").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embeddings_have_no_extension() {
    let site = Site::start().await;
    site.put("models/embeddings/easy.v1.pt", "");
    site.put("models/embeddings/sub/neg.safetensors", "");
    assert_eq!(site.get("/embeddings").await.json(), json!(["easy.v1", "sub/neg"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extra_model_paths_are_read() {
    let files = vec![
        ("extra_model_paths.yaml", "mine:\n  base_path: elsewhere\n  loras: l\n  new_key: n\n"),
        ("elsewhere/l/x.safetensors", ""),
        ("elsewhere/n/y.pt", ""),
    ];
    let site = Site::with(Options { files, ..Options::default() }).await;
    assert_eq!(site.get("/models/loras").await.json(), json!(["x.safetensors"]));
    assert_eq!(site.get("/models/new_key").await.json(), json!(["y.pt"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_safetensors_is_shown() {
    let site = Site::start().await;
    site.put("models/loras/a.safetensors", safetensors(r#"{"ss_base":"sd1"}"#));
    site.put("models/loras/none.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    site.put("models/loras/lies.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}");
    let metadata = |folder: &'static str, name: &'static str| {
        let site = &site;
        async move { site.get(&format!("/view_metadata/{folder}?filename={name}")).await }
    };
    assert_eq!(metadata("loras", "a.safetensors").await.json(), json!({ "ss_base": "sd1" }));
    assert_eq!(metadata("checkpoints", "tiny.safetensors").await.json(), json!({ "origin": "program" }));
    for name in ["none.safetensors", "lies.safetensors", "missing.safetensors", "a.ckpt"] {
        assert_eq!(metadata("loras", name).await.status, 404, "{name}");
    }
    assert_eq!(metadata("loras", "..%2Fa.safetensors").await.status, 400);
    assert_eq!(site.get("/view_metadata/loras").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_browser_gets_folders_files_and_previews() {
    let site = Site::start().await;
    site.put("models/loras/sub/a.safetensors", "12345");
    site.put("models/loras/sub/a.preview.png", png(6, 4, [1, 2, 3, 255]));
    let folders = site.get("/experiment/models").await.json();
    let names: Vec<_> = folders.as_array().unwrap().iter().map(|folder| folder["name"].clone()).collect();
    assert!(names.contains(&json!("loras")) && !names.contains(&json!("custom_nodes")));
    let files = site.get("/experiment/models/loras").await.json();
    let [Value::Object(file)] = files.as_array().unwrap().as_slice() else { panic!("{files}") };
    assert_eq!(file["name"], "sub/a.safetensors");
    assert_eq!((&file["pathIndex"], &file["size"]), (&json!(0), &json!(5)));
    assert!(file["modified"].as_f64().unwrap() > 1.6e9);
    let preview = site.get("/experiment/models/preview/loras/0/sub/a.safetensors").await;
    assert_eq!(preview.header("content-type"), Some("image/webp"));
    assert_eq!(preview.image().width(), 6);
    for path in ["loras/0/sub/b.safetensors", "loras/7/sub/a.safetensors", "nonsense/0/a"] {
        assert_eq!(site.get(&format!("/experiment/models/preview/{path}")).await.status, 404, "{path}");
    }
    assert_eq!(site.get("/experiment/models/preview/loras/0/..%2Fa").await.status, 400);
    assert_eq!(site.get("/experiment/models/nonsense").await.status, 404);
}
