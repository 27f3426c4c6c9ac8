//! The `rushlight` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    rushlight_cli::main(std::env::args_os(), None)
}
