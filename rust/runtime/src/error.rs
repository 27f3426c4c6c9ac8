//! How a node fails.

use crate::host::HostError;

/// Why a node call did not give outputs.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The run was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The node raised: becomes `execution_error`.
    #[error("{exception_type}: {message}")]
    Failed {
        /// Dotted type name (`ValueError`, `torch.OutOfMemoryError`, …).
        exception_type: String,
        /// What happened, with enough to act on.
        message: String,
        /// One string a frame; empty for native nodes.
        traceback: Vec<String>,
    },
}

impl NodeError {
    /// A failure with a Python-style exception type and no traceback.
    pub fn new(exception_type: &str, message: impl Into<String>) -> Self {
        NodeError::Failed {
            exception_type: exception_type.into(),
            message: message.into(),
            traceback: Vec::new(),
        }
    }

    /// The same failure, saying which input it is about.
    pub fn of_input(self, name: &str) -> Self {
        match self {
            NodeError::Failed { exception_type, message, traceback } => {
                NodeError::Failed { exception_type, message: format!("input '{name}': {message}"), traceback }
            }
            NodeError::Interrupted => NodeError::Interrupted,
        }
    }

    /// A value that cannot be used.
    pub fn value(message: impl Into<String>) -> Self {
        Self::new("ValueError", message)
    }
}

impl From<candle_core::Error> for NodeError {
    fn from(error: candle_core::Error) -> Self {
        Self::new("RuntimeError", error.to_string())
    }
}

impl From<HostError> for NodeError {
    fn from(error: HostError) -> Self {
        let kind = match &error {
            HostError::NotFound { .. } => "FileNotFoundError",
            HostError::Refused { .. } => "PermissionError",
            HostError::TooLarge { .. } => "ValueError",
            HostError::Io { .. } => "OSError",
        };
        Self::new(kind, error.to_string())
    }
}
