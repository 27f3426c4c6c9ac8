//! The prompt as it stands, for nodes that ask for `DYNPROMPT`.

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet};
use rushlight_graph::{Input, NodeId, PromptNode};
use rushlight_runtime::DynPrompt;

use crate::json;

/// The submitted prompt and the nodes that expansion added to it.
#[pyclass(frozen, module = "rushlight._rushlight", name = "DynamicPrompt")]
pub struct PyDynamicPrompt {
    inner: DynPrompt,
}

impl PyDynamicPrompt {
    /// A view of a running prompt.
    pub fn new(inner: DynPrompt) -> Self {
        Self { inner }
    }
}

fn node_to_python<'py>(py: Python<'py>, node: &PromptNode) -> PyResult<Bound<'py, PyDict>> {
    let inputs = PyDict::new(py);
    for (name, input) in &node.inputs {
        let value = match input {
            Input::Link(link) => {
                let list = PyList::empty(py);
                list.append(link.node.as_ref())?;
                list.append(link.slot)?;
                list.into_any()
            }
            Input::Constant(value) => json::to_python(py, value)?,
            Input::NonFinite(value) => value.into_pyobject(py)?.into_any(),
        };
        inputs.set_item(name.as_ref(), value)?;
    }
    let made = PyDict::new(py);
    made.set_item("class_type", node.class_type.as_ref())?;
    made.set_item("inputs", inputs)?;
    if let Some(title) = &node.title {
        let meta = PyDict::new(py);
        meta.set_item("title", title.as_ref())?;
        made.set_item("_meta", meta)?;
    }
    if let Some(id) = &node.override_display_id {
        made.set_item("override_display_id", id.as_ref())?;
    }
    Ok(made)
}

#[pymethods]
impl PyDynamicPrompt {
    /// A node as it is written in prompts.
    ///
    /// # Errors
    /// `KeyError` for an unknown id.
    fn get_node<'py>(&self, py: Python<'py>, node_id: &str) -> PyResult<Bound<'py, PyDict>> {
        let node = self.inner.0.read().get(node_id).cloned();
        let node = node.ok_or_else(|| PyKeyError::new_err(format!("Node {node_id} not found")))?;
        node_to_python(py, &node)
    }

    /// Whether there is such a node.
    fn has_node(&self, node_id: &str) -> bool {
        self.inner.0.read().get(node_id).is_some()
    }

    /// Every id.
    fn all_node_ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PySet>> {
        let ids: Vec<NodeId> = self.inner.0.read().ids().cloned().collect();
        PySet::new(py, ids.iter().map(AsRef::as_ref).collect::<Vec<&str>>())
    }

    /// The prompt as it was submitted.
    fn get_original_prompt<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let original = self.inner.0.read().original().clone();
        let made = PyDict::new(py);
        for (id, node) in &original.nodes {
            made.set_item(id.as_ref(), node_to_python(py, node)?)?;
        }
        Ok(made)
    }

    /// The node that expanded into this one.
    fn get_parent_node_id(&self, node_id: &str) -> Option<String> {
        self.inner.0.read().parent_id(node_id).map(|id| id.to_string())
    }

    /// The outermost node.
    fn get_real_node_id(&self, node_id: &str) -> String {
        self.inner.0.read().real_id(&node_id.into()).to_string()
    }

    /// The id that a frontend shows.
    fn get_display_node_id(&self, node_id: &str) -> String {
        self.inner.0.read().display_id(&node_id.into()).to_string()
    }
}
