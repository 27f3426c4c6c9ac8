//! A Python node class as a [`Node`].
//!
//! The package's adapter (`rushlight.host.adapter`) knows how classes of either generation are called; here values
//! cross the border, calls are watched for interrupts, and failures become node errors.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use candle_core::Device;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use rushlight_graph::parse::parse_link;
use rushlight_graph::{InputSpec, InputType, LinkedOutput, NodeSchema, Presence, Prompt};
use rushlight_runtime::{
    Engines, Execution, Expansion, ExpansionResult, Fingerprint, Host, Inputs, Node, NodeContext, NodeError,
    NodeOutput, Object, Validation, Value,
};
use serde_json::{Map, Value as Json};

use crate::context::PyNodeContext;
use crate::value::{self, Memo, PyValue};
use crate::watch::{Watch, Watched};
use crate::{error, json, schema, thread};

/// A class and how to call it.
pub struct PyNode {
    /// `rushlight.host.adapter.Adapter`.
    adapter: Py<PyAny>,
    outputs: Arc<Vec<OutputKind>>,
    is_async: bool,
    last: Mutex<Described>,
    watch: Arc<Watch>,
}

/// The last description that could be made: a class whose description fails later keeps it.
struct Described {
    schema: NodeSchema,
    /// Inputs whose types have operators of their own.
    own_types: Vec<String>,
    /// Inputs that get values which all nodes of a run share, with their kinds.
    shared: Vec<(String, &'static str)>,
}

/// Hidden values that nodes of one run share: what one writes into them, those after it see.
const SHARED: [&str; 2] = ["PROMPT", "EXTRA_PNGINFO"];

impl Described {
    fn new(description: &Json) -> Self {
        let schema = schema::from_description(description);
        let own = description.get("own_types").and_then(Json::as_array).into_iter().flatten();
        let own_types = own.filter_map(Json::as_str).map(str::to_owned).collect();
        let hidden = schema.inputs.iter().filter(|input| input.presence == Presence::Hidden);
        let shared = hidden.filter_map(|input| match &input.ty {
            InputType::Named(kind) => {
                let kind = SHARED.into_iter().find(|shared| *shared == kind.as_ref())?;
                Some((input.name.to_string(), kind))
            }
            InputType::Choices(_) => None,
        });
        let shared = shared.collect();
        Self { schema, own_types, shared }
    }
}

/// A hidden value as the one Python object that all nodes of the run get.
fn share(py: Python<'_>, ctx: &NodeContext, kind: &str, value: &Value) -> PyResult<Value> {
    Ok(match value {
        Value::Json(json) => {
            let object = json::to_python(py, json)?.unbind();
            ctx.run.share(kind, Value::Object(Object::foreign(kind, PyValue::new(object))))
        }
        Value::List(items) => {
            let items = items.iter().map(|item| share(py, ctx, kind, item));
            Value::List(Arc::new(items.collect::<PyResult<_>>()?))
        }
        other => other.clone(),
    })
}

struct OutputKind {
    ty: String,
    is_list: bool,
    /// Its type has operators of its own.
    is_own_type: bool,
}

/// One call's Python arguments.
struct Call<'py> {
    context: Bound<'py, PyNodeContext>,
    kwargs: Bound<'py, PyDict>,
    memo: Memo,
}

impl PyNode {
    /// Reads what the adapter says of its class.
    ///
    /// # Errors
    /// What the class raised while it described itself.
    pub fn new(adapter: &Bound<'_, PyAny>, watch: Arc<Watch>) -> PyResult<Self> {
        let description = json::to_json(&adapter.call_method0("describe")?)?;
        let types: Vec<String> = adapter.getattr("output_types")?.extract()?;
        let lists: Vec<bool> = adapter.getattr("output_is_list")?.extract()?;
        let own: Vec<bool> = adapter.getattr("own_output_types")?.extract()?;
        let outputs = types.into_iter().zip(lists).zip(own);
        let outputs = outputs.map(|((ty, is_list), is_own_type)| OutputKind { ty, is_list, is_own_type });
        Ok(Self {
            adapter: adapter.clone().unbind(),
            outputs: Arc::new(outputs.collect()),
            is_async: adapter.getattr("is_async")?.is_truthy()?,
            last: Mutex::new(Described::new(&description)),
            watch,
        })
    }

