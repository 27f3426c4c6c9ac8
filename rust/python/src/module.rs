//! What the module exports.

use pyo3::prelude::*;

use crate::foreign::AdoptingAllocator;

#[global_allocator]
static ALLOCATOR: AdoptingAllocator = AdoptingAllocator;

/// The native half of the `rushlight` package.
#[pymodule]
mod _rushlight {
    use candle_core::{DType, Device, Tensor};
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::app::PyApp;
    #[pymodule_export]
    use crate::context::PyNodeContext;
    #[pymodule_export]
    use crate::dlpack::TensorView;
    #[pymodule_export]
    use crate::dynprompt::PyDynamicPrompt;
    #[pymodule_export]
    use crate::value::NativeValue;

    #[pymodule_export]
    const __VERSION__: &str = env!("CARGO_PKG_VERSION");

    /// Runs the command line; `arguments` without the program's name. Returns the exit status.
    #[pyfunction]
    fn main(py: Python<'_>, arguments: Vec<String>) -> i32 {
        py.detach(|| crate::command::main(arguments))
    }

    /// Takes a DLPack capsule into the engine and lends it out again: what a node's output goes through.
    ///
    /// # Errors
    /// For tensors that cannot cross.
    #[pyfunction]
    fn round_trip(capsule: &Bound<'_, PyAny>) -> PyResult<TensorView> {
        TensorView::new(&crate::dlpack::take(capsule)?)
    }

    /// A tensor of zeros from the engine.
    ///
    /// # Errors
    /// When memory is short.
    #[pyfunction]
    fn zeros(shape: Vec<usize>) -> PyResult<TensorView> {
        let tensor = Tensor::zeros(shape, DType::F32, &Device::Cpu);
        TensorView::new(&tensor.map_err(|error| pyo3::exceptions::PyMemoryError::new_err(error.to_string()))?)
    }

    /// Foreign blocks that the engine holds now.
    #[pyfunction]
    fn adopted_blocks() -> usize {
        crate::foreign::adopted()
    }
}
