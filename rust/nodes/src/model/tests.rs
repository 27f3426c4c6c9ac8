//! The default checkpoint through the nodes, against its recorded picture.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use rushlight_protocol::Event;
use rushlight_protocol::frame::BinaryFrame;
use rushlight_runtime::context::PreviewMethod;
use rushlight_runtime::host::ModelSource;
use rushlight_runtime::{Inputs, NodeContext, NodeError, Registry, Value};

use crate::picture::pixels::values;
use crate::testing::{Events, MemoryHost, context};

fn repository() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A context that offers one checkpoint of that content.
fn with_checkpoint(source: ModelSource) -> (NodeContext, Arc<Events>) {
    let mut host = MemoryHost::default();
    host.models.insert(("checkpoints".into(), "tiny.safetensors".into()), source);
    context(Arc::new(host))
}

fn tiny() -> ModelSource {
    ModelSource::Path(repository().join("models/rushlight-tiny.safetensors"))
}

struct Runner {
    registry: Registry,
    ctx: NodeContext,
}

impl Runner {
    fn new(ctx: NodeContext) -> Self {
        let mut registry = Registry::new();
        crate::register(&mut registry);
        Self { registry, ctx }
    }

    fn run(&self, class: &str, inputs: &[(&str, Value)]) -> Result<Vec<Value>, NodeError> {
        let mut given = Inputs::new();
        for (name, value) in inputs {
            given.insert(*name, value.clone());
        }
        Ok(self.registry.get(class).unwrap().execute(&self.ctx, &given)?.values)
    }

    fn text(&self, clip: &Value, prompt: &str) -> Value {
        self.run("CLIPTextEncode", &[("clip", clip.clone()), ("text", Value::String(prompt.into()))]).unwrap()
            [0]
        .clone()
    }

