//! Clients: plain HTTP over a TCP stream, and WebSockets.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn error_type(&self) -> String {
        self.json()["error"]["type"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends bytes as they are and reads until the server closes.
pub async fn raw(addr: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // The server may refuse and close before everything is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..split]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head, body: answer.get(split + 4..).unwrap_or_default().to_vec() }
}

/// A request with further headers. HTTP/1.0, so that the body ends with the connection.
pub async fn request(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text += &format!("Host: {addr}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    raw(addr, &[text.as_bytes(), body].concat()).await
}

pub async fn get(addr: SocketAddr, path: &str) -> Answer {
    request(addr, "GET", path, &[], b"").await
}

pub async fn post(addr: SocketAddr, path: &str, body: &Value) -> Answer {
    request(addr, "POST", path, &[], body.to_string().as_bytes()).await
}

/// Queues a prompt and gives its id.
pub async fn submit(addr: SocketAddr, prompt: Value, client_id: Option<&str>) -> String {
    let mut body = json!({ "prompt": prompt });
    if let Some(id) = client_id {
        body["client_id"] = id.into();
    }
    let answer = post(addr, "/prompt", &body).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["prompt_id"].as_str().unwrap().to_owned()
}

/// Waits until a prompt is in the history.
pub async fn finished(addr: SocketAddr, id: &str) -> Value {
    for _ in 0..2_000 {
        let mut history = get(addr, &format!("/history/{id}")).await.json();
        if let Some(entry) = history.get_mut(id) {
            return entry.take();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{id} did not finish");
}

/// A socket.
pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects; panics when refused.
    pub async fn open(addr: SocketAddr, client_id: &str) -> Self {
        Self::try_open(addr, &format!("/ws?clientId={client_id}"), &[]).await.unwrap()
    }

    /// Connects with further headers; the status when refused.
    pub async fn try_open(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let mut request = format!("ws://{addr}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let name: tungstenite::http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn send(&mut self, value: &Value) {
        self.0.send(Message::text(value.to_string())).await.unwrap();
    }

    /// The next message that is no ping; `None` when nothing comes for 5 s or the socket ends.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match tokio::time::timeout(Duration::from_secs(5), self.0.next()).await {
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(Some(Ok(message))) => return Some(message),
                Ok(Some(Err(_)) | None) | Err(_) => return None,
            }
        }
    }

    /// The next text frame.
    pub async fn text(&mut self) -> Value {
        loop {
            match self.next().await {
                Some(Message::Text(text)) => return serde_json::from_str(&text).unwrap(),
                Some(Message::Binary(_)) => {}
                other => panic!("no text: {other:?}"),
            }
        }
    }

    /// Text frames up to and with the first of this type.
    pub async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.text().await;
            let ends = frame["type"] == kind;
            frames.push(frame);
            if ends {
                return frames;
            }
        }
    }

    /// All messages up to and with `executing null`.
    pub async fn until_done(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let Some(message) = self.next().await else { panic!("the socket ended before the prompt") };
            let ends = matches!(&message, Message::Text(text) if text.contains("\"executing\"") && text.contains("\"node\":null"));
            messages.push(message);
            if ends {
                return messages;
            }
        }
    }

    /// The close code.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            if let Message::Close(frame) = self.next().await? {
                return frame.map(|frame| frame.code.into());
            }
        }
    }
}

/// The `type` of text frames, and `binary:ID` of binary ones.
pub fn kinds(messages: &[Message]) -> Vec<String> {
    let kind = |message: &Message| match message {
        Message::Text(text) => {
            serde_json::from_str::<Value>(text).unwrap()["type"].as_str().unwrap().to_owned()
        }
        Message::Binary(bytes) => format!("binary:{}", u32::from_be_bytes(bytes[..4].try_into().unwrap())),
        other => format!("{other:?}"),
    };
    messages.iter().map(kind).collect()
}
