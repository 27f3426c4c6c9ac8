//! Test classes, a host without files, a sink that records, and a bench that runs prompts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use candle_core::Device;
use indexmap::IndexMap;
use parking_lot::Mutex;
use rushlight_graph::{InputSpec, NodeSchema, OutputSpec, validate};
use rushlight_protocol::{Audience, Event};
use rushlight_runtime::context::EventSink;
use rushlight_runtime::host::{FileFolder, HostError, ModelSource, SaveRequest, SavedFile};
use rushlight_runtime::{
    CachePolicy, ClassTable, Execution, Executor, ExecutorOptions, Fingerprint, Host, Inputs, Job, Node,
    NodeContext, NodeError, NodeOutput, Outcome, Registry, RunContext, Value,
};
use serde_json::{Value as Json, json};

/// A host with nothing in it.
pub struct NoFiles;

impl NoFiles {
    fn missing<T>(name: &str) -> Result<T, HostError> {
        Err(HostError::NotFound { what: "file".into(), name: name.into() })
    }
}

impl Host for NoFiles {
    fn model_names(&self, _folder: &str) -> Vec<String> {
        Vec::new()
    }
    fn model(&self, _folder: &str, name: &str) -> Result<ModelSource, HostError> {
        Self::missing(name)
    }
    fn input_names(&self, _kinds: &[&str]) -> Vec<String> {
        Vec::new()
    }
    fn read(&self, name: &str) -> Result<Bytes, HostError> {
        Self::missing(name)
    }
    fn fingerprint(&self, name: &str) -> Result<String, HostError> {
        Self::missing(name)
    }
    fn save(&self, request: &SaveRequest<'_>, _bytes: &[u8]) -> Result<SavedFile, HostError> {
        Ok(SavedFile { filename: request.prefix.into(), subfolder: String::new(), folder: FileFolder::Temp })
    }
}

/// Records every event.
#[derive(Default)]
pub struct Recorder(pub Mutex<Vec<Event>>);

impl EventSink for Recorder {
    fn send(&self, _to: &Audience, event: Event) {
        self.0.lock().push(event);
    }
}

type Run = Box<dyn Fn(&NodeContext, &Inputs) -> Result<NodeOutput, NodeError> + Send + Sync>;
type Start = Box<dyn Fn(&NodeContext, &Inputs) -> Result<Execution, NodeError> + Send + Sync>;
type Lazy = Box<dyn Fn(&Inputs) -> Vec<String> + Send + Sync>;
type Changed = Box<dyn Fn(&Inputs) -> Result<Fingerprint, NodeError> + Send + Sync>;

/// A class made of closures.
pub struct TestNode {
    schema: NodeSchema,
    run: Run,
    start: Option<Start>,
    lazy: Option<Lazy>,
    changed: Option<Changed>,
    pub calls: Arc<AtomicUsize>,
}

impl TestNode {
    pub fn new(
        schema: NodeSchema,
        run: impl Fn(&NodeContext, &Inputs) -> Result<NodeOutput, NodeError> + Send + Sync + 'static,
    ) -> Self {
        Self { schema, run: Box::new(run), start: None, lazy: None, changed: None, calls: Arc::default() }
    }
    pub fn starting(
        mut self,
        start: impl Fn(&NodeContext, &Inputs) -> Result<Execution, NodeError> + Send + Sync + 'static,
    ) -> Self {
        self.start = Some(Box::new(start));
        self
    }
    pub fn asking(mut self, lazy: impl Fn(&Inputs) -> Vec<String> + Send + Sync + 'static) -> Self {
        self.lazy = Some(Box::new(lazy));
        self
    }
    pub fn changing(
        mut self,
        changed: impl Fn(&Inputs) -> Result<Fingerprint, NodeError> + Send + Sync + 'static,
    ) -> Self {
        self.changed = Some(Box::new(changed));
        self
    }
}

impl Node for TestNode {
    fn schema(&self, _host: &dyn Host) -> NodeSchema {
        self.schema.clone()
    }
    fn execute(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        (self.run)(ctx, inputs)
    }
    fn start(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<Execution, NodeError> {
        match &self.start {
            Some(start) => {
                self.calls.fetch_add(1, Ordering::SeqCst);
                start(ctx, inputs)
            }
            None => self.execute(ctx, inputs).map(Execution::Done),
        }
    }
    fn is_async(&self) -> bool {
        self.start.is_some()
    }
    fn check_lazy(&self, _ctx: &NodeContext, inputs: &Inputs) -> Result<Vec<String>, NodeError> {
        Ok(self.lazy.as_ref().map(|lazy| lazy(inputs)).unwrap_or_default())
    }
    fn fingerprint(&self, _ctx: &NodeContext, inputs: &Inputs) -> Result<Fingerprint, NodeError> {
        self.changed.as_ref().map_or(Ok(Fingerprint::Unchanged), |changed| changed(inputs))
    }
}

/// An executor with test classes.
pub struct Bench {
    pub executor: Executor,
    pub recorder: Arc<Recorder>,
    pub calls: IndexMap<String, Arc<AtomicUsize>>,
    prompts: usize,
}

/// One run, as seen from outside.
pub struct Seen {
    pub events: Vec<Event>,
    pub outcome: Outcome,
}

impl Bench {
    /// The usual classes and the given ones.
    pub fn with(policy: CachePolicy, more: Vec<TestNode>) -> Self {
        let mut registry = Registry::new();
        let mut calls = IndexMap::new();
        for node in usual_classes().into_iter().chain(more) {
            let name = node.schema.name.clone();
            calls.insert(name.to_string(), node.calls.clone());
            registry.register(&name, Arc::new(node));
        }
        let host: Arc<dyn Host> = Arc::new(NoFiles);
        let classes = Arc::new(ClassTable::new(registry, host.clone()));
        let executor = Executor::new(classes, host, Device::Cpu, ExecutorOptions { cache: policy });
        Self { executor, recorder: Arc::default(), calls, prompts: 0 }
    }

