//! Connections: accepted up to a bound, served with time limits, finished when the server stops.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::Service;

use crate::security::Connection;
use crate::state::AppState;

/// Accepts connections of one listener.
pub(crate) struct Acceptor {
    pub(crate) router: Router,
    pub(crate) state: AppState,
    /// One permit an open connection, shared by all listeners.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) stopped: watch::Receiver<bool>,
}

impl Acceptor {
    pub(crate) async fn run(mut self, listener: TcpListener) {
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
