//! The servers that are measured: each a process of its own, with folders of its own, ended when dropped.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::http::Http;

/// How long a server may take to answer for the first time.
const START_LIMIT: Duration = Duration::from_secs(180);

/// Where queue and history are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// In a file, flushed before a prompt is accepted.
    Durable,
    /// Nowhere.
    Memory,
}

/// The original server, where it is to be found.
#[derive(Debug, Clone)]
pub struct Original {
    /// Its `main.py`.
    main: PathBuf,
    /// The interpreter that has what it needs.
    python: String,
}

impl Original {
    /// From `COMFYUI_DIR`, and `COMFYUI_PYTHON` for the interpreter.
    pub fn from_environment() -> Option<Self> {
        let main = PathBuf::from(std::env::var_os("COMFYUI_DIR")?).join("main.py");
        let python = std::env::var("COMFYUI_PYTHON").unwrap_or_else(|_| "python3".into());
        Some(Self { main, python })
    }
}

/// A server that answers.
pub struct Running {
    process: std::process::Child,
    /// Removed last, when nothing writes into it any more.
    _folder: TempDir,
    /// Where it listens.
    pub addr: SocketAddr,
    /// From the start of the process to the first answer to `GET /system_stats`.
    pub start: Duration,
}

impl Running {
    /// `rushlight serve` with all its nodes.
    pub async fn rushlight(keep: Keep) -> Result<Self> {
        Self::start("Rushlight", |folder, port| {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--rushlight", "serve", "--cpu", "--base-directory"]).arg(folder);
            command.args(["--port", port]);
            if keep == Keep::Memory {
                command.args(["--database-url", "memory"]);
            }
            for (name, _) in std::env::vars_os() {
                if name.to_string_lossy().starts_with("RUSHLIGHT_") {
                    command.env_remove(name);
                }
            }
            Ok(command)
        })
        .await
    }

    /// The same server with the nodes of [`crate::nodes`] beside the native ones.
    pub async fn bench(keep: Keep) -> Result<Self> {
        Self::start("the bench server", |folder, port| {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("--serve").arg(folder).arg(port);
            command.arg(if keep == Keep::Memory { "memory" } else { "durable" });
            Ok(command)
        })
        .await
    }

    /// The original server.
    pub async fn original(original: &Original) -> Result<Self> {
        Self::start("the original server", |folder, port| {
            let mut command = Command::new(&original.python);
            // Leaves nothing in its own folder.
            command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1").current_dir(folder);
            command.arg(&original.main).args(["--cpu", "--disable-auto-launch", "--port", port]);
            command.args(["--database-url", "sqlite:///:memory:", "--base-directory"]).arg(folder);
            for name in ["user", "output", "temp", "input"] {
                let made = folder.join(name);
                std::fs::create_dir_all(&made)?;
                command.arg(format!("--{name}-directory")).arg(made);
            }
            std::fs::create_dir_all(folder.join("custom_nodes"))?;
            // Its frontend is a package of its own, which is not what is measured.
            let web = folder.join("web");
            std::fs::create_dir_all(&web)?;
            std::fs::write(web.join("index.html"), "<!doctype html>")?;
            command.arg("--front-end-root").arg(web);
            Ok(command)
        })
        .await
    }

    async fn start(
        name: &str,
        command: impl FnOnce(&std::path::Path, &str) -> Result<Command>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rushlight-load-").tempdir()?;
        let port = free_port()?;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let log = folder.path().join("log.txt");
        let mut command = command(folder.path(), &port.to_string())?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let begun = Instant::now();
        let process = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut running = Self { process, _folder: folder, addr, start: Duration::ZERO };
        loop {
            if let Ok(mut http) = Http::connect(addr).await
                && http.request("GET", "/system_stats", "").await.is_ok()
            {
                running.start = begun.elapsed();
                return Ok(running);
            }
            let ended = running.process.try_wait()?;
            if ended.is_some() || begun.elapsed() > START_LIMIT {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n");
                bail!("{name} did not start ({ended:?}); the end of its log:\n{last}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Resident memory in bytes; 0 where the system has no `/proc`.
    pub fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