    fn attached<T>(&self, call: impl FnOnce(Python<'_>) -> Result<T, NodeError>) -> Result<T, NodeError> {
        let kept = |py: Python<'_>| {
            thread::keep(py);
            call(py)
        };
        Python::try_attach(kept)
            .unwrap_or_else(|| Err(NodeError::new("RuntimeError", "the Python interpreter has ended")))
    }

    fn arguments<'py>(&self, py: Python<'py>, ctx: &NodeContext, inputs: &Inputs) -> PyResult<Call<'py>> {
        let mut memo = Memo::new(ctx.device());
        let kwargs = PyDict::new(py);
        let shared = self.last.lock().shared.clone();
        for (name, value) in inputs.iter() {
            let value = match shared.iter().find(|(shared, _)| *shared == **name) {
                Some((_, kind)) => &share(py, ctx, kind, value)?,
                None => value,
            };
            kwargs.set_item(name.as_ref(), value::to_python(py, value, &mut memo)?)?;
        }
        Ok(Call { context: Bound::new(py, PyNodeContext::new(ctx.clone()))?, kwargs, memo })
    }

    /// The class's instance for this node: made at its first call, kept as long as prompts use the node.
    fn instance<'py>(&self, py: Python<'py>, ctx: &NodeContext) -> PyResult<Bound<'py, PyAny>> {
        let known = {
            let slot = ctx.state.lock();
            slot.as_ref().and_then(|state| state.downcast_ref::<Instance>()).map(|kept| kept.0.clone_ref(py))
        };
        if let Some(instance) = known {
            return Ok(instance.into_bound(py));
        }
        let instance = self.adapter.bind(py).call_method0("new_instance")?;
        *ctx.state.lock() = Some(Box::new(Instance(instance.clone().unbind())));
        Ok(instance)
    }

    fn ask<T>(
        &self,
        ctx: &NodeContext,
        inputs: &Inputs,
        method: &str,
        read: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>,
    ) -> Result<T, NodeError> {
        self.attached(|py| {
            let ask = || {
                let call = self.arguments(py, ctx, inputs)?;
                let instance = self.instance(py, ctx)?;
                let _watched = self.watch.enter(ctx, Some(thread_id(py)?));
                read(&self.adapter.bind(py).call_method1(method, (call.context, instance, call.kwargs))?)
            };
            ask().map_err(|raised| error::node_error(py, raised))
        })
    }

    /// Asks the class to compare types; `None`, so that their texts are compared, if that raises.
    fn compare(
        &self,
        ask: impl FnOnce(Python<'_>, &Bound<'_, PyAny>) -> PyResult<Option<bool>>,
    ) -> Option<bool> {
        Python::try_attach(|py| ask(py, self.adapter.bind(py)).ok()).flatten().flatten()
    }

    fn begin(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<Receiver<Answer>, NodeError> {
        self.attached(|py| {
            let begin = || {
                let call = self.arguments(py, ctx, inputs)?;
                let instance = self.instance(py, ctx)?;
                let (sender, receiver) = channel();
                let watched = self.watch.enter(ctx, None);
                let id = watched.id();
                let done = Done(Mutex::new(Some(Pending {
                    sender,
                    outputs: self.outputs.clone(),
                    memo: call.memo,
                    _watched: watched,
                })));
                let done = Bound::new(py, done)?;
                let arguments = (call.context, instance, call.kwargs, id, done);
                self.adapter.bind(py).call_method1("begin", arguments)?;
                Ok(receiver)
            };
            begin().map_err(|raised| error::node_error(py, raised))
        })
    }
}

