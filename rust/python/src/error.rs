//! Python exceptions as node errors and back.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rushlight_runtime::NodeError;

/// What a Python node raised, with its dotted type and the frames of the node itself.
pub fn node_error(py: Python<'_>, error: PyErr) -> NodeError {
    match describe(py, &error) {
        Ok((kind, _, _)) if kind == "interrupted" => NodeError::Interrupted,
        Ok((exception_type, message, traceback)) => NodeError::Failed { exception_type, message, traceback },
        // Describing runs Python code of the exception, which may fail itself.
        Err(_) => NodeError::new("RuntimeError", error.to_string()),
    }
}

fn describe(py: Python<'_>, error: &PyErr) -> PyResult<(String, String, Vec<String>)> {
    py.import("rushlight.host.errors")?.call_method1("describe", (error.value(py),))?.extract()
}

/// A node error as the Python exception that stands for it.
pub fn to_python(py: Python<'_>, error: NodeError) -> PyErr {
    let raised = || -> PyResult<PyErr> {
        let errors = py.import("rushlight.host.errors")?;
        Ok(PyErr::from_value(match error {
            NodeError::Interrupted => errors.call_method0("interrupted")?,
            NodeError::Failed { ref exception_type, ref message, .. } => {
                errors.call_method1("native_failure", (exception_type, message))?
            }
        }))
    };
    raised().unwrap_or_else(|_| PyRuntimeError::new_err("a native node failed"))
}
