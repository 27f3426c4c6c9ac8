//! `cargo xtask test`: everything that CI checks, on a machine that has cargo and Python 3.10 or newer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// What to leave out.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Options {
    /// Only the Rust tests.
    #[arg(long, conflicts_with = "python_only")]
    rust_only: bool,
    /// Only the tests that need Python: the wheel and the end-to-end tests.
    #[arg(long)]
    python_only: bool,
    /// Leave formatting and clippy out.
    #[arg(long)]
    no_lint: bool,
}

/// Runs the checks in order and stops at the first that fails.
///
/// # Errors
/// Names the command that failed.
pub fn run(options: Options) -> Result<()> {
    let root = root()?;
    let begun = Instant::now();
    if !options.python_only {
        if !options.no_lint {
            cargo(&root, &["fmt", "--all", "--check"])?;
            cargo(&root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
        }
        // The same packages and targets as the tests below, so that nothing is compiled twice.
        cargo(&root, &["build", "--workspace", "--bins", "--tests"])?;
        if has_nextest() {
            cargo(&root, &["nextest", "run", "--workspace", "--no-fail-fast"])?;
        } else {
            println!("cargo-nextest is not installed; using cargo test");
            cargo(&root, &["test", "--workspace", "--no-fail-fast"])?;
        }
        cargo(&root, &["test", "--workspace", "--doc"])?;
    }
    if !options.rust_only {
        if options.python_only {
            cargo(&root, &["build", "--package", "rushlight-cli"])?;
        }
        let python = virtual_environment(&root)?;
        let path = root.join("tests");
        step(Command::new(&python).args(["-m", "pytest", "-q", "-rs"]).arg(path).current_dir(&root))?;
    }
    println!("all checks passed in {:.0} s", begun.elapsed().as_secs_f64());
    if !options.rust_only && !has_browser() {
        println!(
            "NOT RUN: the browser tests, for there is no Chromium here (Debian: apt-get install chromium)"
        );
    }
    Ok(())
}

/// The repository's root.
///
/// # Errors
/// When this crate is no longer two folders below it.
pub fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.ancestors().nth(2).context("the repository's root is two folders above xtask")?.to_owned())
}

fn has_nextest() -> bool {
    let asked = Command::new("cargo").args(["nextest", "--version"]).output();
    asked.is_ok_and(|output| output.status.success())
}

/// Whether the browser tests find a browser; the names are those of `tests/e2e/browser.py`.
fn has_browser() -> bool {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    std::env::var_os("RUSHLIGHT_CHROMIUM").is_some() || names.iter().any(in_path)
}

/// Runs the large crash test: prompts are queued and the server is killed again and again.
///
/// # Errors
/// When something was lost or doubled, or a command failed.
pub fn crash(prompts: u32, kills: u32, seed: u64) -> Result<()> {
    let root = root()?;
    cargo(&root, &["build", "--workspace", "--bins"])?;
    let python = virtual_environment(&root)?;
    let mut command = Command::new(python);
    command.arg(root.join("tests/e2e/crash.py")).current_dir(&root);
    for (name, value) in [("--prompts", prompts.into()), ("--kills", kills.into()), ("--seed", seed)] {
        command.arg(name).arg(value.to_string());
    }
    step(&mut command)
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    step(Command::new("cargo").args(arguments).current_dir(root))
}

/// A virtual environment with the wheel of this tree and what the tests need.
fn virtual_environment(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target").join("test-venv");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if !python.exists() {
        let system = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
        step(Command::new(system).args(["-m", "venv"]).arg(&folder))
            .context("a virtual environment is needed (Debian: apt-get install python3-venv)")?;
    }
    let requirements = root.join("tests").join("requirements.txt");
    step(Command::new(&python).args(["-m", "pip", "install", "-q", "-r"]).arg(requirements))?;
    // One Python has one version of a package; the second frontend goes into a folder.
    let frontend = folder.join("frontend-0.8");
    let requirements = root.join("tests").join("requirements-frontend-0.8.txt");
    let wanted = std::fs::read_to_string(&requirements).context("tests/requirements-frontend-0.8.txt")?;
    let stamp = frontend.join("installed.txt");
    if std::fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        step(
            Command::new(&python)
                .args(["-m", "pip", "install", "-q", "--upgrade", "--no-deps", "--target"])
                .arg(&frontend)
                .arg("-r")
                .arg(&requirements),
        )?;
        std::fs::write(&stamp, wanted).context("target/test-venv/frontend-0.8 is not writable")?;
    }
    // The dev profile shares its dependencies with the Rust tests; users' `pip install` builds with optimisation.
    let target = root.join("target");
    step(
        Command::new(&python)
            .args(["-m", "pip", "install", "-q", "--force-reinstall", "--no-deps"])
            .arg(root)
            .env("MATURIN_PEP517_ARGS", "--profile dev")
            .env("CARGO_TARGET_DIR", target),
    )?;
    Ok(python)
}

fn step(command: &mut Command) -> Result<()> {
    let shown = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    println!("$ {shown}");
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    println!("  {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}