type Answer = Result<NodeOutput, NodeError>;

struct Instance(Py<PyAny>);

impl Drop for Instance {
    fn drop(&mut self) {
        // Dropping attached runs the instance's finaliser now and not at some later call.
        let _ = Python::try_attach(|py| std::mem::replace(&mut self.0, py.None()));
    }
}

impl Node for PyNode {
    fn schema(&self, _host: &dyn Host) -> NodeSchema {
        let described = Python::try_attach(|py| {
            thread::keep(py);
            let description =
                self.adapter.bind(py).call_method0("describe").and_then(|it| json::to_json(&it));
            description.map_err(|raised| error::node_error(py, raised))
        });
        let mut last = self.last.lock();
        match described {
            Some(Ok(description)) => *last = Described::new(&description),
            Some(Err(error)) => {
                tracing::warn!(class = %last.schema.name, "the class cannot describe itself any more: {error}");
            }
            None => {}
        }
        last.schema.clone()
    }

    fn changes_freely(&self) -> bool {
        true
    }

    fn execute(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
        if self.is_async {
            let receiver = self.begin(ctx, inputs)?;
            let gone = |_| NodeError::new("RuntimeError", "the node's coroutine was dropped");
            return receiver.recv().map_err(gone)?;
        }
        self.attached(|py| {
            let execute = || {
                let call = self.arguments(py, ctx, inputs)?;
                let instance = self.instance(py, ctx)?;
                let watched = self.watch.enter(ctx, Some(thread_id(py)?));
                let arguments = (call.context, instance, call.kwargs);
                let result = self.adapter.bind(py).call_method1("call", arguments);
                drop(watched);
                read_result(&result?, &self.outputs, &call.memo)
            };
            execute().map_err(|raised| error::node_error(py, raised))
        })
    }

