//! `goldens`: holds the engine against recorded numbers.
//!
//! Every file is read from one folder, whatever entries it holds. A file that is not there is
//! named as skipped; an entry that the engine does not claim to support counts as missing; an
//! entry that it claims and misses is a failure.

pub mod compare;
pub mod models;
pub mod nodes;
pub mod noise;
pub mod resizes;
pub mod samplers;
pub mod schedules;
pub mod tokens;

use std::path::{Path, PathBuf};

pub use compare::Report;

/// The folder of goldens: `dir`, or `RUSHLIGHT_GOLDENS`, or the repository's own.
pub fn folder(dir: Option<PathBuf>) -> PathBuf {
    dir.or_else(|| std::env::var_os("RUSHLIGHT_GOLDENS").map(PathBuf::from))
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/goldens"))
}

/// A check of one file: its name and what reads it.
type Check = (&'static str, fn(&Path) -> anyhow::Result<Report>);

/// All checks of the engine's numbers, by file.
pub const CHECKS: &[Check] = &[
    ("noise.safetensors", noise::check),
    ("schedules.json", schedules::check),
    ("samplers.json", samplers::check),
    ("clip_tokens.json", tokens::check),
    ("models.json", models::check),
    ("models_flow.json", models::check_flow),
    ("nodes.json", nodes::check),
    ("resizes.safetensors", resizes::check),
];

/// Runs every check and prints a line a file. Returns whether no claimed entry failed.
pub fn run(folder: &Path) -> bool {
    let mut passed = true;
    for (file, check) in CHECKS {
        if !folder.join(file).exists() {
            println!("{file}: skipped, not in {}", folder.display());
            continue;
        }
        match check(folder) {
            Ok(report) => {
                println!("{file}: {report}");
                passed &= report.failures.is_empty();
            }
            Err(error) => {
                println!("{file}: failed: {error:#}");
                passed = false;
            }
        }
    }
    passed
}
