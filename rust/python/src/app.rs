//! The running server, as the package sees it.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Device;
use parking_lot::Mutex;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use rushlight_graph::{InputType, NodeSchema};
use rushlight_protocol::{Audience, BinaryFrame, Event, ImageFormat};
use rushlight_runtime::{EventSink, Fingerprint, Inputs, Node};
use rushlight_server::extension::{Application, ForwardAddress, ForwardTarget, Pack};
use serde_json::{Map, json};

use crate::follow::Follower;
use crate::node::PyNode;
use crate::value::{self, Memo};
use crate::watch::Watch;
use crate::{context, json as convert};

/// What the package tells the server about itself.
#[derive(Default)]
pub struct Told {
    /// Loaded packs.
    pub packs: Vec<Pack>,
    /// Where the nodes' own routes are served.
    pub forward: Option<ForwardTarget>,
    /// Whether prompt handlers were added.
    pub changes_prompts: bool,
    /// Versions for `/system_stats`.
    pub versions: Map<String, serde_json::Value>,
}

/// The server: every call releases the interpreter while it works.
#[pyclass(frozen, module = "rushlight._rushlight", name = "App")]
pub struct PyApp {
    app: Arc<dyn Application>,
    sink: Arc<dyn EventSink>,
    watch: Arc<Watch>,
    follower: Arc<Follower>,
    told: Arc<Mutex<Told>>,
    options: serde_json::Value,
}

/// A call of a native class from Python: its inputs, each read as the schema declares it.
struct NativeCall {
    node: Arc<dyn Node>,
    schema: NodeSchema,
    inputs: Inputs,
    memo: Memo,
}

impl PyApp {
    fn native(&self, name: &str, inputs: &Bound<'_, PyDict>, device: &Device) -> PyResult<NativeCall> {
        let node = self.app.native().get(name).cloned();
        let node = node.ok_or_else(|| PyKeyError::new_err(format!("there is no native node {name}")))?;
        let schema = inputs.py().detach(|| node.schema(self.app.host().as_ref()));
        let memo = Memo::new(device);
        let mut values = Inputs::new();
        for (key, item) in inputs.iter() {
            let key: String = key.extract()?;
            let ty = match schema.find_input(&key).map(|input| &input.ty) {
                Some(InputType::Named(name)) => name.to_string(),
                _ => "*".into(),
            };
            values.insert(key, value::from_python(&item, &ty, &memo)?);
        }
        Ok(NativeCall { node, schema, inputs: values, memo })
    }

    /// Wraps a server; `options` is what the command line said of Python.
    pub fn new(
        app: Arc<dyn Application>,
        watch: Arc<Watch>,
        follower: Arc<Follower>,
        told: Arc<Mutex<Told>>,
        options: serde_json::Value,
    ) -> Self {
        Self { sink: app.sink(), app, watch, follower, told, options }
    }
}

