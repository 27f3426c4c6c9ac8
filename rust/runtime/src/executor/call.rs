//! Calls of one node; panics are caught here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use super::inputs::{self, InputLists};
use super::report::{Failure, describe_inputs};
use crate::context::NodeContext;
use crate::error::NodeError;
use crate::node::{Execution, Node, NodeOutput};

/// Why a run does not go on.
pub(super) enum Stop {
    /// It was interrupted.
    Interrupted,
    /// The node failed.
    Failed(Box<Failure>),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failed(Box::new(failure))
    }
}

impl Stop {
    /// A node's error, with the inputs it had.
    pub(super) fn from_error(error: NodeError, lists: &InputLists) -> Self {
        match error {
            NodeError::Interrupted => Stop::Interrupted,
            NodeError::Failed { exception_type, message, traceback } => {
                Stop::from(Failure { exception_type, message, traceback, inputs: describe_inputs(lists) })
            }
        }
    }
}

/// One call of a node.
pub(super) enum Call {
    /// It gave outputs.
    Done(NodeOutput),
    /// It goes on elsewhere.
    Pending(Receiver<Result<NodeOutput, NodeError>>),
    /// An input was a blocker; its message is to be told.
    Blocked(Option<String>),
}

/// Begins every call of a node over its input lists.
///
/// # Errors
/// The first call's failure, or the interrupt.
pub(super) fn start_calls(
    node: &dyn Node,
    ctx: &NodeContext,
    schema: &rushlight_graph::NodeSchema,
    lists: &InputLists,
) -> Result<Vec<Call>, Stop> {
    let count = inputs::call_count(schema, lists);
    let mut calls = Vec::with_capacity(count);
    let native = node.engines().is_native(&ctx.run.placement, &ctx.node.real_id);
    for index in 0..count {
        let inputs = inputs::slice(schema, lists, index);
        if let Some(message) = inputs::find_blocker(&inputs) {
            calls.push(Call::Blocked(message));
            continue;
        }
        if ctx.run.cancel.is_cancelled() {
            return Err(Stop::Interrupted);
        }
        let ctx = NodeContext { list_index: (!schema.input_is_list).then_some(index), ..ctx.clone() };
        let start = || {
            let inputs = if native { inputs.to_native(schema, ctx.device())? } else { inputs };
            node.start(&ctx, &inputs)
        };
        match guarded(start) {
            Ok(Execution::Done(output)) => calls.push(Call::Done(output)),
            Ok(Execution::Pending(receiver)) => calls.push(Call::Pending(receiver)),
            Err(error) => return Err(Stop::from_error(error, lists)),
        }
    }
    Ok(calls)
}

/// Calls into a node; a panic becomes its error.
///
/// # Errors
/// The node's error.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, NodeError>) -> Result<T, NodeError> {
    // A node that panicked may leave its own state half changed; locks in parking_lot are not poisoned, and nothing
    // of the executor is reachable from a node.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(NodeError::new("RuntimeError", format!("the node panicked: {}", panic_text(panic.as_ref()))))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Takes the results of calls that have ended. Returns whether all have. With a wait, waits at most that long for
/// the first that has not.
///
/// # Errors
/// The first failure.
pub(super) fn poll_calls(calls: &mut [Call], lists: &InputLists, wait: Duration) -> Result<bool, Stop> {
    let mut wait = Some(wait).filter(|wait| !wait.is_zero());
    let mut all_done = true;
    for call in calls {
        let Call::Pending(receiver) = call else { continue };
        let received = match wait.take() {
            Some(wait) => receiver.recv_timeout(wait).map_err(|error| match error {
                std::sync::mpsc::RecvTimeoutError::Timeout => TryRecvError::Empty,
                std::sync::mpsc::RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
            }),
            None => receiver.try_recv(),
        };
        match received {
            Ok(Ok(output)) => *call = Call::Done(output),
            Ok(Err(error)) => return Err(Stop::from_error(error, lists)),
            Err(TryRecvError::Empty) => all_done = false,
            Err(TryRecvError::Disconnected) => {
                let error = NodeError::new("RuntimeError", "the node's task ended without a result");
                return Err(Stop::from_error(error, lists));
            }
        }
    }
    Ok(all_done)
}
