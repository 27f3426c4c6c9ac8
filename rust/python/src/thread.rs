//! Python's state of one of the server's threads, kept as long as the thread lives.
//!
//! Without it a thread's state goes when it detaches, and the next attach makes another. Libraries made with pybind11
//! (PyTorch is one) remember the state of the thread that imported them first, and would use it when it is gone.

use pyo3::ffi;
use pyo3::prelude::*;

/// One hold on the state of this thread.
struct Kept(ffi::PyGILState_STATE);

impl Drop for Kept {
    fn drop(&mut self) {
        let state = self.0;
        // An interpreter that is gone has no states any more.
        let _ = Python::try_attach(|_| {
            // SAFETY: attached, and the hold was taken on this thread by `keep`, once.
            unsafe { ffi::PyGILState_Release(state) }
        });
    }
}

thread_local! {
    // SAFETY: made by `keep` only, which is attached.
    static KEPT: Kept = Kept(unsafe { ffi::PyGILState_Ensure() });
}

/// Calls on any thread: Python's own have a state, which is theirs, others keep the one that they get. `None` when there is
/// no interpreter any more.
pub fn attach<T>(call: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    // SAFETY: may be called whether the thread is attached or not.
    let foreign = unsafe { ffi::PyGILState_GetThisThreadState() }.is_null();
    Python::try_attach(|py| {
        if foreign {
            keep(py);
        }
        call(py)
    })
}

/// Keeps the state of this thread, which is none of Python's own, until the thread ends.
pub fn keep(_attached: Python<'_>) {
    // A thread that is ending has let it go already.
    let _ = KEPT.try_with(|_| ());
}
