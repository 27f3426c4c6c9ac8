//! Counting and comparing.

use std::fmt;

/// What a check of one file found.
#[derive(Default)]
pub struct Report {
    /// Entries in the file.
    pub entries: usize,
    /// Entries within tolerance.
    pub passed: usize,
    /// Entries that the engine does not claim to support, with the reason.
    pub missing: Vec<String>,
    /// Claimed entries out of tolerance or with an error.
    pub failures: Vec<String>,
    /// The largest error relative to the entry's tolerance, and whose it is.
    pub worst: Option<(f64, f64, String)>,
}

impl Report {
    /// Records a comparison: `error` against `tolerance`.
    pub fn compared(&mut self, name: &str, error: f64, tolerance: f64) {
        self.entries += 1;
        // NaN is out of tolerance.
        if error <= tolerance {
            self.passed += 1;
        } else {
            self.failures.push(format!("{name}: error {error:.2e}, tolerance {tolerance:.0e}"));
        }
        // A ratio that cannot be compared (NaN) is worse than any.
        let worse = self.worst.as_ref().is_none_or(|(worst, allowed, _)| {
            (error / tolerance).partial_cmp(&(worst / allowed)).is_none_or(std::cmp::Ordering::is_gt)
        });
        if worse {
            self.worst = Some((error, tolerance, name.to_owned()));
        }
    }

    /// Records an entry that is not supported.
    pub fn missing(&mut self, name: &str, why: impl fmt::Display) {
        self.entries += 1;
        self.missing.push(format!("{name}: {why}"));
    }

    /// Records an entry that ended in an error.
    pub fn failed(&mut self, name: &str, why: impl fmt::Display) {
        self.entries += 1;
        self.failures.push(format!("{name}: {why}"));
    }

    /// Records the outcome of an entry: an error, or the difference from what was recorded.
    pub fn outcome<E: fmt::Display>(&mut self, name: &str, found: Result<f64, E>, tolerance: f64) {
        match found {
            Ok(error) => self.compared(name, error, tolerance),
            Err(error) => self.failed(name, error),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} entries, {} passed, {} missing, {} failed",
            self.entries,
            self.passed,
            self.missing.len(),
            self.failures.len()
        )?;
        if let Some((error, tolerance, name)) = &self.worst {
            write!(f, ", worst {error:.2e} of {tolerance:.0e} ({name})")?;
        }
        for failure in &self.failures {
            write!(f, "\n  FAILED {failure}")?;
        }
        for missing in &self.missing {
            write!(f, "\n  missing {missing}")?;
        }
        Ok(())
    }
}

/// Largest absolute difference over the largest absolute value expected; infinite when the lengths
/// differ, 0 between two NaNs.
pub fn relative_to_max(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let scale = expected.iter().filter(|v| v.is_finite()).fold(0.0f64, |max, v| max.max(v.abs()));
    let difference = differences(found, expected).fold(0.0f64, worst);
    if scale > 0.0 { difference / scale } else { difference }
}

/// Largest difference of values, each relative to its own size.
pub fn relative(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    differences(found, expected)
        .zip(expected)
        .map(|(difference, expected)| difference / expected.abs().max(1e-6))
        .fold(0.0f64, worst)
}

fn differences<'a>(found: &'a [f64], expected: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    found.iter().zip(expected).map(|(a, b)| if a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() })
}

/// A maximum that keeps NaN, which `f64::max` drops.
fn worst(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_where_none_is_expected_is_infinitely_wrong() {
        assert_eq!(relative(&[1.0], &[]), f64::INFINITY);
    }

    #[test]
    fn a_nan_fails_unless_a_nan_was_recorded() {
        let mut report = Report::default();
        report.compared("nan", relative_to_max(&[f64::NAN, 1.0], &[1.0, 1.0]), 1e-3);
        report.compared("same", relative_to_max(&[f64::NAN, 1.0], &[f64::NAN, 1.0]), 1e-3);
        assert_eq!((report.failures.len(), report.passed), (1, 1));
    }
}
