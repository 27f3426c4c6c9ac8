//! Work of which only so much is done at once: it takes memory that a client's request decides about.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Prompts whose body is larger than this wait for each other.
const LARGE_PROMPT: usize = 1 << 20;

/// Large prompts that are read and checked at once.
const LARGE_PROMPTS: usize = 2;

/// Places for heavy work.
pub struct Heavy {
    prompts: Arc<Semaphore>,
    pictures: Arc<Semaphore>,
}

/// A place, until it is dropped; `None` for work that needs none.
pub type Permit = Option<OwnedSemaphorePermit>;

impl Default for Heavy {
    /// One picture a core: more at once would not be done sooner.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { prompts: Arc::new(Semaphore::new(LARGE_PROMPTS)), pictures: Arc::new(Semaphore::new(cores)) }
    }
}

impl Heavy {
    /// Waits for a place to read and check a prompt of that many bytes.
    pub async fn prompt(&self, bytes: usize) -> Permit {
        if bytes <= LARGE_PROMPT {
            return None;
        }
        // It is only closed with the server.
        self.prompts.clone().acquire_owned().await.ok()
    }

    /// Waits for a place to decode and encode a picture.
    pub async fn picture(&self) -> Permit {
        self.pictures.clone().acquire_owned().await.ok()
    }
}
