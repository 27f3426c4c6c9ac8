//! Development commands.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rushlight_xtask::check;

/// Development commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs everything that CI checks.
    Test(check::Options),
    /// Queues prompts and kills the server again and again; fails if one is lost or done twice.
    Crash {
        /// Prompts to queue; the history holds 10,000.
        #[arg(long, default_value_t = 10_000)]
        prompts: u32,
        /// Times that the server is killed.
        #[arg(long, default_value_t = 100)]
        kills: u32,
        /// Of the random moments.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Holds the engine against recorded numbers; fails if a claimed entry is out of tolerance.
    Goldens {
        /// Folder of the recordings; RUSHLIGHT_GOLDENS or tests/data/goldens if not given.
        dir: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let passed = match Arguments::parse().command {
        Command::Test(options) => told(check::run(options)),
        Command::Crash { prompts, kills, seed } => told(check::crash(prompts, kills, seed)),
        Command::Goldens { dir } => goldens(dir),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether it worked; says what did not.
fn told(result: anyhow::Result<()>) -> bool {
    result.inspect_err(|error| eprintln!("error: {error:#}")).is_ok()
}

#[cfg(feature = "goldens")]
fn goldens(dir: Option<PathBuf>) -> bool {
    use rushlight_xtask::goldens;
    goldens::run(&goldens::folder(dir))
}

/// Runs the build that has the engine in it.
#[cfg(not(feature = "goldens"))]
fn goldens(dir: Option<PathBuf>) -> bool {
    let mut command = std::process::Command::new("cargo");
    command.args(["run", "--quiet", "--package", "rushlight-xtask", "--", "goldens"]).args(dir);
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("error: cannot run cargo: {error}");
            false
        }
    }
}