#[pymethods]
impl PyApp {
    /// The command line's options for this side.
    fn options<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::to_python(py, &self.options)
    }

    /// Adds classes: a list of adapters. With `replace` they take the place of native classes of the same name, else they
    /// stand beside them. Returns `[(name, exception)]` of those that cannot describe themselves.
    #[pyo3(signature = (adapters, replace=false))]
    fn register<'py>(
        &self,
        py: Python<'py>,
        adapters: &Bound<'py, PyList>,
        replace: bool,
    ) -> PyResult<Vec<(String, Py<PyAny>)>> {
        let mut failed = Vec::new();
        let mut classes: Vec<(String, Arc<dyn Node>)> = Vec::new();
        for adapter in adapters.iter() {
            let name: String = adapter.getattr("name")?.extract()?;
            match PyNode::new(&adapter, self.watch.clone()) {
                Ok(node) => classes.push((name, Arc::new(node))),
                Err(raised) => failed.push((name, raised.into_value(py).into_any())),
            }
        }
        let prefer = self.options.get("prefer_python").and_then(serde_json::Value::as_bool).unwrap_or(false);
        py.detach(|| if replace { self.app.replace(classes) } else { self.app.register(classes, prefer) });
        Ok(failed)
    }

    /// Names of the native classes.
    fn native_names(&self) -> Vec<String> {
        self.app.native().iter().map(|(name, _)| name.to_string()).collect()
    }

    /// A native class's `/object_info` entry, `None` for an unknown class.
    fn native_schema<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let info = py.detach(|| {
            let registry = self.app.native();
            registry.get(name).map(|node| node.schema(self.app.host().as_ref()).to_object_info())
        });
        info.map(|info| convert::to_python(py, &info)).transpose()
    }

    /// Runs a native class once, as part of the running node `context`; gives its outputs and its `ui`.
    fn call_native<'py>(
        &self,
        py: Python<'py>,
        context: &Bound<'py, context::PyNodeContext>,
        name: &str,
        inputs: &Bound<'py, PyDict>,
    ) -> PyResult<(Vec<Bound<'py, PyAny>>, Bound<'py, PyAny>)> {
        let ctx = context.get().inner();
        let NativeCall { node, schema, inputs, mut memo } = self.native(name, inputs, ctx.device())?;
        let inputs = inputs.to_native(&schema, ctx.device());
        let inputs = inputs.map_err(|failure| crate::error::to_python(py, failure))?;
        let output = py.detach(|| node.execute(ctx, &inputs));
        let output = output.map_err(|failure| crate::error::to_python(py, failure))?;
        let outputs = output
            .values
            .iter()
            .map(|item| value::to_python(py, item, &mut memo))
            .collect::<PyResult<_>>()?;
        let ui =
            convert::to_python(py, &output.ui.map_or(serde_json::Value::Null, serde_json::Value::Object))?;
        Ok((outputs, ui))
    }

    /// A native class's change fingerprint for the running node `context`: `("unchanged" | "value" | "changed", value)`.
    fn native_fingerprint<'py>(
        &self,
        py: Python<'py>,
        context: &Bound<'py, context::PyNodeContext>,
        name: &str,
        inputs: &Bound<'py, PyDict>,
    ) -> PyResult<(&'static str, Bound<'py, PyAny>)> {
        let ctx = context.get().inner();
        let call = self.native(name, inputs, ctx.device())?;
        let found = py.detach(|| call.node.fingerprint(ctx, &call.inputs));
        let none = py.None().into_bound(py);
        Ok(match found.map_err(|failure| crate::error::to_python(py, failure))? {
            Fingerprint::Unchanged => ("unchanged", none),
            Fingerprint::AlwaysChanged => ("changed", none),
            Fingerprint::Value(value) => ("value", convert::to_python(py, &value)?),
        })
    }

    /// A native class's own validation: `None` without one, else the fault or `""` if it accepts.
    fn native_validate(
        &self,
        py: Python<'_>,
        name: &str,
        inputs: &Bound<'_, PyDict>,
    ) -> PyResult<Option<String>> {
        let call = self.native(name, inputs, &Device::Cpu)?;
        let host = self.app.host();
        let answer = py.detach(|| call.node.validate(host.as_ref(), &call.inputs, &Map::new()));
        // A fault without a reason must not look like none.
        let fault = |fault: String| if fault.is_empty() { "the inputs are not valid".into() } else { fault };
        Ok(answer.map(|answer| answer.fault.map_or_else(String::new, fault)))
    }

    /// The node that had its turn last, of the newest run; its id is empty while the run has only begun.
    fn running(&self) -> Option<context::PyNodeContext> {
        self.follower.last().map(context::PyNodeContext::new)
    }

    /// Tells whether packs have added handlers, which hear of every node, and a hook for the bars of native nodes.
    fn tell_listeners(&self, handlers: bool, hook: bool) {
        self.follower.set_listeners(handlers, hook);
    }

    /// Sends a named event with JSON or a numbered one with bytes; to everyone if `sid` is `None`.
    #[pyo3(signature = (event, data, sid=None))]
    fn send(&self, event: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>, sid: Option<&str>) -> PyResult<()> {
        context::send(self.sink.as_ref(), event, data, sid)
    }

    /// Sends progress text that belongs to no node's call: to `sid`, or to the client of the prompt that runs, or to
    /// everyone while none runs.
    #[pyo3(signature = (text, node_id, sid=None))]
    fn progress_text(&self, text: &str, node_id: &str, sid: Option<&str>) {
        let to = sid.map_or_else(|| self.follower.audience(), |sid| Audience::Session(sid.into()));
        let last = self.follower.last();
        let prompt_id = last.map_or_else(|| "".into(), |last| last.run.prompt_id.clone());
        let frame = BinaryFrame::Text { prompt_id, node_id: node_id.into(), text: text.into() };
        self.sink.send(&to, Event::Binary(frame));
    }

    /// Sends an encoded preview picture that belongs to no node.
    #[pyo3(signature = (jpeg, image, sid=None))]
    fn send_preview(&self, jpeg: bool, image: &Bound<'_, PyBytes>, sid: Option<&str>) {
        let format = if jpeg { ImageFormat::Jpeg } else { ImageFormat::Png };
        let image = bytes::Bytes::copy_from_slice(image.as_bytes());
        let to = sid.map_or(Audience::Everyone, |sid| Audience::Session(sid.into()));
        self.sink.send(&to, Event::Binary(BinaryFrame::Preview { format, image, metadata: None }));
    }

    /// Folders: see [`Application::folders`].
    fn folders<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let folders = py.detach(|| self.app.folders());
        convert::to_python(py, &folders)
    }

    /// Adds a folder to a model folder key.
    #[pyo3(signature = (key, folder, first=false))]
    fn add_model_folder(&self, py: Python<'_>, key: &str, folder: PathBuf, first: bool) {
        py.detach(|| self.app.add_model_folder(key, folder, first));
    }

    /// Replaces the folders of a model folder key and the extensions of files in them; none means every file.
    fn set_model_folder(&self, py: Python<'_>, key: &str, folders: Vec<PathBuf>, extensions: Vec<String>) {
        py.detach(|| self.app.set_model_folder(key, folders, extensions));
    }

    /// Moves the `input`, `output` or `temp` folder; false for another kind.
    fn set_folder(&self, py: Python<'_>, kind: &str, folder: PathBuf) -> bool {
        py.detach(|| self.app.set_folder(kind, folder))
    }

    /// Names of models in a folder key, as schemas list them.
    fn model_names(&self, py: Python<'_>, key: &str) -> Vec<String> {
        py.detach(|| self.app.host().model_names(key))
    }

    /// Running and pending queue items.
    fn queue<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (running, pending) = py.detach(|| self.app.queue());
        convert::to_python(py, &json!([running, pending]))
    }

    /// History as `GET /history` gives it.
    #[pyo3(signature = (prompt_id=None, max_items=None, offset=None))]
    fn history<'py>(
        &self,
        py: Python<'py>,
        prompt_id: Option<&str>,
        max_items: Option<usize>,
        offset: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let history = py.detach(|| self.app.history(prompt_id, max_items, offset));
        convert::to_python(py, &history)
    }

    /// Deletes a history entry, or all.
    #[pyo3(signature = (prompt_id=None))]
    fn delete_history(&self, py: Python<'_>, prompt_id: Option<&str>) {
        py.detach(|| self.app.delete_history(prompt_id));
    }

    /// Queues a prompt: `(true, answer)` or `(false, refusal)`.
    fn submit<'py>(&self, py: Python<'py>, body: &Bound<'py, PyAny>) -> PyResult<(bool, Bound<'py, PyAny>)> {
        let body = convert::to_json(body)?;
        let (accepted, answer) = py.detach(|| match self.app.submit(body) {
            Ok(accepted) => (true, json!(accepted)),
            Err(refused) => (false, json!(refused)),
        });
        Ok((accepted, convert::to_python(py, &answer)?))
    }

    /// Checks a prompt without queueing it: `(true, {"outputs", "node_errors"})` or `(false, refusal)`.
    #[pyo3(signature = (prompt, targets=None))]
    fn validate<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
        targets: Option<Vec<String>>,
    ) -> PyResult<(bool, Bound<'py, PyAny>)> {
        let prompt = convert::to_json(prompt)?;
        let (valid, answer) = py.detach(|| match self.app.validate(&prompt, targets.as_deref()) {
            Ok(valid) => (true, json!({"outputs": valid.outputs, "node_errors": valid.node_errors})),
            Err(refused) => (false, json!(refused)),
        });
        Ok((valid, convert::to_python(py, &answer)?))
    }

    /// Removes a pending prompt, or all.
    #[pyo3(signature = (prompt_id=None))]
    fn delete_queued(&self, py: Python<'_>, prompt_id: Option<&str>) -> bool {
        py.detach(|| self.app.delete_queued(prompt_id))
    }

    /// Interrupts the running prompt.
    #[pyo3(signature = (prompt_id=None))]
    fn interrupt(&self, py: Python<'_>, prompt_id: Option<&str>) {
        py.detach(|| self.app.interrupt(prompt_id));
    }

    /// Asks to give memory back.
    fn free(&self, py: Python<'_>, unload_models: bool, free_memory: bool) {
        py.detach(|| self.app.free(unload_models, free_memory));
    }

    /// Ids of the connected sessions.
    fn sessions(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| self.app.sessions())
    }

    /// Feature flags of a session, `None` when it is not connected.
    fn session_flags<'py>(&self, py: Python<'py>, sid: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let flags = py.detach(|| self.app.session_flags(sid));
        flags.map(|flags| convert::to_python(py, &serde_json::Value::Object(flags))).transpose()
    }

    /// Adds a line to the log.
    fn log(&self, py: Python<'_>, line: &str) {
        py.detach(|| self.app.log(line));
    }

    /// Tells the server of a loaded pack.
    #[pyo3(signature = (name, path, web, seconds, error=None))]
    fn tell_pack(
        &self,
        name: String,
        path: PathBuf,
        web: Option<PathBuf>,
        seconds: f64,
        error: Option<String>,
    ) {
        self.told.lock().packs.push(Pack { name, path, web, seconds, error });
    }

    /// Tells the server where the nodes' own routes are: a socket path or a loopback port.
    #[pyo3(signature = (secret, socket=None, port=None))]
    fn tell_forward(&self, secret: String, socket: Option<PathBuf>, port: Option<u16>) {
        let address = socket.map(ForwardAddress::Unix).or(port.map(ForwardAddress::Loopback));
        self.told.lock().forward = address.map(|address| ForwardTarget { address, secret });
    }

    /// Tells the server that prompt handlers were added.
    fn tell_prompt_handlers(&self) {
        self.told.lock().changes_prompts = true;
    }

    /// Tells the server of versions.
    fn tell_versions(&self, versions: &Bound<'_, PyDict>) -> PyResult<()> {
        if let serde_json::Value::Object(versions) = convert::to_json(versions.as_any())? {
            self.told.lock().versions = versions;
        }
        Ok(())
    }
}
