//! The prompts that are queued. All but those of bench nodes run on the original server too.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::http::Http;

/// A node in API format.
pub fn node(class: &str, inputs: Value) -> Value {
    json!({ "class_type": class, "inputs": inputs })
}

/// The body of `POST /prompt`.
pub fn body(prompt: &Value, client_id: Option<&str>) -> String {
    let mut body = json!({ "prompt": prompt });
    if let Some(id) = client_id {
        body["client_id"] = id.into();
    }
    body.to_string()
}

/// The body for a prompt of one bench node.
pub fn bench(class: &str, inputs: Value, client_id: Option<&str>) -> String {
    body(&json!({ "1": node(class, inputs) }), client_id)
}

/// A number, shown: two nodes that do nothing. Each seed is another prompt, so that nothing is cached.
pub fn trivial(seed: usize) -> Value {
    json!({
        "1": node("PrimitiveInt", json!({ "value": seed })),
        "2": node("PreviewAny", json!({ "source": ["1", 0] })),
    })
}

/// `nodes` nodes in `chains` chains, each ending in `end` (an output node with its further inputs, which is given
/// the chain's picture as `input`). Pictures have one pixel.
pub fn chains(nodes: usize, chains: usize, seed: usize, end: &str, input: &str) -> Value {
    let mut prompt = Map::new();
    for chain in 0..chains {
        let color = (seed * chains + chain) % 0xff_ffff;
        let empty = json!({ "width": 1, "height": 1, "batch_size": 1, "color": color });
        prompt.insert(format!("{chain}_0"), node("EmptyImage", empty));
        let length = nodes / chains - 1;
        for index in 1..length {
            let inputs = json!({ "image": [format!("{chain}_{}", index - 1), 0] });
            prompt.insert(format!("{chain}_{index}"), node("ImageInvert", inputs));
        }
        let mut inputs = Map::new();
        inputs.insert(input.to_owned(), json!([format!("{chain}_{}", length - 1), 0]));
        prompt.insert(format!("{chain}_end"), node(end, Value::Object(inputs)));
    }
    Value::Object(prompt)
}

/// Chains that are looked at in full and then refused, because `SaveImage` has no prefix.
pub fn refused(nodes: usize, count: usize, seed: usize) -> Value {
    chains(nodes, count, seed, "SaveImage", "images")
}

/// Chains that run.
pub fn running(nodes: usize, count: usize, seed: usize) -> Value {
    chains(nodes, count, seed, "PreviewAny", "source")
}

/// Blurs of a picture, one after the other: seconds of work.
pub fn computing(seed: usize) -> Value {
    let mut prompt = Map::new();
    let empty = json!({ "width": 256, "height": 256, "batch_size": 1, "color": seed });
    prompt.insert("0".into(), node("EmptyImage", empty));
    let blurs = 400;
    for index in 1..=blurs {
        let image = json!([(index - 1).to_string(), 0]);
        let inputs = json!({ "image": image, "blur_radius": 31, "sigma": 10.0 });
        prompt.insert(index.to_string(), node("ImageBlur", inputs));
    }
    prompt.insert("end".into(), node("PreviewAny", json!({ "source": [blurs.to_string(), 0] })));
    Value::Object(prompt)
}

/// The embedded model at work until it is interrupted.
pub fn sampling() -> Value {
    json!({
        "model": node("CheckpointLoaderSimple", json!({ "ckpt_name": "rushlight-tiny.safetensors" })),
        "text": node("CLIPTextEncode", json!({ "clip": ["model", 1], "text": "a red circle" })),
        "none": node("CLIPTextEncode", json!({ "clip": ["model", 1], "text": "" })),
        "empty": node("EmptyLatentImage", json!({ "width": 256, "height": 256, "batch_size": 4 })),
        "steps": node("KSampler", json!({
            "model": ["model", 0], "positive": ["text", 0], "negative": ["none", 0], "latent_image": ["empty", 0],
            "seed": 1, "steps": 10_000, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
        })),
        "decode": node("VAEDecode", json!({ "samples": ["steps", 0], "vae": ["model", 2] })),
        "show": node("PreviewImage", json!({ "images": ["decode", 0] })),
    })
}

/// Waits until nothing runs or waits.
pub async fn wait_empty(http: &mut Http) -> Result<()> {
    while remaining(http).await? > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Prompts that run or wait.
pub async fn remaining(http: &mut Http) -> Result<u64> {
    let answer = http.json("GET", "/prompt", "").await?;
    answer["exec_info"]["queue_remaining"].as_u64().context("no queue_remaining")
}

/// Removes what waits and interrupts what runs, until nothing does.
pub async fn stop_all(http: &mut Http) -> Result<()> {
    for _ in 0..6_000 {
        http.request("POST", "/queue", "{\"clear\":true}").await?;
        http.request("POST", "/interrupt", "{}").await?;
        if remaining(http).await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(remaining(http).await? == 0, "the queue does not become empty");
    Ok(())
}