    pub fn new(more: Vec<TestNode>) -> Self {
        Self::with(CachePolicy::Classic, more)
    }

    /// Calls of a class since the bench was made.
    pub fn calls(&self, class: &str) -> usize {
        self.calls[class].load(Ordering::SeqCst)
    }

    pub fn context(&mut self) -> RunContext {
        self.prompts += 1;
        let id: Arc<str> = format!("p{}", self.prompts).into();
        let audience = Audience::Session("client".into());
        RunContext::new(id, audience, Arc::new(NoFiles), self.recorder.clone(), Device::Cpu)
    }

    pub fn run(&mut self, prompt: &Json) -> Seen {
        let context = self.context();
        self.run_in(context, prompt, json!({}))
    }

    pub fn run_in(&mut self, context: RunContext, prompt: &Json, extra: Json) -> Seen {
        let valid = validate(prompt, self.executor.classes().as_ref(), None).unwrap();
        let job = Job::new(context.prompt_id.clone(), valid, extra.as_object().unwrap().clone());
        self.recorder.0.lock().clear();
        let outcome = self.executor.run(&job, Arc::new(context));
        let events = std::mem::take(&mut *self.recorder.0.lock());
        Seen { events, outcome }
    }
}

impl Seen {
    /// Node ids of `executing` events.
    pub fn order(&self) -> Vec<String> {
        let node = |event: &Event| match event {
            Event::Executing { node, .. } => Some(node.to_string()),
            _ => None,
        };
        self.events.iter().filter_map(node).collect()
    }

    /// Every event with what matters of it, and the terminal one last.
    pub fn script(&self) -> Vec<String> {
        self.events.iter().chain([&self.outcome.terminal]).map(line).collect()
    }

    /// What the `Show` node of that id showed.
    pub fn shown(&self, id: &str) -> Json {
        self.outcome.outputs.get(id).map_or(Json::Null, |ui| ui["text"].clone())
    }
}

/// One event in one line, without times.
fn line(event: &Event) -> String {
    let mut data = event.data();
    if let Event::ProgressState { nodes, .. } = event {
        let state = |node: &rushlight_protocol::NodeProgress| {
            format!("{}={} {}/{}", node.node_id, json!(node.state).as_str().unwrap(), node.value, node.max)
        };
        let states: Vec<_> = nodes.values().map(state).collect();
        return format!("progress_state {}", states.join(", "));
    }
    if let Some(map) = data.as_object_mut() {
        map.shift_remove("timestamp");
        map.shift_remove("prompt_id");
    }
    format!("{} {data}", event.name().unwrap_or("binary"))
}

/// A prompt node.
pub fn node(class: &str, inputs: Json) -> Json {
    json!({ "class_type": class, "inputs": inputs })
}

/// A value as JSON, for what `Show` shows.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(b) => json!(b),
        Value::Int(i) => json!(i64::try_from(*i).unwrap()),
        Value::Float(f) => json!(f),
        Value::String(s) => json!(s.as_ref()),
        Value::Json(j) => j.as_ref().clone(),
        Value::List(items) => items.iter().map(to_json).collect(),
        other => json!(other.kind()),
    }
}

pub fn int(name: &str) -> InputSpec {
    InputSpec::new(name, "INT")
}

pub fn any(name: &str) -> InputSpec {
    InputSpec::new(name, "*")
}

fn usual_classes() -> Vec<TestNode> {
    let schema = |name: &str| NodeSchema::new(name, "test");
    let int_out = || OutputSpec::new("INT");
    vec![
        TestNode::new(schema("Int").input(int("value")).output(int_out()), |_, inputs| {
            Ok(NodeOutput::one(Value::Int(inputs.int("value")?)))
        }),
        TestNode::new(schema("Add").input(int("a")).input(int("b")).output(int_out()), |_, inputs| {
            Ok(NodeOutput::one(Value::Int(inputs.int("a")? + inputs.int("b")?)))
        }),
        TestNode::new(schema("Show").input(any("value")).output_node(), |_, inputs| {
            Ok(NodeOutput::default().with_ui("text", json!([to_json(inputs.value("value")?)])))
        }),
        TestNode::new(schema("Fail").input(any("value")).output(int_out()), |_, _| {
            Err(NodeError::value("no luck"))
        }),
        TestNode::new(schema("Range").input(int("count")).output(int_out().list()), |_, inputs| {
            let items = (0..inputs.int("count")?).map(Value::Int).collect();
            Ok(NodeOutput::one(Value::List(Arc::new(items))))
        }),
    ]
}
