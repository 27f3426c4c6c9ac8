//! Start, listen, stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use rushlight_runtime::Host;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service;

use crate::routes;
use crate::security::Connection;
use crate::settings::ServerSettings;
use crate::state::{App, AppState};

/// What a server is made of beside its settings.
pub struct Parts {
    /// Files and models.
    pub host: Arc<dyn Host>,
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
}

/// Starts servers.
pub struct Server;

/// A server that listens. Dropping it closes its sockets without ceremony; [`RunningServer::shutdown`] does it well.
pub struct RunningServer {
    addresses: Vec<SocketAddr>,
    state: AppState,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
}

impl Server {
    /// Opens the sockets and serves them. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] when something the server needs cannot be had.
    pub async fn start(settings: ServerSettings, parts: Parts) -> Result<RunningServer, StartError> {
        let mut sockets = Vec::new();
        for address in &settings.listen {
            let listen = |source| StartError::Listen { address: *address, source };
            let listener = TcpListener::bind(address).await.map_err(listen)?;
            let bound = listener.local_addr().map_err(listen)?;
            sockets.push((listener, bound));
        }
        let connections = Arc::new(Semaphore::new(settings.limits.connections));
        let state = AppState::new(App { settings, host: parts.host });
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
            };
            listeners.spawn(acceptor.run(listener));
        }
        Ok(RunningServer { addresses, state, stop, listeners })
    }
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

    /// What its routes see.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Stops: no new connections, open requests are finished.
    pub async fn shutdown(mut self) {
        // Nobody listening any more is what is wanted.
        let _ = self.stop.send(true);
        while self.listeners.join_next().await.is_some() {}
    }
}

/// Accepts connections of one listener.
struct Acceptor {
    router: Router,
    state: AppState,
    /// One permit an open connection, shared by all listeners.
    connections: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

impl Acceptor {
    async fn run(mut self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.stopped.wait_for(|stopped| *stopped) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.accept(stream, peer),
                // Out of descriptors: waiting lets connections end; refusing would spin.
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn accept(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(permit) = self.connections.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "connection refused: too many are open");
            return;
        };
        // Events are small and must not wait for more.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { return };
        let connection = Connection { peer, local };
        let router = self.router.clone();
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.state.settings.limits.head_timeout)
            .max_buf_size(64 << 10);
        let mut stopped = self.stopped.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(connection);
                let mut router = router.clone();
                async move {
                    Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {}))
                }
            });
            let serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
            tokio::pin!(serving);
            let ended = tokio::select! {
                ended = serving.as_mut() => ended,
                _ = async { stopped.wait_for(|stopped| *stopped).await.is_ok() } => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(permit);
        });
    }
}
