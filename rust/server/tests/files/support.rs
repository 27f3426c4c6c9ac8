//! A server with a base directory of its own, and a client that sends bytes as they are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rushlight_runtime::{ExecutorOptions, Registry};
use rushlight_server::extension::{Application, Extension, Pack};
use rushlight_server::{EmbeddedModel, FolderHost, LogBuffer, Parts, RunningServer, Server, ServerSettings};
use rushlight_store::folders::FolderSettings;
use rushlight_store::{Folders, SqliteOptions, SqliteStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the embedded model of these tests consists of: a safetensors file of one empty tensor.
pub(super) const EMBEDDED: &[u8] =
    b"\x5c\0\0\0\0\0\0\0{\"__metadata__\":{\"origin\":\"program\"},\"x\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}  ";

/// A pack of nodes with a folder.
pub(super) struct Packs(pub(super) Vec<Pack>);

impl Extension for Packs {
    fn start(&self, _: Arc<dyn Application>) {}

    fn packs(&self) -> Vec<Pack> {
        self.0.clone()
    }
}

/// A server and its base directory.
pub(super) struct Site {
    pub(super) base: tempfile::TempDir,
    pub(super) server: RunningServer,
    pub(super) folders: Arc<Folders>,
    pub(super) logs: Arc<LogBuffer>,
}

/// How a [`Site`] differs from a plain one.
#[derive(Default)]
pub(super) struct Options {
    pub(super) settings: ServerSettings,
    pub(super) follow_symlinks: bool,
    pub(super) packs: Vec<Pack>,
    /// Written before the server starts: name beneath the base directory, content.
    pub(super) files: Vec<(&'static str, &'static str)>,
    pub(super) max_pixels: Option<u64>,
    /// Listens on every address in place of loopback.
    pub(super) open: bool,
}

impl Site {
    pub(super) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(super) async fn with(options: Options) -> Self {
        let base = tempfile::tempdir().unwrap();
        let mut settings = options.settings;
        let ip = if options.open { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        settings.listen = vec![SocketAddr::from((ip, 0))];
        // Tests must not depend on what is installed beside them.
        let frontend = base.path().join("frontend");
        std::fs::create_dir_all(&frontend).unwrap();
        settings.frontend_root.get_or_insert(frontend);
        for (name, content) in options.files {
            put(base.path(), name, content);
        }
        let folder_settings = FolderSettings {
            base: base.path().into(),
            follow_symlinks: options.follow_symlinks,
            ..FolderSettings::default()
        };
        let folders = Arc::new(Folders::open(&folder_settings).unwrap());
        let embedded = EmbeddedModel { folder: "checkpoints", name: "tiny.safetensors", bytes: EMBEDDED };
        let max_pixels = options.max_pixels.unwrap_or(64 << 20);
        let logs = LogBuffer::new();
        let parts = Parts {
            host: Arc::new(FolderHost::new(folders.clone(), vec![embedded], true, max_pixels)),
            folders: folders.clone(),
            registry: Registry::new(),
            store: Arc::new(SqliteStore::in_memory(SqliteOptions::default()).unwrap()),
            devices: vec![candle_core::Device::Cpu],
            executor: ExecutorOptions::default(),
            extension: Some(Arc::new(Packs(options.packs))),
            logs: logs.clone(),
        };
        let server = Server::start(settings, parts).await.unwrap();
        Self { base, server, folders, logs }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    pub(super) fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        put(self.base.path(), name, content);
    }

    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[], body.as_bytes()).await
    }

    /// A request with further headers. HTTP/1.0, so that the body ends with the connection.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, self.server.addr().port()));
        Self::exchange(addr, method, path, headers, body).await
    }

    /// A GET that comes from (and goes to) another of this machine's addresses.
    pub(super) async fn get_from(&self, address: IpAddr, path: &str) -> Answer {
        let addr = SocketAddr::from((address, self.server.addr().port()));
        Self::exchange(addr, "GET", path, &[], b"").await
    }

    async fn exchange(
        addr: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut text =
            format!("{method} {path} HTTP/1.0\r\nHost: {addr}\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        let mut stream = TcpStream::connect(addr).await.unwrap();
        // The server may refuse and close before everything is written.
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
        let _ = read.expect("an answer within 30 s");
        Answer::parse(&answer)
    }

    /// Uploads a file with further fields.
    pub(super) async fn upload(
        &self,
        path: &str,
        filename: &str,
        content: &[u8],
        fields: &[(&str, &str)],
    ) -> Answer {
        const BOUNDARY: &str = "----boundary0123456789";
        let mut body = Vec::new();
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{filename}\"\r\n\
             Content-Type: image/png\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        for (name, value) in fields {
            let part =
                format!("\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}");
            body.extend_from_slice(part.as_bytes());
        }
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        self.send("POST", path, &[("Content-Type", &content_type)], &body).await
    }
}

fn put(base: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = base.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head, body: bytes.get(split + 4..).unwrap_or_default().to_vec() }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of a 200.
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The `type` of a typed refusal.
    pub(super) fn refusal(&self) -> String {
        let value: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        value["error"]["type"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn image(&self) -> image::DynamicImage {
        assert_eq!(self.status, 200, "{}", self.text());
        image::load_from_memory(&self.body).unwrap()
    }

    /// That a browser would store it and not run or show it.
    pub(super) fn assert_download(&self) {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(self.header("content-disposition").unwrap().starts_with("attachment"), "{}", self.head);
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{}", self.head);
    }
}

/// A PNG of one colour.
pub(super) fn png(width: u32, height: u32, rgba: [u8; 4]) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image::RgbaImage::from_pixel(width, height, image::Rgba(rgba))
        .write_to(&mut out, image::ImageFormat::Png)
        .unwrap();
    out.into_inner()
}
