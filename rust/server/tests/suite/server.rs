//! A server for one test.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rushlight_runtime::host::{HostError, ModelSource, SaveRequest, SavedFile};
use rushlight_runtime::{ExecutorOptions, Host};
use rushlight_server::{LogBuffer, Parts, RunningServer, Server, ServerSettings, StartError};
use rushlight_store::folders::FolderSettings;
use rushlight_store::{Folders, SqliteOptions, SqliteStore, Store};

use super::nodes;

/// A host without files.
pub struct NoFiles;

fn none(name: &str) -> HostError {
    HostError::NotFound { what: "file".into(), name: name.into() }
}

impl Host for NoFiles {
    fn model_names(&self, _folder: &str) -> Vec<String> {
        Vec::new()
    }
    fn model(&self, _folder: &str, name: &str) -> Result<ModelSource, HostError> {
        Err(none(name))
    }
    fn input_names(&self, _kinds: &[&str]) -> Vec<String> {
        Vec::new()
    }
    fn read(&self, name: &str) -> Result<Bytes, HostError> {
        Err(none(name))
    }
    fn fingerprint(&self, name: &str) -> Result<String, HostError> {
        Err(none(name))
    }
    fn save(&self, request: &SaveRequest<'_>, _bytes: &[u8]) -> Result<SavedFile, HostError> {
        Err(none(request.prefix))
    }
}

/// Settings with a free port and short times.
pub fn settings() -> ServerSettings {
    let mut settings =
        ServerSettings { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..ServerSettings::default() };
    settings.limits.shutdown_deadline = Duration::from_millis(200);
    settings
}

/// Starts a server on a store.
pub async fn start_on(settings: ServerSettings, store: Arc<dyn Store>) -> RunningServer {
    start_or_fail(settings, store).await.unwrap()
}

/// Starts a server that keeps nothing, if it can be started.
pub async fn try_start(settings: ServerSettings) -> Result<RunningServer, StartError> {
    start_or_fail(settings, Arc::new(SqliteStore::in_memory(SqliteOptions::default()).unwrap())).await
}

async fn start_or_fail(settings: ServerSettings, store: Arc<dyn Store>) -> Result<RunningServer, StartError> {
    let base = tempfile::tempdir().unwrap();
    let folders = Folders::open(&FolderSettings { base: base.path().into(), ..FolderSettings::default() });
    let parts = Parts {
        host: Arc::new(NoFiles),
        folders: Arc::new(folders.unwrap()),
        registry: nodes::registry(),
        store,
        devices: vec![candle_core::Device::Cpu],
        executor: ExecutorOptions::default(),
        extension: None,
        logs: LogBuffer::new(),
    };
    Server::start(settings, parts).await
}

/// Starts a server that keeps nothing.
pub async fn start() -> RunningServer {
    start_with(settings()).await
}

/// Starts a server that keeps nothing, with these settings.
pub async fn start_with(settings: ServerSettings) -> RunningServer {
    start_on(settings, Arc::new(SqliteStore::in_memory(SqliteOptions::default()).unwrap())).await
}

/// A store on disk.
pub fn store(folder: &Path) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(&folder.join("rushlight.db"), SqliteOptions::default()).unwrap())
}