    fn start(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<Execution, NodeError> {
        if self.is_async {
            self.begin(ctx, inputs).map(Execution::Pending)
        } else {
            self.execute(ctx, inputs).map(Execution::Done)
        }
    }

    fn is_async(&self) -> bool {
        self.is_async
    }

    fn engines(&self) -> Engines {
        Engines::PYTHON
    }

    fn takes(&self, spec: &InputSpec, output: LinkedOutput<'_>) -> Option<bool> {
        if !self.last.lock().own_types.iter().any(|own| *own == *spec.name) {
            return None;
        }
        let ty = output.ty.to_json();
        self.compare(|py, adapter| {
            let ty = json::to_python(py, &ty)?;
            adapter.call_method1("takes", (spec.name.as_ref(), output.class, output.slot, ty))?.extract()
        })
    }

    fn gives(&self, slot: usize, spec: &InputSpec) -> Option<bool> {
        if !self.outputs.get(slot).is_some_and(|output| output.is_own_type) {
            return None;
        }
        self.compare(|py, adapter| {
            adapter.call_method1("gives", (slot, json::to_python(py, &spec.ty.to_json())?))?.extract()
        })
    }

    fn fingerprint(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<Fingerprint, NodeError> {
        self.ask(ctx, inputs, "fingerprint", |answer| {
            let (kind, value) = answer.extract::<(String, Bound<'_, PyAny>)>()?;
            Ok(match kind.as_str() {
                "unchanged" => Fingerprint::Unchanged,
                "value" => Fingerprint::Value(json::to_json(&value)?),
                _ => Fingerprint::AlwaysChanged,
            })
        })
    }

    fn check_lazy(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<Vec<String>, NodeError> {
        self.ask(ctx, inputs, "check_lazy", |answer| answer.extract())
    }

    fn validate(&self, _host: &dyn Host, inputs: &Inputs, types: &Map<String, Json>) -> Option<Validation> {
        let validated = self.attached(|py| {
            let validate = || {
                let mut memo = Memo::new(&Device::Cpu);
                let kwargs = PyDict::new(py);
                for (name, value) in inputs.iter() {
                    kwargs.set_item(name.as_ref(), value::to_python(py, value, &mut memo)?)?;
                }
                let types = json::to_python(py, &Json::Object(types.clone()))?;
                let answer = self.adapter.bind(py).call_method1("validate", (kwargs, types))?;
                let answer: Option<(Vec<String>, Option<String>)> = answer.extract()?;
                Ok(answer.map(|(takes_over, fault)| Validation { takes_over, fault }))
            };
            validate().map_err(|raised| error::node_error(py, raised))
        });
        match validated {
            Ok(answer) => answer,
            Err(error) => Some(Validation { takes_over: Vec::new(), fault: Some(error.to_string()) }),
        }
    }
}

fn thread_id(py: Python<'_>) -> PyResult<u64> {
    py.import("threading")?.call_method0("get_ident")?.extract()
}

/// `(values, ui, expand)` as the adapter gives it.
fn read_result(result: &Bound<'_, PyAny>, outputs: &[OutputKind], memo: &Memo) -> PyResult<NodeOutput> {
    let (values, ui, expand) = result.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
    let ui = match json::to_json(&ui)? {
        Json::Object(map) => Some(map),
        _ => None,
    };
    let mut read = Vec::with_capacity(outputs.len());
    for (place, item) in values.try_iter()?.enumerate() {
        let item = item?;
        let (ty, is_list) = outputs.get(place).map_or(("*", false), |output| (&output.ty, output.is_list));
        read.push((item.clone(), ty, is_list));
    }
    let value = |item: &Bound<'_, PyAny>, ty: &str, is_list: bool| {
        if is_list { value::list_from_python(item, ty, memo) } else { value::from_python(item, ty, memo) }
    };
    if expand.is_none() {
        let values =
            read.iter().map(|(item, ty, is_list)| value(item, ty, *is_list)).collect::<PyResult<_>>()?;
        return Ok(NodeOutput { values, ui, expand: None });
    }
    let graph = Prompt::from_json(&json::to_json(&expand)?)
        .map_err(|refused| pyo3::exceptions::PyValueError::new_err(refused.to_string()))?;
    let results = read
        .iter()
        .map(|(item, ty, is_list)| {
            let link = item.is_instance_of::<PyList>().then(|| json::to_json(item).ok()).flatten();
            match link.as_ref().and_then(Json::as_array).and_then(|items| parse_link(items)) {
                Some(link) => Ok(ExpansionResult::Link(link)),
                None => value(item, ty, *is_list).map(ExpansionResult::Value),
            }
        })
        .collect::<PyResult<_>>()?;
    Ok(NodeOutput { values: Vec::new(), ui, expand: Some(Expansion { graph, results }) })
}

struct Pending {
    sender: Sender<Answer>,
    outputs: Arc<Vec<OutputKind>>,
    memo: Memo,
    _watched: Watched,
}

/// Called once by the adapter when a coroutine has ended.
#[pyclass(frozen, module = "rushlight._rushlight")]
struct Done(Mutex<Option<Pending>>);

#[pymethods]
impl Done {
    /// `result` is as [`PyNode::execute`] reads it, or `None` with the exception that was raised.
    #[pyo3(signature = (result, raised=None))]
    fn __call__(&self, py: Python<'_>, result: &Bound<'_, PyAny>, raised: Option<Bound<'_, PyAny>>) {
        let Some(pending) = self.0.lock().take() else { return };
        let answer = match raised {
            Some(raised) => Err(PyErr::from_value(raised)),
            None => read_result(result, &pending.outputs, &pending.memo),
        };
        // The executor stops listening when the run has ended for another reason.
        let _ = pending.sender.send(answer.map_err(|raised| error::node_error(py, raised)));
    }
}
