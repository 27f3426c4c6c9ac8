//! The recorded numbers, file by file.

use rushlight_xtask::goldens;

#[test]
fn every_claimed_entry_is_within_tolerance() {
    assert!(goldens::run(&goldens::folder(None)), "see the lines above");
}
