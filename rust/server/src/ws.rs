//! `/ws`: one socket of a session.
//!
//! Two tasks a socket: this one reads, another writes, so that neither a client that doesn't read nor one that
//! doesn't write holds up the other direction.
//!
//! Whose session it is: a `clientId` that is in use, or was within the retention time, is only given to a socket that
//! comes from the same address, or that shows the session's token (cookie [`COOKIE`], query `session_token`). Anyone
//! else gets 403 on the upgrade. The newer socket replaces the older one, which is closed with 4009.
//!
//! Resuming: a client whose flags have `rushlight_resume: true` gets `rushlight_token` and `rushlight_seq` in the
//! server's flags, and a `seq` in every structural event from then on. When it comes back it sends the same flags with
//! `rushlight_last_seq: N` as its first frame and gets the events after N, in order, before any newer one. A
//! `rushlight_resume` event with `complete: false` says that some are gone: the history has the rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rushlight_protocol::FeatureFlags;
use rushlight_protocol::features::server_flags;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::dispatcher::hub::{ConnectError, Joined};
use crate::dispatcher::session::{Next, Proof};
use crate::error::ApiError;
use crate::security::Connection;
use crate::state::AppState;

/// Cookie that holds the session's token.
pub const COOKIE: &str = "rushlight_session";

/// Frames written between two flushes.
const BATCH: usize = 64;

/// Longest frame of flags that is kept whole; of a longer one only the known flags are.
const MAX_FLAGS: usize = 16 << 10;

/// Bytes read from a socket at once.
const READ_BUFFER: usize = 4 << 10;

/// How long a session that has resumed before is waited for to say where it was.
const RESUME_GRACE: Duration = Duration::from_secs(2);

/// How long a close frame may take.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// The query of `/ws`.
#[derive(Debug, Deserialize)]
pub struct Connect {
    #[serde(rename = "clientId")]
    client_id: Option<String>,
    session_token: Option<String>,
}

