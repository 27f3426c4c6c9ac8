//! Schemas kept and refreshed, jobs from stored items, memory let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rushlight_graph::{Classes, InputSpec, NodeSchema, OutputSpec, validate};
use rushlight_protocol::QueueItem;
use rushlight_runtime::host::{HostError, ModelSource, SaveRequest, SavedFile};
use rushlight_runtime::{
    CachePolicy, ClassTable, Host, Inputs, Job, Node, NodeContext, NodeError, NodeOutput, Object, Registry,
    Value,
};
use serde_json::{Map, json};

use super::support::{Bench, NoFiles, TestNode, any, int, node};

/// Counts how often it is asked for its schema.
struct Counting {
    asked: Arc<AtomicU64>,
    panics: bool,
}

impl Node for Counting {
    fn schema(&self, _host: &dyn Host) -> NodeSchema {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics, "no schema today");
        NodeSchema::new("Counting", "test")
    }
    fn execute(&self, _ctx: &NodeContext, _inputs: &Inputs) -> Result<NodeOutput, NodeError> {
        Ok(NodeOutput::default())
    }
}

#[test]
fn a_schema_is_made_once_until_it_is_refreshed() {
    let asked = Arc::new(AtomicU64::new(0));
    let mut registry = Registry::new();
    registry.register("Counting", Arc::new(Counting { asked: asked.clone(), panics: false }));
    registry.register("Broken", Arc::new(Counting { asked: Arc::default(), panics: true }));
    let table = ClassTable::new(registry, Arc::new(NoFiles));
    let before = table.generation();
    assert!(table.schema("Counting").is_some() && table.schema("Counting").is_some());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(table.schema("Broken").is_none(), "a class that cannot describe itself is left out");
    assert_eq!(table.schemas().count(), 1);
    table.refresh();
    assert!(table.schema("Counting").is_some());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert_ne!(table.generation(), before);
}

/// A host without files whose folders change when told to, and that counts how often it is looked at.
#[derive(Default)]
struct Folders {
    changes: AtomicU64,
    looks: AtomicU64,
}

impl Host for Folders {
    fn generation(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.changes.load(Ordering::SeqCst)
    }
    fn model_names(&self, folder: &str) -> Vec<String> {
        NoFiles.model_names(folder)
    }
    fn model(&self, folder: &str, name: &str) -> Result<ModelSource, HostError> {
        NoFiles.model(folder, name)
    }
    fn input_names(&self, kinds: &[&str]) -> Vec<String> {
        NoFiles.input_names(kinds)
    }
    fn read(&self, name: &str) -> Result<Bytes, HostError> {
        NoFiles.read(name)
    }
    fn fingerprint(&self, name: &str) -> Result<String, HostError> {
        NoFiles.fingerprint(name)
    }
    fn save(&self, request: &SaveRequest<'_>, bytes: &[u8]) -> Result<SavedFile, HostError> {
        NoFiles.save(request, bytes)
    }
}

#[test]
fn one_look_at_the_folders_serves_for_a_while_and_another_sees_what_has_changed() {
    let asked = Arc::new(AtomicU64::new(0));
    let mut registry = Registry::new();
    registry.register("Counting", Arc::new(Counting { asked: asked.clone(), panics: false }));
    let host = Arc::new(Folders::default());
    let table = ClassTable::new(registry, host.clone());
    let looks = || host.looks.load(Ordering::SeqCst);
    let (hour, before) = (Duration::from_secs(3_600), looks());
    for _ in 0..10 {
        table.follow_host_within(hour);
    }
    assert_eq!(looks(), before);
    assert!(table.schema("Counting").is_some());
    host.changes.store(1, Ordering::SeqCst);
    table.follow_host_within(hour);
    assert!(table.follow_host() && !table.follow_host());
    assert!(table.schema("Counting").is_some());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    host.changes.store(2, Ordering::SeqCst);
    table.follow_host_within(Duration::ZERO);
    assert!(table.schema("Counting").is_some());
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn a_stored_item_becomes_the_job_that_was_queued() {
    let bench = Bench::new(Vec::new());
    let classes = bench.executor.classes().clone();
    let prompt =
        json!({"1": node("Int", json!({"value": "7"})), "2": node("Show", json!({"value": ["1", 0]}))});
    let valid = validate(&prompt, classes.as_ref(), None).unwrap();
    let extra = Map::from_iter([("client_id".to_owned(), json!("c"))]);
    let item = QueueItem(1.into(), "p".into(), valid.json.clone(), extra.clone(), vec!["2".into()]);
    let queued = Job::new("p", valid, extra);
    let secrets = Map::from_iter([("auth_token_comfy_org".to_owned(), json!("t"))]);
    let revived = Job::from_item(&item, &secrets, classes.as_ref()).unwrap();
    assert_eq!((&revived.prompt, &revived.outputs), (&queued.prompt, &queued.outputs));
    assert_eq!(revived.extra_data["auth_token_comfy_org"], json!("t"));
    let gone = QueueItem(1.into(), "p".into(), json!({"1": node("Gone", json!({}))}), Map::new(), Vec::new());
    assert_eq!(
        Job::from_item(&gone, &Map::new(), classes.as_ref()).unwrap_err().error.kind,
        "invalid_prompt"
    );
}

#[test]
fn an_executor_may_move_to_the_thread_that_owns_it() {
    fn is_send<T: Send>(_: &T) {}
    let mut bench = Bench::new(Vec::new());
    is_send(&bench.executor);
    let prompt = json!({"1": node("Show", json!({"value": 1}))});
    let seen = std::thread::spawn(move || bench.run(&prompt).shown("1")).join();
    assert_eq!(seen.ok(), Some(json!([1])));
}

/// Tells when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn results_are_let_go_when_nothing_needs_them_and_the_cache_keeps_none() {
    for (policy, let_go) in [(CachePolicy::None, true), (CachePolicy::Classic, false)] {
        let gone = Arc::new(AtomicBool::new(false));
        let (give, see) = (gone.clone(), gone.clone());
        let schema = |name: &str| NodeSchema::new(name, "test");
        let big = TestNode::new(schema("Big").output(OutputSpec::new("BIG")), move |_, _| {
            Ok(NodeOutput::one(Value::Object(Object::new("BIG", Dropped(give.clone())))))
        });
        let use_big = TestNode::new(
            schema("Use").input(InputSpec::new("big", "BIG")).output(OutputSpec::new("INT")),
            |_, _| Ok(NodeOutput::one(Value::Int(1))),
        );
        let after = TestNode::new(
            schema("After").input(int("n")).input(any("x").optional()).output_node(),
            move |_, _| Ok(NodeOutput::default().with_ui("text", json!([see.load(Ordering::SeqCst)]))),
        );
        let mut bench = Bench::with(policy, vec![big, use_big, after]);
        let seen = bench.run(&json!({
            "1": node("Big", json!({})), "2": node("Use", json!({"big": ["1", 0]})),
            "3": node("After", json!({"n": ["2", 0]})),
        }));
        assert_eq!(seen.shown("3"), json!([let_go]), "{policy:?}");
    }
}
