//! Start, run, stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use candle_core::Device;
use parking_lot::{Mutex, RwLock};
use rushlight_runtime::{ClassTable, ExecutorOptions, Host, Registry};
use rushlight_store::{Folders, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::application::Handle;
use crate::dispatcher::Dispatcher;
use crate::extension::{Application, Extension};
use crate::files::{DeviceInfo, Files};
use crate::listen::Acceptor;
use crate::logs::LogBuffer;
use crate::queue::{JobQueue, QueuedPrompt};
use crate::routes;
use crate::settings::ServerSettings;
use crate::state::{App, AppState};
use crate::tls::{TlsError, TlsFiles};
use crate::worker;

/// How long a suspended prompt has to reach its next check.
const SUSPEND_GRACE: Duration = Duration::from_secs(3);

/// How long sockets have to take their close frame.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// What a server is made of beside its settings.
pub struct Parts {
    /// Files and models.
    pub host: Arc<dyn Host>,
    /// The folders behind them.
    pub folders: Arc<Folders>,
    /// Native node classes.
    pub registry: Registry,
    /// Where queue and history are kept.
    pub store: Arc<dyn Store>,
    /// One compute thread each.
    pub devices: Vec<Device>,
    /// How executors work.
    pub executor: ExecutorOptions,
    /// What adds classes, routes and files when the sockets are open.
    pub extension: Option<Arc<dyn Extension>>,
    /// The last log lines; its layer is in the program's `tracing` subscriber.
    pub logs: Arc<LogBuffer>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// What the last process left cannot be read.
    #[error("cannot read the queue: {0}")]
    Store(#[from] StoreError),
    /// No thread for a device.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Starts servers.
pub struct Server;

/// A server that listens. Dropping it closes its sockets without ceremony; [`RunningServer::shutdown`] does it well.
pub struct RunningServer {
    addresses: Vec<SocketAddr>,
    state: AppState,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Opens the sockets, queues what the last process left, and serves. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] when something the server needs cannot be had.
    pub async fn start(settings: ServerSettings, parts: Parts) -> Result<RunningServer, StartError> {
        let tls = settings.tls.as_ref().map(TlsFiles::acceptor).transpose()?;
        let mut sockets = Vec::new();
        for address in &settings.listen {
            let listen = |source| StartError::Listen { address: *address, source };
            let listener = TcpListener::bind(address).await.map_err(listen)?;
            let bound = listener.local_addr().map_err(listen)?;
            sockets.push((listener, bound));
        }
        let connections = Arc::new(Semaphore::new(settings.limits.connections));
        let dispatcher = Dispatcher::new(settings.limits.clone());
        let queue = Arc::new(JobQueue::new(parts.store, dispatcher.clone()));
        recover(&queue, &parts.folders)?;
        let classes = Arc::new(ClassTable::new(parts.registry, parts.host.clone()));
        parts.logs.connect(dispatcher.clone());
        let devices = parts.devices.iter().map(DeviceInfo::of).collect();
        let frontend_root = settings.frontend_root.clone();
        let files = Files::new(parts.folders.clone(), parts.host.clone(), parts.logs, frontend_root, devices);
        if let Some(extension) = &parts.extension {
            files.connect(extension.clone());
        }
        let state = AppState::new(App {
            settings,
            host: parts.host,
            files,
            dispatcher,
            queue,
            workers: parts.devices.len(),
            extension: parts.extension.clone(),
            classes: RwLock::new(classes),
            ready: Default::default(),
            object_info: Mutex::new(None),
            guesses: Default::default(),
            heavy: Default::default(),
        });
        let mut workers = Vec::new();
        for (index, device) in parts.devices.into_iter().enumerate() {
            let worker = worker::spawn(state.clone(), index, device, parts.executor.clone());
            workers.push(worker.map_err(StartError::Thread)?);
        }
        let (stop, stopped) = watch::channel(false);
        let router = routes::router(state.clone());
        let mut listeners = JoinSet::new();
        let mut addresses = Vec::new();
        for (listener, bound) in sockets {
            addresses.push(bound);
            let acceptor = Acceptor {
                router: router.clone(),
                state: state.clone(),
                connections: connections.clone(),
                stopped: stopped.clone(),
                tls: tls.clone(),
            };
            listeners.spawn(acceptor.run(listener));
        }
        match parts.extension {
            Some(extension) => load(extension, state.clone(), parts.folders).map_err(StartError::Thread)?,
            None => state.set_ready(),
        }
        Ok(RunningServer { addresses, state, stop, listeners, workers })
    }
}

/// Loads the extension on a thread of its own; prompts wait until it has.
fn load(extension: Arc<dyn Extension>, state: AppState, folders: Arc<Folders>) -> std::io::Result<()> {
    let run = move || {
        let handle: Arc<dyn Application> = Arc::new(Handle::new(state.clone(), folders));
        let started = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| extension.start(handle)));
        if started.is_err() {
            tracing::error!("loading the extension panicked; native nodes go on without it");
        }
        state.set_ready();
    };
    std::thread::Builder::new().name("rushlight-extension".into()).stack_size(16 << 20).spawn(run).map(drop)
}

