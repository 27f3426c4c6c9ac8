//! `nodes.json`: the native nodes on recorded inputs.

use std::path::Path;

use anyhow::{Result, anyhow};

use super::compare::Report;

/// Runs every entry; the nodes crate knows how and with which tolerance.
pub fn check(folder: &Path) -> Result<Report> {
    rushlight_nodes::goldens::nodes(folder).map(convert).map_err(|error| anyhow!(error))
}

/// A report of the nodes crate in the form that the others have.
pub fn convert(found: rushlight_nodes::goldens::Report) -> Report {
    let mut report = Report::default();
    for entry in &found.passed {
        report.compared(&entry.name, entry.error, entry.tolerance);
    }
    for (name, why) in &found.missing {
        report.missing(name, why);
    }
    for (name, why) in &found.failed {
        report.failed(name, why);
    }
    report
}
