//! Connections: accepted up to a bound, served with time limits, finished when the server stops.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
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
    /// Set when connections are HTTPS.
    pub(crate) tls: Option<TlsAcceptor>,
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
                    tokio::time::sleep(Duration::from_millis(50)).await;
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
        let serving = Serving {
            connection: Connection { peer, local, encrypted: self.tls.is_some() },
            router: self.router.clone(),
            head_timeout: self.state.settings.limits.head_timeout,
            stopped: self.stopped.clone(),
        };
        let tls = self.tls.clone();
        tokio::spawn(async move {
            match tls {
                None => serving.serve(stream).await,
                // A client that does not finish the handshake is cut off as one that does not finish its head.
                Some(tls) => match tokio::time::timeout(serving.head_timeout, tls.accept(stream)).await {
                    Ok(Ok(stream)) => serving.serve(stream).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
                },
            }
            drop(permit);
        });
    }
}

/// What one connection is served with.
struct Serving {
    connection: Connection,
    router: Router,
    head_timeout: Duration,
    stopped: watch::Receiver<bool>,
}

impl Serving {
    /// Serves requests until the client leaves or the server stops.
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { connection, router, head_timeout, mut stopped } = self;
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(64 << 10);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(connection);
            let mut router = router.clone();
            async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
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
            tracing::debug!(peer = %connection.peer, %error, "connection ended");
        }
    }
}
