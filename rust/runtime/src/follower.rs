//! Follows runs on this side of the wire: what an extension knows of the running node, and bars of its own.

use std::sync::Arc;

use bytes::Bytes;
use rushlight_protocol::{ImageFormat, NodeProgress};

use crate::context::{NodeContext, RunContext};
use crate::error::NodeError;

/// Hears of every node of a run, whichever engine runs it. Called on the threads that run nodes, without a lock of
/// the run's: what it does there, the node waits for.
pub trait RunFollower: Send + Sync {
    /// A run begins; none of its nodes has.
    fn run_begins(&self, run: &Arc<RunContext>);

    /// A node has its turn; once more after it had to wait for inputs that it asked for.
    fn node_begins(&self, node: &NodeContext);

    /// A native node is about to move its bar. `true` if that has been told already, so that clients are not told
    /// again.
    ///
    /// # Errors
    /// [`NodeError::Interrupted`] ends the node.
    fn moves_bar(&self, node: &NodeContext, bar: (u64, u64), preview: Preview<'_>)
    -> Result<bool, NodeError>;

    /// A node began, moved its bar (`moved`), or ended; clients have been told.
    fn progressed(&self, progress: &NodeProgress, moved: bool, preview: Preview<'_>);
}

/// An encoded picture that comes with a bar.
pub type Preview<'a> = Option<&'a (ImageFormat, Bytes)>;
