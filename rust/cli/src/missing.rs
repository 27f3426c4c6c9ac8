//! Classes of ComfyUI 0.8 that have no native implementation, each with the reason.

use crate::environment;

/// One class a line: name, tab, why it would be missing.
const UPSTREAM_CLASSES: &str = include_str!("../assets/upstream_classes.tsv");

/// Name and reason of every class that is missing, by name.
pub fn classes() -> Vec<(&'static str, &'static str)> {
    let registry = environment::native_registry();
    UPSTREAM_CLASSES
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(name, _)| registry.get(name).is_none())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_native_is_not_missing() {
        let missing = classes();
        assert!(!missing.iter().any(|(name, _)| *name == "KSampler"));
        assert!(missing.iter().all(|(_, reason)| !reason.is_empty()));
    }
}
