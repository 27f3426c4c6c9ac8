//! Development commands.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rushlight_xtask::goldens;

/// Development commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Holds the engine against recorded numbers; fails if a claimed entry is out of tolerance.
    Goldens {
        /// Folder of the recordings; RUSHLIGHT_GOLDENS or tests/data/goldens if not given.
        dir: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let passed = match Arguments::parse().command {
        Command::Goldens { dir } => goldens::run(&goldens::folder(dir)),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
