//! `resizes.safetensors`: every way to resize, with and without cropping.

use std::path::Path;

use anyhow::{Result, anyhow};

use super::compare::Report;

/// Compares every entry.
pub fn check(folder: &Path) -> Result<Report> {
    rushlight_nodes::goldens::resizes(folder).map(super::nodes::convert).map_err(|error| anyhow!(error))
}
