//! Work that may wait for a disk or compute for a while, away from the threads that serve sockets.

use crate::error::ApiError;

/// Runs `work` on a thread that may wait.
///
/// # Errors
/// Those of `work`; 500 when it panicked.
pub async fn run<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, ApiError>
where
    T: Send + 'static,
    E: Into<ApiError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(ApiError::internal(error)),
    }
}

impl From<rushlight_store::StoreError> for ApiError {
    fn from(error: rushlight_store::StoreError) -> Self {
        ApiError::internal(error)
    }
}
