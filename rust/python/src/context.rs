//! The running node, as the Python modules see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat};
use rushlight_protocol::{Audience, BinaryFrame, Event, ImageFormat, NodeState};
use rushlight_runtime::context::{PreviewMethod, float_number};
use rushlight_runtime::{EventSink, NodeContext, NodeIdentity};
use serde_json::Number;

use crate::{error, follow, json};

/// One call of one node: what `PromptServer.instance`, progress bars and V3's APIs work on. May be kept by threads
/// after the node has ended.
#[pyclass(frozen, module = "rushlight._rushlight", name = "NodeContext")]
pub struct PyNodeContext {
    inner: NodeContext,
    /// Graphs that this call has built.
    graphs: AtomicUsize,
}

impl PyNodeContext {
    /// Wraps a context.
    pub fn new(inner: NodeContext) -> Self {
        Self { inner, graphs: AtomicUsize::new(0) }
    }

    /// The context.
    pub fn inner(&self) -> &NodeContext {
        &self.inner
    }

    fn of_node(&self, node_id: Option<&str>) -> NodeContext {
        match node_id {
            Some(id) if id != self.inner.node.node_id.as_ref() => {
                let id: Arc<str> = id.into();
                let node = NodeIdentity {
                    node_id: id.clone(),
                    display_id: id.clone(),
                    parent_id: None,
                    real_id: id,
                    class_type: self.inner.node.class_type.clone(),
                };
                NodeContext { node: Arc::new(node), ..self.inner.clone() }
            }
            _ => self.inner.clone(),
        }
    }
}

/// A progress number as the node gave it: integers stay integers.
fn number(value: &Bound<'_, PyAny>) -> PyResult<Number> {
    if value.is_instance_of::<PyFloat>() {
        return Ok(float_number(value.extract()?));
    }
    match value.extract::<i64>() {
        Ok(int) => Ok(int.into()),
        Err(_) => Ok(float_number(value.extract()?)),
    }
}

fn image_format(name: &str) -> PyResult<ImageFormat> {
    match name.to_ascii_uppercase().as_str() {
        "JPEG" | "JPG" => Ok(ImageFormat::Jpeg),
        "PNG" => Ok(ImageFormat::Png),
        other => Err(PyTypeError::new_err(format!("a preview is JPEG or PNG, not {other}"))),
    }
}

#[pymethods]
impl PyNodeContext {
    /// The prompt's id.
    #[getter]
    fn prompt_id(&self) -> &str {
        &self.inner.run.prompt_id
    }

    /// Id in the expanded graph.
    #[getter]
    fn node_id(&self) -> &str {
        &self.inner.node.node_id
    }

    /// Id a frontend shows.
    #[getter]
    fn display_node_id(&self) -> &str {
        &self.inner.node.display_id
    }

    /// Class name.
    #[getter]
    fn class_type(&self) -> &str {
        &self.inner.node.class_type
    }

    /// Index of this call in a list.
    #[getter]
    fn list_index(&self) -> Option<usize> {
        self.inner.list_index
    }

    /// Session that gets the prompt's events.
    #[getter]
    fn client_id(&self) -> Option<&str> {
        match &self.inner.run.audience {
            Audience::Session(id) => Some(id),
            Audience::Everyone | Audience::Nobody => None,
        }
    }

    /// Side of the square that previews fit in.
    #[getter]
    fn preview_size(&self) -> u32 {
        self.inner.run.preview_size
    }

    /// `none`, `latent2rgb` or `taesd`.
    #[getter]
    fn preview_method(&self) -> &'static str {
        match self.inner.run.preview_method {
            PreviewMethod::None => "none",
            PreviewMethod::Latent2Rgb => "latent2rgb",
            PreviewMethod::Taesd => "taesd",
        }
    }

    /// Whether the run is to end.
    #[getter]
    fn cancelled(&self) -> bool {
        self.inner.run.cancel.is_cancelled()
    }

    /// Raises `InterruptProcessingException` if the run is to end.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.check().map_err(|failure| error::to_python(py, failure))
    }

    /// Numbers the graphs that this call builds to expand into: 0, 1, …
    fn next_graph(&self) -> usize {
        self.graphs.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends the run at its next check.
    fn cancel(&self) {
        self.inner.run.cancel.cancel();
    }

    /// Moves the bar of the node (or of `node_id`); `preview` is `(format, encoded bytes)`.
    #[pyo3(signature = (value, maximum, preview=None, node_id=None))]
    fn progress(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        maximum: &Bound<'_, PyAny>,
        preview: Option<(String, Bound<'_, PyBytes>)>,
        node_id: Option<&str>,
    ) -> PyResult<()> {
        self.check(py)?;
        let (value, maximum) = (number(value)?, number(maximum)?);
        let preview = match preview {
            Some((format, bytes)) => Some((image_format(&format)?, Bytes::copy_from_slice(bytes.as_bytes()))),
            None => None,
        };
        let node = self.of_node(node_id);
        py.detach(|| node.progress_numbers(value, maximum, preview));
        Ok(())
    }

    /// The nodes of the run that have begun, in that order: id → `(state, value, maximum)`.
    fn nodes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let made = PyDict::new(py);
        for (id, node) in self.inner.run.nodes() {
            let value = json::to_python(py, &node.value.into())?;
            let maximum = json::to_python(py, &node.max.into())?;
            made.set_item(id.as_ref(), (follow::state_name(node.state), value, maximum))?;
        }
        Ok(made)
    }

    /// Tells that the node (or `node_id`) has begun, or that it has ended.
    #[pyo3(signature = (ended, node_id=None))]
    fn report(&self, py: Python<'_>, ended: bool, node_id: Option<&str>) {
        let state = if ended { NodeState::Finished } else { NodeState::Running };
        let node = self.of_node(node_id);
        py.detach(|| node.run.report(&node.node, state, None));
    }

    /// Sends progress text of the node (or of `node_id`) to the prompt's session, or to `sid`.
    #[pyo3(signature = (text, node_id=None, sid=None))]
    fn progress_text(&self, text: &str, node_id: Option<&str>, sid: Option<&str>) {
        let run = &self.inner.run;
        let event = Event::Binary(BinaryFrame::Text {
            prompt_id: run.prompt_id.clone(),
            node_id: node_id.map_or_else(|| self.inner.node.node_id.clone(), Into::into),
            text: text.into(),
        });
        match sid {
            Some(sid) => run.sink.send(&Audience::Session(sid.into()), event),
            None => run.emit(event),
        }
    }

    fn __repr__(&self) -> String {
        format!("<node {} ({}) of prompt {}>", self.node_id(), self.class_type(), self.prompt_id())
    }
}

/// Hands an event of a node to the dispatcher: `data` is JSON for a named event, bytes for a numbered one.
///
/// # Errors
/// `TypeError` for data that cannot be sent.
pub fn send(
    sink: &dyn EventSink,
    event: &Bound<'_, PyAny>,
    data: &Bound<'_, PyAny>,
    sid: Option<&str>,
) -> PyResult<()> {
    let to = sid.map_or(Audience::Everyone, |sid| Audience::Session(sid.into()));
    let event = if let Ok(name) = event.extract::<&str>() {
        Event::Custom { name: name.into(), data: Arc::new(json::to_json(data)?) }
    } else {
        let id: u32 = event.extract()?;
        let payload: Vec<u8> = match data.cast::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes().to_vec(),
            Err(_) => data.extract()?,
        };
        Event::Binary(BinaryFrame::Raw { id, payload: payload.into() })
    };
    sink.send(&to, event);
    Ok(())
}
