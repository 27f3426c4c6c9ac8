//! Requests for routes of nodes: forwarded to the extension's own HTTP server.
//!
//! Method, headers, body and answer pass unchanged and unbuffered; WebSockets are joined end to end. One connection
//! a request: both ends are on this machine.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::ApiError;
use crate::extension::{FORWARD_SECRET_HEADER, ForwardAddress, ForwardTarget};
use crate::state::AppState;

/// Headers that belong to one connection and not to the request.
const HOP_BY_HOP: &[HeaderName] = &[
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// Answers a request whose route the server does not know, if the extension has somewhere to ask.
pub async fn forward(State(state): State<AppState>, request: Request) -> Response {
    let target = state.extension.as_ref().and_then(|extension| extension.forward_to());
    match target {
        Some(target) => to(&target, request).await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Forwards a request.
pub async fn to(target: &ForwardTarget, request: Request) -> Response {
    let answered = match &target.address {
        #[cfg(unix)]
        ForwardAddress::Unix(path) => match tokio::net::UnixStream::connect(path).await {
            Ok(stream) => send(stream, target, request).await,
            Err(error) => Err(error.to_string()),
        },
        #[cfg(not(unix))]
        ForwardAddress::Unix(_) => Err("no Unix sockets on this system".to_owned()),
        ForwardAddress::Loopback(port) => match tokio::net::TcpStream::connect(("127.0.0.1", *port)).await {
            Ok(stream) => send(stream, target, request).await,
            Err(error) => Err(error.to_string()),
        },
    };
    answered.unwrap_or_else(|error| {
        tracing::warn!(%error, "a custom node's route did not answer");
        ApiError::new(
            StatusCode::BAD_GATEWAY,
            "route_failed",
            "The custom node's route did not answer",
            error,
        )
        .into_response()
    })
}

async fn send<S>(stream: S, target: &ForwardTarget, mut request: Request) -> Result<Response, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrade = wants_upgrade(request.headers());
    let client = upgrade.then(|| hyper::upgrade::on(&mut request));
    let secret = HeaderValue::from_str(&target.secret).map_err(|error| error.to_string())?;
    clean(request.headers_mut(), upgrade);
    // Whatever a client claims to be, only the server knows the secret.
    request.headers_mut().insert(FORWARD_SECRET_HEADER, secret);
    // The path alone, as HTTP/1.1 has it.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse();
    *request.uri_mut() = path.map_err(|error: axum::http::uri::InvalidUri| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "the connection to a custom node's route ended");
        }
    });
    let mut answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let (true, Some(client)) = (switched, client) {
        let server = hyper::upgrade::on(&mut answer);
        tokio::spawn(async move {
            let (Ok(client), Ok(server)) = (client.await, server.await) else { return };
            // Either side may end the conversation at any time.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
        });
    }
    clean(answer.headers_mut(), switched);
    Ok(answer.map(Body::new))
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers
            .get(header::CONNECTION)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.to_ascii_lowercase().contains("upgrade"))
}

fn clean(headers: &mut HeaderMap, upgrade: bool) {
    for name in HOP_BY_HOP.iter().filter(|name| !upgrade || **name != header::CONNECTION) {
        headers.remove(name);
    }
}
