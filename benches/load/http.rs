//! A keep-alive HTTP client that is cheap enough not to be what is measured.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection.
pub struct Http {
    stream: TcpStream,
    addr: SocketAddr,
    buffer: Vec<u8>,
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
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
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
        while self.buffer.len() < head_end + length {
            self.fill().await?;
        }
        let rest = self.buffer.split_off(head_end + length);
        let answer = std::mem::replace(&mut self.buffer, rest).split_off(head_end);
        if !head.starts_with("http/1.1 200") {
            bail!("{method} {path}: {head}{}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }

    async fn fill(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}
