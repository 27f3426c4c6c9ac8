//! Prompts that ask for more than there is: each fails by itself, and the executor goes on.

use std::sync::Arc;

use candle_core::Device;
use rushlight_graph::validate;
use rushlight_protocol::{Audience, Event};
use rushlight_runtime::{ClassTable, Executor, ExecutorOptions, Host, Job, Registry, RunContext};
use serde_json::{Map, Value as Json, json};

use crate::testing::{Events, MemoryHost};

struct Bench {
    executor: Executor,
    host: Arc<dyn Host>,
}

impl Bench {
    fn new() -> Self {
        let mut registry = Registry::new();
        crate::register(&mut registry);
        let host: Arc<dyn Host> = Arc::new(MemoryHost::default());
        let classes = Arc::new(ClassTable::new(registry, host.clone()));
        let executor = Executor::new(classes, host.clone(), Device::Cpu, ExecutorOptions::default());
        Self { executor, host }
    }

    /// Exception type and message of a prompt, `None` if it ran to its end.
    fn fault(&mut self, prompt: &Json) -> Option<(String, String)> {
        let valid = validate(prompt, self.executor.classes().as_ref(), None).unwrap();
        let job = Job::new("p", valid, Map::new());
        let sink = Arc::new(Events::default());
        let run = RunContext::new("p".into(), Audience::Everyone, self.host.clone(), sink, Device::Cpu);
        match self.executor.run(&job, Arc::new(run)).terminal {
            Event::ExecutionSuccess { .. } => None,
            Event::ExecutionError(error) => {
                Some((error.exception_type.clone(), error.exception_message.clone()))
            }
            other => panic!("{other:?}"),
        }
    }
}

fn node(class: &str, inputs: Json) -> Json {
    json!({"class_type": class, "inputs": inputs})
}

/// A prompt of nodes whose last is shown as text.
fn shown(nodes: Vec<Json>) -> Json {
    let mut prompt = Map::new();
    let last = nodes.len();
    for (index, node) in nodes.into_iter().enumerate() {
        prompt.insert((index + 1).to_string(), node);
    }
    prompt.insert("end".into(), node("PreviewAny", json!({"source": [last.to_string(), 0]})));
    Json::Object(prompt)
}

#[test]
fn a_small_prompt_cannot_take_all_memory() {
    let huge = i64::MAX;
    let large =
        || node("EmptyImage", json!({"width": 16384, "height": 16384, "batch_size": 4096, "color": 0}));
    let small = || node("EmptyImage", json!({"width": 64, "height": 64, "batch_size": 1, "color": 0}));
    let int = |value: i64| node("PrimitiveInt", json!({"value": value}));
    let cases = [
        shown(vec![large()]),
        shown(vec![node("EmptyLatentImage", json!({"width": 16384, "height": 16384, "batch_size": 4096}))]),
        // Values through links are bound by no schema.
        shown(vec![
            int(huge),
            node(
                "EmptyImage",
                json!({"width": ["1", 0], "height": ["1", 0], "batch_size": ["1", 0], "color": 0}),
            ),
        ]),
        shown(vec![
            int(0),
            int(huge),
            node("EmptyLatentImage", json!({"width": ["1", 0], "height": ["1", 0], "batch_size": ["2", 0]})),
        ]),
        shown(vec![
            small(),
            node("RepeatImageBatch", json!({"image": ["1", 0], "amount": 4096})),
            node("RepeatImageBatch", json!({"image": ["2", 0], "amount": 4096})),
        ]),
        shown(vec![
            node("EmptyLatentImage", json!({"width": 512, "height": 512, "batch_size": 64})),
            node("RepeatLatentBatch", json!({"samples": ["1", 0], "amount": 64})),
            node("RepeatLatentBatch", json!({"samples": ["2", 0], "amount": 64})),
            node("RepeatLatentBatch", json!({"samples": ["3", 0], "amount": 64})),
        ]),
        shown(vec![
            small(),
            int(huge),
            node(
                "ImageScale",
                json!({"image": ["1", 0], "upscale_method": "area", "width": ["2", 0], "height": 1, "crop": "disabled"}),
            ),
        ]),
        shown(vec![
            small(),
            int(huge),
            node(
                "ImagePadForOutpaint",
                json!({"image": ["1", 0], "left": ["2", 0], "top": 0, "right": ["2", 0], "bottom": 0, "feathering": 0}),
            ),
        ]),
        shown(vec![int(huge), node("SolidMask", json!({"value": 1.0, "width": ["1", 0], "height": 8}))]),
        shown(vec![node("EmptyAudio", json!({"duration": 1e15, "sample_rate": 192000, "channels": 2}))]),
    ];
    let mut bench = Bench::new();
    for prompt in cases {
        let (kind, message) = bench.fault(&prompt).unwrap();
        assert_eq!(kind, "torch.OutOfMemoryError", "{prompt}: {message}");
    }
    assert_eq!(bench.fault(&shown(vec![small()])), None);
}

#[test]
fn texts_that_double_from_node_to_node_are_stopped() {
    let mut nodes = vec![node("PrimitiveString", json!({"value": "x".repeat(1000)}))];
    for index in 1..=40 {
        let last = json!([index.to_string(), 0]);
        nodes.push(node("StringConcatenate", json!({"string_a": last, "string_b": last, "delimiter": ""})));
    }
    let mut bench = Bench::new();
    assert_eq!(bench.fault(&shown(nodes)).unwrap().0, "MemoryError");
    let replace = shown(vec![
        node("PrimitiveString", json!({"value": "x".repeat(1 << 20)})),
        node("StringReplace", json!({"string": ["1", 0], "find": "x", "replace": ["1", 0]})),
    ]);
    assert_eq!(bench.fault(&replace).unwrap().0, "MemoryError");
    // Groups inside a lookahead may overlap: their lengths add up to the square of the text's.
    let groups = shown(vec![
        node("PrimitiveString", json!({"value": "x".repeat(1 << 14)})),
        node(
            "RegexExtract",
            json!({
                "string": ["1", 0], "regex_pattern": "(?=(.*))", "mode": "All Groups", "case_insensitive": false,
                "multiline": false, "dotall": false, "group_index": 1,
            }),
        ),
    ]);
    assert_eq!(bench.fault(&groups).unwrap().0, "MemoryError");
}

#[test]
fn schedules_of_any_length_are_stopped() {
    let mut bench = Bench::new();
    let steps = |class: &str, inputs: Json| {
        let mut inputs = inputs;
        inputs["steps"] = json!(["1", 0]);
        shown(vec![node("PrimitiveInt", json!({"value": i64::MAX})), node(class, inputs)])
    };
    let ends = json!({"sigma_max": 14.6, "sigma_min": 0.03});
    let mut karras = ends.clone();
    karras["rho"] = json!(7.0);
    let mut extend = vec![node("ManualSigmas", json!({"sigmas": "3, 2, 1"}))];
    for index in 1..=5 {
        extend.push(node(
            "ExtendIntermediateSigmas",
            json!({"sigmas": [index.to_string(), 0], "steps": 100, "start_at_sigma": -1.0, "end_at_sigma": 0.0, "spacing": "linear"}),
        ));
    }
    for prompt in [
        steps("KarrasScheduler", karras),
        steps("ExponentialScheduler", ends),
        steps("AlignYourStepsScheduler", json!({"model_type": "SD1", "denoise": 1.0})),
        steps("Flux2Scheduler", json!({"width": 1024, "height": 1024})),
        shown(extend),
    ] {
        assert_eq!(bench.fault(&prompt).unwrap().0, "ValueError", "{prompt}");
    }
}
