//! From a command line to an exit code.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rushlight_server::logs::LogBuffer;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{Cli, Command};
use crate::serve::ExtensionFactory;
use crate::{config, doctor, nodes, run, serve};

/// Runs a command; errors go to standard error. `extension` hosts Python nodes in the server of `serve`.
pub fn main(args: impl IntoIterator<Item = OsString>, extension: Option<ExtensionFactory>) -> ExitCode {
    let args = match config::expand(args.into_iter().collect(), |name| std::env::var_os(name)) {
        Ok(args) => args,
        Err(error) => return fail(&error),
    };
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come this way too; a closed terminal is no failure.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let (level, to_stdout) = match &cli.command {
        Command::Serve(args) => (args.verbose.as_str(), args.log_stdout),
        _ => ("WARN", false),
    };
    let logs = LogBuffer::new();
    log(level, to_stdout, &logs);
    let result = match &cli.command {
        Command::Serve(args) => serve::run(args, extension, logs),
        Command::Run(args) => run::run(args),
        Command::Nodes(args) => nodes::run(args),
        Command::Doctor(args) => doctor::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Sends the log to the terminal and to `/internal/logs`. `RUST_LOG` wins over the level.
fn log(level: &str, to_stdout: bool, logs: &Arc<LogBuffer>) {
    // Python's level names, as start scripts use them.
    let level = match level.to_uppercase().as_str() {
        "WARNING" => "warn".to_owned(),
        "CRITICAL" => "error".to_owned(),
        other => other.to_lowercase(),
    };
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(&level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = tracing_subscriber::fmt::layer().with_target(false);
    let registry = tracing_subscriber::registry().with(filter).with(logs.layer());
    // A second call (the wheel's `main` called twice in one process) keeps the first log.
    let _ = if to_stdout {
        registry.with(terminal.with_writer(std::io::stdout)).try_init()
    } else {
        registry.with(terminal.with_writer(std::io::stderr)).try_init()
    };
}