/// `GET /ws`.
pub async fn connect(
    State(state): State<AppState>,
    Extension(connection): Extension<Connection>,
    Query(query): Query<Connect>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let token = query.session_token.or_else(|| cookie(&headers, COOKIE));
    let proof = Proof { peer: connection.peer.ip(), token };
    let joined = match state.dispatcher.connect(query.client_id.as_deref(), &proof) {
        Ok(joined) => joined,
        Err(refused) => return refusal(refused).into_response(),
    };
    let limit = state.settings.limits.inbound_message_bytes;
    let set_cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Strict", joined.session.token);
    let mut response = upgrade
        .max_message_size(limit)
        .max_frame_size(limit)
        // Clients say little: the library's 128 KiB would be most of what an open socket costs.
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(16 << 10)
        .on_upgrade(move |socket| serve(state, joined, socket));
    if let Ok(value) = HeaderValue::from_str(&set_cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

fn refusal(error: ConnectError) -> ApiError {
    let (status, kind) = match error {
        ConnectError::Taken => (StatusCode::FORBIDDEN, "session_taken"),
        ConnectError::TooLong => (StatusCode::BAD_REQUEST, "client_id_too_long"),
        ConnectError::TooMany => (StatusCode::SERVICE_UNAVAILABLE, "too_many_sockets"),
    };
    ApiError::new(status, kind, "The socket was refused", error.to_string())
}

/// What the reading side tells the writing side.
enum Inbound {
    /// The connection is over; close with this code if there is one to give.
    End(Option<(u16, &'static str)>),
}

async fn serve(state: AppState, joined: Joined, socket: WebSocket) {
    let (sink, stream) = socket.split();
    let joined = Arc::new(joined);
    let (to_writer, inbound) = mpsc::channel(1);
    let writer = tokio::spawn(write(state.clone(), joined.clone(), sink, inbound));
    let end = read(&state, &joined, stream).await;
    // The writer may have ended first: then nobody is to be told.
    let _ = to_writer.send(Inbound::End(end)).await;
    let _ = writer.await;
}

/// Reads until the socket ends; the close code that the client has earned, if any.
async fn read(
    state: &AppState,
    joined: &Joined,
    mut stream: SplitStream<WebSocket>,
) -> Option<(u16, &'static str)> {
    let limits = &state.settings.limits;
    let mut first = true;
    let mut grace = Some(Instant::now() + RESUME_GRACE);
    let mut silent_since = Instant::now();
    loop {
        let deadline = grace.unwrap_or(silent_since + limits.ping_interval * 3);
        let message = tokio::select! {
            message = stream.next() => message,
            () = tokio::time::sleep_until(deadline.into()) => {
                if grace.take().is_some() {
                    joined.session.no_flags(joined.socket);
                    continue;
                }
                return Some((1001, "no sign of life"));
            }
        };
        silent_since = Instant::now();
        match message {
            None | Some(Ok(Message::Close(_))) => return None,
            Some(Err(error)) => return close_code(&error),
            Some(Ok(Message::Text(text))) if first => match first_frame(&text) {
                First::Nothing => {}
                First::Flags(flags) => {
                    (first, grace) = (false, None);
                    let answer = server_flags(state.settings.max_body_bytes);
                    joined.session.negotiate(joined.socket, flags, answer);
                }
                First::Other => {
                    (first, grace) = (false, None);
                    joined.session.no_flags(joined.socket);
                }
            },
            Some(Ok(_)) => {}
        }
    }
}

/// What a text frame is, as long as none has said whether there are flags.
enum First {
    /// No JSON object: as if it had not come.
    Nothing,
    /// The client's flags.
    Flags(FeatureFlags),
    /// Something else, so there are no flags.
    Other,
}

fn first_frame(text: &str) -> First {
    let mut frame = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(frame)) => frame,
        _ => {
            tracing::debug!("a client sent text that is no JSON object");
            return First::Nothing;
        }
    };
    if frame.get("type").and_then(Value::as_str) != Some("feature_flags") {
        return First::Other;
    }
    let flags = FeatureFlags(match frame.get_mut("data").map(Value::take) {
        Some(Value::Object(flags)) => flags,
        _ => Map::new(),
    });
    First::Flags(if text.len() > MAX_FLAGS { flags.only_known() } else { flags })
}

/// The close code that says what was wrong with the client's bytes.
fn close_code(error: &axum::Error) -> Option<(u16, &'static str)> {
    // axum hides the type of its WebSocket library; its messages are stable and tested in `tests/`.
    let text = error.to_string();
    if text.contains("Space limit exceeded") || text.contains("too long") {
        Some((1009, "message too big"))
    } else if text.contains("UTF-8") || text.contains("utf-8") {
        Some((1007, "text that is not UTF-8"))
    } else if text.contains("protocol error") {
        Some((1002, "protocol error"))
    } else {
        None
    }
}

/// Writes until the session or the reading side says to close.
async fn write(
    state: AppState,
    joined: Arc<Joined>,
    mut sink: SplitSink<WebSocket, Message>,
    mut inbound: mpsc::Receiver<Inbound>,
) {
    let session = &joined.session;
    let mut pings = tokio::time::interval(state.settings.limits.ping_interval);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    pings.reset();
    loop {
        // Made before looking, so that what comes in between wakes it.
        let woken = session.wake.notified();
        let messages = match session.next(joined.socket, BATCH) {
            Next::Close(code, reason) => return close(&mut sink, code, reason).await,
            Next::Send(messages) => messages,
            Next::Idle => {
                let ping = tokio::select! {
                    () = woken => None,
                    _ = pings.tick() => Some(Message::Ping(bytes::Bytes::new())),
                    end = inbound.recv() => {
                        return if let Some(Inbound::End(Some((code, reason)))) = end {
                            close(&mut sink, code, reason).await;
                        };
                    }
                };
                ping.into_iter().collect()
            }
        };
        match send(joined.as_ref(), &mut sink, messages, &mut inbound).await {
            Sent::All => {}
            Sent::Close(code, reason) => return close(&mut sink, code, reason).await,
            Sent::Gone => return,
        }
    }
}

/// How sending some messages went.
enum Sent {
    /// They are on their way.
    All,
    /// The socket is to close instead.
    Close(u16, &'static str),
    /// The socket is gone.
    Gone,
}

/// Sends messages. A client that doesn't read blocks this; only its overflow, a newer socket or its end go past.
async fn send(
    joined: &Joined,
    sink: &mut SplitSink<WebSocket, Message>,
    messages: Vec<Message>,
    inbound: &mut mpsc::Receiver<Inbound>,
) -> Sent {
    let sending = async {
        for message in messages {
            sink.feed(message).await?;
        }
        sink.flush().await
    };
    tokio::pin!(sending);
    loop {
        let woken = joined.session.wake.notified();
        if let Some((code, reason)) = joined.session.closing(joined.socket) {
            return Sent::Close(code, reason);
        }
        tokio::select! {
            sent = &mut sending => return if sent.is_ok() { Sent::All } else { Sent::Gone },
            () = woken => {}
            end = inbound.recv() => return match end {
                Some(Inbound::End(Some((code, reason)))) => Sent::Close(code, reason),
                _ => Sent::Gone,
            },
        }
    }
}

/// Says goodbye, unless the client takes too long to hear it.
async fn close(sink: &mut SplitSink<WebSocket, Message>, code: u16, reason: &'static str) {
    let frame = CloseFrame { code, reason: reason.into() };
    let said = sink.send(Message::Close(Some(frame)));
    let _ = tokio::time::timeout(CLOSE_GRACE, said).await;
}