/// Queues what the last process left.
fn recover(queue: &JobQueue, folders: &Folders) -> Result<(), StoreError> {
    let recovered = queue.store().recover()?;
    let removed = folders.disclaim_lost(|run| recovered.prompts.iter().any(|prompt| prompt.seq == run));
    if removed > 0 {
        tracing::info!(files = removed, "removed what lost runs had saved; they are run again");
    }
    if !recovered.prompts.is_empty() {
        tracing::info!(prompts = recovered.prompts.len(), "queued again what was left");
    }
    queue.set_number(recovered.next_counter);
    for prompt in recovered.prompts {
        queue.admit(QueuedPrompt {
            seq: prompt.seq,
            number: prompt.number,
            prompt_id: prompt.prompt_id,
            item: prompt.item,
            secrets: Default::default(),
            attempts: prompt.attempts,
        });
    }
    Ok(())
}

impl RunningServer {
    /// The first address listened on, with its real port.
    pub fn addr(&self) -> SocketAddr {
        self.addresses.first().copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Every address listened on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until every class is known.
    pub async fn ready(&self) {
        let state = self.state.clone();
        // Only a stopped server ends the wait otherwise.
        let _ = tokio::task::spawn_blocking(move || state.wait_ready()).await;
    }

    /// What its routes see.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Stops. The running prompt may finish within the settings' deadline; then it is interrupted and left in the
    /// queue for the next process. Clients get a close frame.
    pub async fn shutdown(mut self) {
        // Nobody listening any more is what is wanted.
        let _ = self.stop.send(true);
        let state = self.state.clone();
        let workers = std::mem::take(&mut self.workers);
        state.queue.stop();
        state.set_stopped();
        let _ = tokio::task::spawn_blocking(move || finish_or_put_back(&state, workers)).await;
        self.state.dispatcher.close_all(1001, "the server is stopping");
        let deadline = tokio::time::Instant::now() + CLOSE_GRACE;
        while !self.state.dispatcher.connected().is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        while self.listeners.join_next().await.is_some() {}
        let state = self.state.clone();
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(extension) = &state.extension {
                extension.stop();
            }
            state.queue.store().close();
        })
        .await;
    }
}

fn finish_or_put_back(state: &AppState, workers: Vec<JoinHandle<()>>) {
    let queue = &state.queue;
    if !queue.wait_idle(state.settings.limits.shutdown_deadline) {
        tracing::info!("the running prompt is put back into the queue");
        queue.suspend();
        if !queue.wait_idle(SUSPEND_GRACE) {
            // A node that never looks at its interrupt: the process ends under it.
            for running in queue.snapshot().0 {
                queue.put_back(&running);
            }
            return;
        }
    }
    for worker in workers {
        if worker.join().is_err() {
            tracing::error!("a compute thread panicked");
        }
    }
    state.dispatcher.wait_told(SUSPEND_GRACE);
}
