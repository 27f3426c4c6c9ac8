//! The conformance table.

use std::path::Path;

#[test]
fn the_conformance_table_names_real_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/protocol.md")).unwrap();
    let mut count = 0;
    for link in text.split("[`").skip(1) {
        let (name, rest) = link.split_once("`](../").unwrap();
        let (file, _) = rest.split_once(')').unwrap();
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        let function = if file.ends_with(".py") { format!("\ndef {name}(") } else { format!("fn {name}(") };
        let (before, _) = source.split_once(&function).unwrap_or_else(|| panic!("{file} has no test {name}"));
        // The attribute is the line above, or above that of a number of threads.
        let above = before.lines().rev().take(3).collect::<String>();
        assert!(
            file.ends_with(".py") && name.starts_with("test_") || above.contains("test"),
            "{file}: {name} is no test"
        );
        count += 1;
    }
    assert!(count > 100, "only {count} links: has the table's form changed?");
}

#[test]
fn every_route_is_in_the_conformance_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("../../docs/protocol.md")).unwrap();
    let mut count = 0;
    for file in std::fs::read_dir(root.join("src/routes")).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for route in source.split(".route(").skip(1) {
            let Some(path) = route.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
            else {
                continue;
            };
            // Names of parameters differ; what comes before the first is enough to find it.
            let fixed = path.split("/{").next().unwrap();
            // As a word of a row or heading, not the end of another path; every route is also under /api.
            let found = text.lines().filter(|line| line.starts_with(['|', '#'])).any(|row| {
                [" ", "`", "`/api"].iter().any(|before| row.contains(&format!("{before}{fixed}")))
            });
            assert!(found, "docs/protocol.md has no row for {path}");
            count += 1;
        }
    }
    assert!(count > 30, "only {count} routes found: has their form changed?");
}

#[test]
fn every_line_of_the_hostile_inputs_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("../../docs/protocol.md")).unwrap();
    for number in (1..=15).chain([19, 20, 21, 23, 25, 26]) {
        let begins = |row: &&str| {
            row.starts_with(&format!("| A{number} ")) || row.starts_with(&format!("| A{number},"))
        };
        let row = text.lines().find(begins).or_else(|| {
            text.lines().find(|row| row.starts_with("| A") && row.contains(&format!(" A{number} ")))
        });
        assert!(row.is_some_and(|row| row.contains("[`")), "docs/protocol.md has no test for A{number}");
    }
}
