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
        assert!(source.contains(&format!("fn {name}(")), "{file} has no test {name}");
        count += 1;
    }
    assert!(count > 50, "only {count} links: has the table's form changed?");
}
