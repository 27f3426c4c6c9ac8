//! Everything about the server that can be configured.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rushlight_runtime::context::PreviewMethod;

use crate::tls::TlsFiles;

/// Settings of one server. `Default` is what a bare `rushlight serve` uses.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Serve HTTPS with this certificate.
    pub tls: Option<TlsFiles>,
    /// Further names that `Host` may be (`--allowed-host`), without port.
    pub allowed_hosts: Vec<String>,
    /// `--enable-cors-header`: `*` or one origin that may ask from other pages.
    pub cors_origin: Option<String>,
    /// Bearer tokens; empty means that none is asked for.
    pub api_tokens: Vec<String>,
    /// Bytes that a request body may have (`--max-upload-size`).
    pub max_body_bytes: u64,
    /// Compress answers (`--enable-compress-response-body`).
    pub compress: bool,
    /// Step previews of prompts that don't choose.
    pub preview_method: PreviewMethod,
    /// Previews fit in a square of this many pixels.
    pub preview_size: u32,
    /// Folder of the frontend; `None` serves a page that says how to get one.
    pub frontend_root: Option<PathBuf>,
    /// `--multi-user`.
    pub multi_user: bool,
    /// Follow links that lead out of a configured folder.
    pub follow_symlinks: bool,
    /// The arguments that the program was started with, for `/system_stats`.
    pub argv: Vec<String>,
    /// Bounds on clients.
    pub limits: Limits,
}

/// Bounds that keep one client from harming the others.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections; more are closed at once.
    pub connections: usize,
    /// Open WebSockets; more get 503.
    pub sockets: usize,
    /// Bytes of one inbound WebSocket message; more closes with 1009.
    pub inbound_message_bytes: usize,
    /// Time for a request's head.
    pub head_timeout: Duration,
    /// Time without a byte within a request's body.
    pub body_idle_timeout: Duration,
    /// Time that a request's body may take however slowly it comes; then it must have come at 1 KiB/s on the whole.
    pub body_grace: Duration,
    /// Time between two pings; a client silent for three of them is closed.
    pub ping_interval: Duration,
    /// Structural events a client may be behind; more closes with 4008.
    pub backlog_events: usize,
    /// Bytes a client may be behind; more closes with 4008.
    pub backlog_bytes: usize,
    /// How long a session without a socket is remembered.
    pub session_retention: Duration,
    /// Sessions without a socket that are remembered; beyond it the oldest go.
    pub retained_sessions: usize,
    /// Events kept for a session that can resume.
    pub resume_events: usize,
    /// Bytes of events kept for a session that can resume.
    pub resume_bytes: usize,
    /// Bytes of waiting prompts; more get 503.
    pub queue_bytes: usize,
    /// Time that a stopping server gives the running prompt before it is interrupted and queued again.
    pub shutdown_deadline: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8188))],
            tls: None,
            allowed_hosts: Vec::new(),
            cors_origin: None,
            api_tokens: Vec::new(),
            max_body_bytes: 100 << 20,
            compress: false,
            preview_method: PreviewMethod::None,
            preview_size: 512,
            frontend_root: None,
            multi_user: false,
            follow_symlinks: false,
            argv: Vec::new(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            sockets: 8_192,
            inbound_message_bytes: 1 << 20,
            head_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(15),
            body_grace: Duration::from_secs(60),
            ping_interval: Duration::from_secs(20),
            backlog_events: 65_536,
            backlog_bytes: 32 << 20,
            session_retention: Duration::from_secs(300),
            retained_sessions: 10_000,
            resume_events: 4_096,
            resume_bytes: 8 << 20,
            queue_bytes: 1 << 30,
            shutdown_deadline: Duration::from_secs(10),
        }
    }
}

impl ServerSettings {
    /// Whether only this machine can reach the server.
    pub fn loopback_only(&self) -> bool {
        self.listen.iter().all(|address| address.ip().is_loopback())
    }
}
