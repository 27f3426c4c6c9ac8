//! `rushlight doctor`: looks at what a server needs, says what is wrong and what to do.

use std::net::{IpAddr, TcpListener};
use std::path::Path;

use anyhow::{Result, bail};
use rushlight_runtime::Host;

use crate::args::ServeArgs;
use crate::{environment, serve};

/// One line of the report.
struct Finding {
    state: State,
    subject: &'static str,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    Note,
    Bad,
}

/// Prints a report; fails if a server could not run.
///
/// # Errors
/// The number of things that are wrong.
pub fn run(args: &ServeArgs) -> Result<()> {
    let mut findings = vec![version(), device(args)];
    findings.extend(folders(args));
    findings.extend(network(args));
    for finding in &findings {
        let mark = match finding.state {
            State::Good => "ok  ",
            State::Note => "note",
            State::Bad => "BAD ",
        };
        println!("{mark}  {:<10} {}", finding.subject, finding.text);
    }
    match findings.iter().filter(|finding| finding.state == State::Bad).count() {
        0 => Ok(()),
        count => bail!("{count} of {} checks failed", findings.len()),
    }
}

fn finding(state: State, subject: &'static str, text: impl Into<String>) -> Finding {
    Finding { state, subject, text: text.into() }
}

fn version() -> Finding {
    let mut backends = vec!["cpu"];
    if cfg!(feature = "cuda") {
        backends.push("cuda");
    }
    if cfg!(feature = "metal") {
        backends.push("metal");
    }
    finding(
        State::Good,
        "version",
        format!("rushlight {}, built for {}", env!("CARGO_PKG_VERSION"), backends.join(", ")),
    )
}

fn device(args: &ServeArgs) -> Finding {
    match environment::device(&args.device) {
        Ok(device) if device.is_cpu() => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            finding(State::Good, "device", format!("cpu with {cores} cores"))
        }
        Ok(device) => finding(State::Good, "device", environment::device_name(&device)),
        Err(error) => finding(State::Bad, "device", format!("{error:#}; start with --cpu to run without it")),
    }
}

fn folders(args: &ServeArgs) -> Vec<Finding> {
    let opened = environment::folder_settings(&args.folders)
        .and_then(|settings| environment::open_host(&settings, !args.device.disable_metadata));
    let (folders, host) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let advice = "choose another with --base-directory, or change its permissions";
            return vec![finding(State::Bad, "folders", format!("{error:#}; {advice}"))];
        }
    };
    let layout = folders.layout();
    let mut findings = vec![finding(State::Good, "base", layout.base.display().to_string())];
    let places = [
        ("input", &layout.input),
        ("output", &layout.output),
        ("temp", &layout.temp),
        ("user", &layout.user),
    ];
    for (name, path) in places {
        findings.push(match writable(path) {
            Ok(()) => finding(State::Good, name, path.display().to_string()),
            Err(error) => finding(
                State::Bad,
                name,
                format!(
                    "{} cannot be written: {error}; use --{name}-directory or change its permissions",
                    path.display()
                ),
            ),
        });
    }
    for key in ["checkpoints", "diffusion_models", "loras", "vae", "text_encoders", "controlnet"] {
        let names = host.model_names(key);
        if key == "checkpoints" || !names.is_empty() {
            let shown: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
            let more = if names.len() > shown.len() { ", …" } else { "" };
            findings.push(finding(
                State::Good,
                "models",
                format!("{key}: {} ({}{more})", names.len(), shown.join(", ")),
            ));
        }
    }
    if host.model_names("checkpoints").len() == 1 {
        let text = format!(
            "only the embedded checkpoint is there; put others into {}",
            layout.models.join("checkpoints").display()
        );
        findings.push(finding(State::Note, "models", text));
    }
    findings
}

fn writable(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".rushlight-doctor-{}", std::process::id()));
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(&probe)
}

fn network(args: &ServeArgs) -> Vec<Finding> {
    let addresses = match serve::addresses(&args.listen, args.port) {
        Ok(addresses) => addresses,
        Err(error) => return vec![finding(State::Bad, "network", format!("{error:#}"))],
    };
    let mut findings = Vec::new();
    for address in addresses {
        findings.push(match TcpListener::bind(address) {
            Ok(_) => finding(State::Good, "network", format!("{address} is free")),
            Err(error) => finding(
                State::Bad,
                "network",
                format!("cannot listen on {address}: {error}; is another server running? Use --port"),
            ),
        });
        let open = match address.ip() {
            IpAddr::V4(ip) => !ip.is_loopback(),
            IpAddr::V6(ip) => !ip.is_loopback(),
        };
        if open && args.api_token_file.is_none() {
            let text = format!(
                "{address} is reachable by others and no --api-token-file is set: anyone can use this server"
            );
            findings.push(finding(State::Note, "network", text));
        }
    }
    findings
}