    /// Inputs of a KSampler on an empty latent of 128x128.
    fn sampler_inputs(&self, steps: i128) -> (Value, Vec<(&'static str, Value)>) {
        let name = Value::String("tiny.safetensors".into());
        let loaded = self.run("CheckpointLoaderSimple", &[("ckpt_name", name)]).unwrap();
        let sides = [("width", Value::Int(128)), ("height", Value::Int(128)), ("batch_size", Value::Int(1))];
        let latent = self.run("EmptyLatentImage", &sides).unwrap();
        let inputs = vec![
            ("model", loaded[0].clone()),
            ("positive", self.text(&loaded[1], "a red heart on a white background")),
            ("negative", self.text(&loaded[1], "")),
            ("latent_image", latent[0].clone()),
            ("seed", Value::Int(7)),
            ("steps", Value::Int(steps)),
            ("cfg", Value::Float(4.0)),
            ("sampler_name", Value::String("euler".into())),
            ("scheduler", Value::String("normal".into())),
            ("denoise", Value::Float(1.0)),
        ];
        (loaded[2].clone(), inputs)
    }
}

fn worst(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    values(a).unwrap().iter().zip(values(b).unwrap()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn the_default_checkpoint_draws_the_recorded_picture() {
    let path = repository().join("tests/data/tiny/reference.safetensors");
    let reference = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let (ctx, events) = with_checkpoint(tiny());
    let runner = Runner::new(ctx);
    let (vae, inputs) = runner.sampler_inputs(20);
    let latent = runner.run("KSampler", &inputs).unwrap()[0].clone();
    let Value::Latent(samples) = &latent else { panic!("not a latent") };
    let error = worst(&samples.samples, &reference["final"]);
    let scale =
        values(&reference["final"]).unwrap().into_iter().fold(0f32, |max, value| max.max(value.abs()));
    assert!(error <= 1e-3 * scale, "latent error {error} of {scale}");
    let picture = runner.run("VAEDecode", &[("samples", latent), ("vae", vae)]).unwrap();
    let Value::Image(picture) = &picture[0] else { panic!("not an image") };
    let error = worst(picture, &reference["pixels"]);
    assert!(error <= 2.0 / 255.0, "pixel error {error}");
    let steps = events.0.lock().iter().filter(|event| matches!(event, Event::Progress { .. })).count();
    assert_eq!(steps, 20);
}

#[test]
fn custom_sampling_gives_what_ksampler_gives() {
    let (ctx, _) = with_checkpoint(tiny());
    let runner = Runner::new(ctx);
    let (_, inputs) = runner.sampler_inputs(2);
    let plain = runner.run("KSampler", &inputs).unwrap();
    let get = |name: &str| inputs.iter().find(|(key, _)| *key == name).unwrap().1.clone();
    let one = |class: &str, inputs: &[(&str, Value)]| runner.run(class, inputs).unwrap()[0].clone();
    let guider = one(
        "CFGGuider",
        &[
            ("model", get("model")),
            ("positive", get("positive")),
            ("negative", get("negative")),
            ("cfg", Value::Float(4.0)),
        ],
    );
    let sigmas = one(
        "BasicScheduler",
        &[
            ("model", get("model")),
            ("scheduler", get("scheduler")),
            ("steps", Value::Int(2)),
            ("denoise", Value::Float(1.0)),
        ],
    );
    let custom = runner
        .run(
            "SamplerCustomAdvanced",
            &[
                ("noise", one("RandomNoise", &[("noise_seed", Value::Int(7))])),
                ("guider", guider),
                ("sampler", one("KSamplerSelect", &[("sampler_name", get("sampler_name"))])),
                ("sigmas", sigmas),
                ("latent_image", get("latent_image")),
            ],
        )
        .unwrap();
    let (Value::Latent(plain), Value::Latent(custom)) = (&plain[0], &custom[0]) else { panic!("no latents") };
    assert!(worst(&plain.samples, &custom.samples) < 1e-4);
}

#[test]
fn previews_fit_the_square_and_an_interrupt_ends_the_run() {
    let (ctx, events) = with_checkpoint(tiny());
    let mut ctx = ctx;
    let run = Arc::get_mut(&mut ctx.run).unwrap();
    run.preview_method = PreviewMethod::Latent2Rgb;
    run.preview_size = 96;
    let runner = Runner::new(ctx);
    let (_, inputs) = runner.sampler_inputs(1);
    runner.run("KSampler", &inputs).unwrap();
    let previews: Vec<_> = events
        .0
        .lock()
        .iter()
        .filter_map(|event| match event {
            Event::Binary(BinaryFrame::Preview { image, .. }) => Some(image.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(previews.len(), 1);
    let picture = image::load_from_memory(&previews[0]).unwrap();
    assert_eq!((picture.width(), picture.height()), (96, 96));
    runner.ctx.run.cancel.cancel();
    assert!(matches!(runner.run("KSampler", &inputs), Err(NodeError::Interrupted)));
}

/// The message of loading that content as a checkpoint and encoding a prompt with it.
fn complaint(bytes: Vec<u8>) -> String {
    let (ctx, _) = with_checkpoint(ModelSource::Embedded(Box::leak(bytes.into_boxed_slice())));
    let runner = Runner::new(ctx);
    let name = Value::String("tiny.safetensors".into());
    let result = runner.run("CheckpointLoaderSimple", &[("ckpt_name", name)]).and_then(|loaded| {
        runner.run("CLIPTextEncode", &[("clip", loaded[1].clone()), ("text", Value::String("x".into()))])
    });
    result.unwrap_err().to_string()
}

#[test]
fn broken_checkpoints_are_named_in_errors() {
    let whole = std::fs::read(repository().join("models/rushlight-tiny.safetensors")).unwrap();
    let cut = complaint(whole[..whole.len() / 2].to_vec());
    assert!(cut.contains("tiny.safetensors"), "{cut}");
    let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let kept: Vec<_> =
        tensors.tensors().into_iter().filter(|(name, _)| !name.starts_with("cond_stage_model.")).collect();
    let without = complaint(safetensors::serialize(kept, None).unwrap());
    assert!(without.contains("'tiny.safetensors' has no text encoder"), "{without}");
}

#[test]
fn a_model_merged_with_itself_stays_itself() {
    let (ctx, _) = with_checkpoint(tiny());
    let runner = Runner::new(ctx);
    let (_, mut inputs) = runner.sampler_inputs(1);
    let plain = runner.run("KSampler", &inputs).unwrap();
    let model = inputs[0].1.clone();
    let merge = [("model1", model.clone()), ("model2", model), ("ratio", Value::Float(0.3))];
    inputs[0].1 = runner.run("ModelMergeSimple", &merge).unwrap()[0].clone();
    let merged = runner.run("KSampler", &inputs).unwrap();
    let (Value::Latent(plain), Value::Latent(merged)) = (&plain[0], &merged[0]) else { panic!("no latents") };
    assert!(worst(&plain.samples, &merged.samples) < 1e-3);
}

#[test]
fn pictures_that_do_not_fit_are_made_in_tiles() {
    let (ctx, events) = with_checkpoint(tiny());
    let runner = Runner::new(ctx);
    let name = Value::String("tiny.safetensors".into());
    let loaded = runner.run("CheckpointLoaderSimple", &[("ckpt_name", name)]).unwrap();
    let mut inputs = Inputs::new();
    inputs.insert("vae", loaded[2].clone());
    let vae = super::objects::vae(&inputs, "vae").unwrap();
    // Wider than one tile.
    let data: Vec<f32> = (0..64 * 640 * 3).map(|i| (i / 3 % 640) as f32 / 640.0).collect();
    let picture = Tensor::from_vec(data, (1, 64, 640, 3), &Device::Cpu).unwrap();
    let encode = |free: bool| super::vae::encode(&runner.ctx, vae, &picture, |_| free).unwrap();
    let (whole, tiled) = (encode(true), encode(false));
    assert_eq!(whole.dims(), tiled.dims());
    assert!(events.0.lock().iter().any(|event| matches!(event, Event::Progress { .. })));
    let decode = |free: bool| super::vae::decode(&runner.ctx, vae, &whole, |_| free).unwrap();
    let (whole, tiled) = (decode(true), decode(false));
    assert_eq!(tiled.dims(), [1, 64, 640, 3]);
    // Tiles are normed by themselves, so that the two differ a little.
    let mean = (whole - tiled).unwrap().abs().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(mean < 0.05, "{mean}");
}

#[test]
fn settings_decide_the_types_that_models_compute_in() {
    use candle_core::DType;
    use rushlight_diffusion::model::Model;

    use crate::{PartPrecision, Precision, Settings};

    let (ctx, _) = with_checkpoint(tiny());
    let part = |dtype| PartPrecision::of(dtype);
    let precision =
        Precision { unet: part(DType::F16), text_encoder: part(DType::BF16), vae: part(DType::BF16) };
    let mut registry = Registry::new();
    crate::register_with(&mut registry, &Settings { precision, ..Settings::default() });
    let narrow = Runner { registry, ctx: ctx.clone() };
    let wide = Runner::new(ctx);
    let (vae, inputs) = narrow.sampler_inputs(2);
    let Value::Object(model) = &inputs[0].1 else { panic!("no model") };
    assert_eq!(model.get::<Model>().unwrap().network.dtype(), DType::F16);
    let (wide_vae, wide_inputs) = wide.sampler_inputs(2);
    let picture = |runner: &Runner, inputs: &[(&str, Value)], vae: Value| {
        let latent = runner.run("KSampler", inputs).unwrap()[0].clone();
        let picture = runner.run("VAEDecode", &[("samples", latent), ("vae", vae)]).unwrap()[0].clone();
        let Value::Image(picture) = picture else { panic!("no image") };
        picture
    };
    let (a, b) = (picture(&narrow, &inputs, vae), picture(&wide, &wide_inputs, wide_vae));
    let error = worst(&a, &b);
    // Rounded, and still nearly the same picture.
    assert!(error > 0.0 && error < 0.2, "{error}");
}

#[test]
fn a_saved_checkpoint_draws_the_same_picture_and_has_the_patches_in_it() {
    let mut host = MemoryHost::default();
    host.models.insert(("checkpoints".into(), "tiny.safetensors".into()), tiny());
    let host = Arc::new(host);
    let (ctx, _) = context(host.clone());
    let runner = Runner::new(ctx);
    let (vae, mut inputs) = runner.sampler_inputs(1);
    // Half of the attention's output: a patch as good as any.
    let name = Value::String("tiny.safetensors".into());
    let loaded = runner.run("CheckpointLoaderSimple", &[("ckpt_name", name)]).unwrap();
    let factor = |name, value| (name, Value::Float(value));
    let patched = runner
        .run(
            "UNetSelfAttentionMultiply",
            &[
                ("model", loaded[0].clone()),
                factor("q", 1.0),
                factor("k", 1.0),
                factor("v", 1.0),
                factor("out", 0.5),
            ],
        )
        .unwrap();
    inputs[0].1 = patched[0].clone();
    let expected = runner.run("KSampler", &inputs).unwrap();
    let save = [
        ("model", patched[0].clone()),
        ("clip", loaded[1].clone()),
        ("vae", vae),
        ("filename_prefix", Value::String("checkpoints/x".into())),
    ];
    runner.run("CheckpointSave", &save).unwrap();
    let (extension, file) = host.saved.lock()[0].clone();
    assert_eq!(extension, "safetensors");
    let (ctx, _) = with_checkpoint(ModelSource::Embedded(Box::leak(file.into_boxed_slice())));
    let again = Runner::new(ctx);
    let (_, inputs) = again.sampler_inputs(1);
    let found = again.run("KSampler", &inputs).unwrap();
    let (Value::Latent(expected), Value::Latent(found)) = (&expected[0], &found[0]) else {
        panic!("no latents")
    };
    // Patched weights were rounded to the file's sixteen bits.
    assert!(worst(&expected.samples, &found.samples) < 0.05);
}

#[test]
fn a_network_on_a_smaller_picture_gives_one_of_the_old_size() {
    let (ctx, _) = with_checkpoint(tiny());
    let runner = Runner::new(ctx);
    let (_, mut inputs) = runner.sampler_inputs(1);
    let model = inputs[0].1.clone();
    let mut drawn = |factor: f64, end: f64| {
        let text = |text: &str| Value::String(text.into());
        let patch = [
            ("model", model.clone()),
            ("block_number", Value::Int(1)),
            ("downscale_factor", Value::Float(factor)),
            ("start_percent", Value::Float(0.0)),
            ("end_percent", Value::Float(end)),
            ("downscale_after_skip", Value::Bool(true)),
            ("downscale_method", text("bicubic")),
            ("upscale_method", text("bilinear")),
        ];
        inputs[0].1 = runner.run("PatchModelAddDownscale", &patch).unwrap()[0].clone();
        let Value::Latent(latent) = runner.run("KSampler", &inputs).unwrap()[0].clone() else {
            panic!("no latent")
        };
        latent.samples.clone()
    };
    let plain = drawn(1.0, 1.0);
    let shrunk = drawn(2.0, 1.0);
    assert_eq!(plain.dims(), shrunk.dims());
    assert!(worst(&plain, &shrunk) > 1e-3);
    // Between percent 0 and 0 there is no level.
    assert!(worst(&plain, &drawn(2.0, 0.0)) < 1e-6);
}
