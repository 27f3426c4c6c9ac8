//! This process's memory, from `/proc`.

use anyhow::{Context, Result};

fn status(key: &str) -> Result<u64> {
    let text =
        std::fs::read_to_string("/proc/self/status").context("the memory bench needs Linux's /proc")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
    let kilobytes: u64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse()?;
    Ok(kilobytes * 1024)
}

/// Bytes resident now.
pub fn resident() -> Result<u64> {
    status("VmRSS:")
}

/// The most bytes that were resident since [`reset_peak`].
pub fn peak() -> Result<u64> {
    status("VmHWM:")
}

/// Starts a new peak.
pub fn reset_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("the peak cannot be reset")
}
