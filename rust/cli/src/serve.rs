//! `rushlight serve`: from options to a running server, and down again.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rushlight_runtime::context::PreviewMethod;
use rushlight_runtime::{CachePolicy, ExecutorOptions};
use rushlight_server::extension::Extension;
use rushlight_server::logs::LogBuffer;
use rushlight_server::settings::Limits;
use rushlight_server::tls::TlsFiles;
use rushlight_server::{Parts, Server, ServerSettings};
use rushlight_store::{SqliteOptions, SqliteStore, Store};

use crate::args::{PreviewChoice, ServeArgs};
use crate::environment;
use crate::signals::StopSignals;

/// Makes the extension that hosts Python nodes, once the options are known.
pub type ExtensionFactory = Box<dyn FnOnce(&ServeArgs) -> Arc<dyn Extension> + Send>;

/// Runs a server until it is told to stop.
///
/// # Errors
/// What keeps it from starting: an option, a folder, the database, the device or the port.
pub fn run(args: &ServeArgs, extension: Option<ExtensionFactory>, logs: Arc<LogBuffer>) -> Result<()> {
    let mut args = args.clone();
    if extension.is_some() {
        args.comfyui_dir = checkout(args.comfyui_dir.as_deref())?;
    }
    let args = &args;
    let ignored = args.upstream.given();
    // In a checkout they are its engine's.
    if !ignored.is_empty() && args.comfyui_dir.is_none() {
        tracing::warn!("these options have no effect here: {}", ignored.join(" "));
    }
    let mut settings = settings(args)?;
    fit_to_descriptors(&mut settings.limits);
    if !settings.loopback_only() && settings.api_tokens.is_empty() {
        tracing::warn!(
            "LISTENING ON {} WITHOUT A TOKEN: everyone who reaches this address can use this server, read its pictures \
             and fill its disk. Set --api-token-file, or put an authenticating proxy in front.",
            args.listen
        );
    }
    let mut folder_args = args.folders.clone();
    // A checkout brings its own models, inputs and outputs.
    folder_args.base_directory = folder_args.base_directory.or_else(|| args.comfyui_dir.clone());
    let folder_settings = environment::folder_settings(&folder_args)?;
    let (folders, host) = environment::open_host(&folder_settings, !args.device.disable_metadata)?;
    folders.clear_temp();
    let store = open_store(args, &folders.layout().user)?;
    let device = environment::device(&args.device)?;
    let device_name = environment::device_name(&device);
    let parts = Parts {
        host,
        folders: folders.clone(),
        registry: environment::native_registry_with(&args.device.node_settings()),
        store,
        devices: vec![device],
        executor: ExecutorOptions { cache: cache_policy(args) },
        extension: extension.map(|make| make(args)),
        logs,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stopped = runtime.block_on(async {
        let mut signals = StopSignals::new()?;
        let server = Server::start(settings, parts).await?;
        let scheme = if args.tls_certfile.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", server.addr());
        tracing::info!("running on {device_name}");
        // Start scripts and test suites wait for this very line.
        tracing::info!("To see the GUI go to: {url}");
        if args.quick_test_for_ci {
            let state = server.state().clone();
            tokio::task::spawn_blocking(move || state.wait_ready()).await?;
            server.shutdown().await;
            return Ok(());
        }
        if args.auto_launch && !args.disable_auto_launch {
            open_browser(&url);
        }
        signals.next().await;
        tracing::info!("stopping: the running prompt has {} s to finish", args.shutdown_grace);
        tokio::select! {
            () = server.shutdown() => Ok(()),
            () = signals.next() => Err(anyhow!("stopped at once by a second signal")),
        }
    });
    folders.clear_temp();
    // A node that does not return must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(500));
    stopped
}

/// The ComfyUI checkout whose nodes are used: the one that was named, else the current folder if it is one. It is
/// absolute, for packs of nodes may change the current folder.
///
/// # Errors
/// When what was named is none.
fn checkout(named: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(named) = named else {
        return Ok(std::env::current_dir().ok().filter(|folder| is_checkout(folder)));
    };
    if !is_checkout(named) {
        bail!("--comfyui-dir {}: no nodes.py, folder_paths.py and comfy/ there", named.display());
    }
    Ok(Some(std::path::absolute(named)?))
}

/// Whether a folder is a ComfyUI checkout.
fn is_checkout(folder: &Path) -> bool {
    folder.join("comfy").is_dir()
        && ["nodes.py", "folder_paths.py"].iter().all(|file| folder.join(file).is_file())
}

fn settings(args: &ServeArgs) -> Result<ServerSettings> {
    let megabytes = args.max_upload_size;
    if !megabytes.is_finite() || megabytes < 0.0 {
        bail!("--max-upload-size must be a number of megabytes, not {megabytes}");
    }
    if !args.shutdown_grace.is_finite() || args.shutdown_grace < 0.0 {
        bail!("--shutdown-grace must be a number of seconds, not {}", args.shutdown_grace);
    }
    Ok(ServerSettings {
        listen: addresses(&args.listen, args.port)?,
        tls: match (&args.tls_certfile, &args.tls_keyfile) {
            (Some(certificate), Some(key)) => {
                Some(TlsFiles { certificate: certificate.clone(), key: key.clone() })
            }
            _ => None,
        },
        allowed_hosts: args.allowed_host.clone(),
        cors_origin: args.enable_cors_header.clone(),
        api_tokens: args.api_token_file.as_ref().map(read_tokens).transpose()?.unwrap_or_default(),
        max_body_bytes: (megabytes * f64::from(1u32 << 20)) as u64,
        compress: args.enable_compress_response_body,
        preview_method: match args.preview_method {
            PreviewChoice::None => PreviewMethod::None,
            PreviewChoice::Auto | PreviewChoice::Latent2rgb => PreviewMethod::Latent2Rgb,
            PreviewChoice::Taesd => PreviewMethod::Taesd,
        },
        preview_size: args.preview_size,
        frontend_root: args.front_end_root.clone(),
        multi_user: args.multi_user,
        follow_symlinks: args.folders.follow_symlinks,
        argv: std::env::args().collect(),
        limits: Limits {
            shutdown_deadline: Duration::from_secs_f64(args.shutdown_grace),
            ..Limits::default()
        },
    })
}

/// Descriptors that are kept for files, the database and the rest of the process.
const RESERVED_DESCRIPTORS: u64 = 256;

/// Allows this process as many open files as the system lets it, and takes no more connections than that leaves room
/// for: a client that opens many must not keep the server from opening its own files.
fn fit_to_descriptors(limits: &mut Limits) {
    let wanted = limits.connections as u64 + RESERVED_DESCRIPTORS;
    match rlimit::increase_nofile_limit(wanted) {
        Ok(allowed) => {
            let room =
                usize::try_from(allowed.saturating_sub(RESERVED_DESCRIPTORS)).unwrap_or(usize::MAX).max(16);
            limits.connections = limits.connections.min(room);
            limits.sockets = limits.sockets.min(limits.connections);
        }
        Err(error) => tracing::debug!(%error, "the limit of open files cannot be told"),
    }
}

/// The addresses of `--listen`, each with the port.
///
/// # Errors
/// Names the part that is no address.
pub fn addresses(listen: &str, port: u16) -> Result<Vec<SocketAddr>> {
    listen
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let part = if part == "localhost" { "127.0.0.1" } else { part };
            let ip: IpAddr = part.parse().with_context(|| format!("--listen: `{part}` is no IP address"))?;
            Ok(SocketAddr::new(ip, port))
        })
        .collect()
}

