//! A keep-alive HTTP client and a WebSocket reader, cheap enough not to be what is measured.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// One connection.
pub struct Http {
    stream: TcpStream,
    addr: SocketAddr,
    buffer: Vec<u8>,
}

/// An answer: the status, and the body.
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Http {
    /// Connects.
    pub async fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, addr, buffer: Vec::new() })
    }

    /// Sends a request and gives the body of a 200.
    pub async fn request(&mut self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        let answer = self.ask(method, path, body).await?;
        if answer.status != 200 {
            let text = String::from_utf8_lossy(&answer.body);
            bail!("{method} {path}: {} {}", answer.status, text.chars().take(600).collect::<String>());
        }
        Ok(answer.body)
    }

    /// Sends a request and gives the JSON of a 200.
    pub async fn json(&mut self, method: &str, path: &str, body: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.request(method, path, body).await?)?)
    }

    /// Sends a request and gives whatever comes back.
    pub async fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        );
        self.stream.write_all((head + body).as_bytes()).await?;
        let head_end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await?;
        };
        let head =
            String::from_utf8_lossy(self.buffer.get(..head_end).unwrap_or_default()).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("no content-length")?.trim().parse()?;
        self.buffer.reserve(length);
        while self.buffer.len() < head_end + length {
            self.fill().await?;
        }
        let rest = self.buffer.split_off(head_end + length);
        let body = std::mem::replace(&mut self.buffer, rest).split_off(head_end);
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status code")?;
        Ok(Answer { status, body })
    }

    async fn fill(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}

/// A WebSocket that is only read.
pub struct WebSocket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
}

/// What came.
pub enum Frame<'a> {
    /// Text or binary.
    Message(&'a [u8]),
    /// The server ends the connection, with this code.
    Close(u16),
}

impl WebSocket {
    /// Connects as `client_id`. `receive_buffer` bounds what the system takes for a client that does not read.
    pub async fn connect(addr: SocketAddr, client_id: &str, receive_buffer: Option<u32>) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let mut stream = socket.connect(addr).await?;
        stream.set_nodelay(true)?;
        let upgrade = format!(
            "GET /ws?clientId={client_id} HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes()).await?;
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(stream.read_buf(&mut buffer).await? > 0, "the server closed the connection");
        };
        let head = String::from_utf8_lossy(&buffer);
        ensure!(head.starts_with("HTTP/1.1 101"), "no upgrade: {head}");
        Ok(Self { stream, buffer, at: end })
    }

    /// The next message; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Frame<'_>>> {
        loop {
            match self.parse() {
                Some((0x8, start, end)) => {
                    let code = self.buffer.get(start..end).and_then(|body| body.first_chunk::<2>());
                    return Ok(Some(Frame::Close(code.map_or(1005, |code| u16::from_be_bytes(*code)))));
                }
                // A ping is answered with its own payload, masked with zeros.
                Some((0x9, start, end)) => {
                    let body = self.buffer.get(start..end).unwrap_or_default();
                    let mut pong = vec![0x8a, 0x80 | body.len() as u8, 0, 0, 0, 0];
                    pong.extend_from_slice(body);
                    self.at = end;
                    self.stream.write_all(&pong).await?;
                }
                Some((_, start, end)) => {
                    self.at = end;
                    return Ok(Some(Frame::Message(self.buffer.get(start..end).unwrap_or_default())));
                }
                None if self.fill(64 << 10).await? == 0 => return Ok(None),
                None => {}
            }
        }
    }

    /// Reads at most that many bytes from the socket without looking at them; 0 at the end of the stream.
    pub async fn fill(&mut self, at_most: usize) -> Result<usize> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.reserve(at_most);
        let mut limited = (&mut self.stream).take(at_most as u64);
        Ok(limited.read_buf(&mut self.buffer).await?)
    }

    /// Opcode, begin and end of the next whole frame's payload. Servers don't mask.
    fn parse(&self) -> Option<(u8, usize, usize)> {
        let frame = self.buffer.get(self.at..)?;
        let (&opcode, &short) = (frame.first()?, frame.get(1)?);
        let (head, length) = match short & 0x7f {
            126 => (4, usize::from(u16::from_be_bytes(*frame.get(2..)?.first_chunk()?))),
            127 => (10, u64::from_be_bytes(*frame.get(2..)?.first_chunk()?) as usize),
            short => (2, usize::from(short)),
        };
        let start = self.at + head;
        (frame.len() >= head + length).then_some((opcode & 0xf, start, start + length))
    }
}