fn read_tokens(path: &PathBuf) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let tokens: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    if tokens.is_empty() {
        bail!("{} holds no token; with --api-token-file there must be one", path.display());
    }
    Ok(tokens)
}

fn cache_policy(args: &ServeArgs) -> CachePolicy {
    match (args.cache_lru, args.cache_ram, args.cache_none) {
        (Some(count), ..) => CachePolicy::Lru(count),
        (_, Some(gigabytes), _) => CachePolicy::Ram((gigabytes.max(0.0) * f64::from(1u32 << 30)) as u64),
        (.., true) => CachePolicy::None,
        _ => CachePolicy::Classic,
    }
}

fn open_store(args: &ServeArgs, user: &std::path::Path) -> Result<Arc<dyn Store>> {
    let path = match args.database_url.as_deref() {
        Some("memory") => return Ok(Arc::new(SqliteStore::in_memory(SqliteOptions::default())?)),
        Some(url) => {
            let path =
                url.strip_prefix("sqlite:///").or_else(|| url.strip_prefix("sqlite://")).unwrap_or(url);
            if path.contains("://") {
                bail!("--database-url: only sqlite:/// is known, got {url}");
            }
            PathBuf::from(path)
        }
        None => user.join("rushlight.db"),
    };
    Ok(Arc::new(
        SqliteStore::open(&path, SqliteOptions::default())
            .with_context(|| format!("cannot open the queue in {}", path.display()))?,
    ))
}

/// Opens the default browser; a machine without one only loses the convenience.
fn open_browser(url: &str) {
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(windows) {
        "explorer"
    } else {
        "xdg-open"
    };
    if let Err(error) = std::process::Command::new(opener).arg(url).spawn() {
        tracing::info!(%error, "no browser could be opened");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_addresses_are_listened_on() {
        let both = addresses("0.0.0.0,::", 1).unwrap();
        assert_eq!(both.len(), 2);
        assert!(both.iter().all(|address| address.ip().is_unspecified() && address.port() == 1));
    }

    #[test]
    fn connections_leave_descriptors_for_files() {
        let mut limits = Limits::default();
        fit_to_descriptors(&mut limits);
        let (soft, _) = rlimit::Resource::NOFILE.get().unwrap();
        assert!(
            limits.connections as u64 <= soft && limits.sockets <= limits.connections,
            "{soft}: {limits:?}"
        );
    }

    #[test]
    fn a_checkout_is_known_by_its_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("comfy")).unwrap();
        std::fs::write(folder.path().join("nodes.py"), "").unwrap();
        assert!(!is_checkout(folder.path()));
        let error = checkout(Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("--comfyui-dir") && error.contains("nodes.py"), "{error}");
        std::fs::write(folder.path().join("folder_paths.py"), "").unwrap();
        assert!(is_checkout(folder.path()));
        assert_eq!(checkout(Some(folder.path())).unwrap().as_deref(), Some(folder.path()));
    }

    #[test]
    fn a_wrong_address_is_named() {
        let error = addresses("example.org", 1).unwrap_err().to_string();
        assert!(error.contains("example.org"), "{error}");
    }
}
