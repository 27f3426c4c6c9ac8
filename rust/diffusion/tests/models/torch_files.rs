//! Files that PyTorch wrote, in its current and its old format (made by `torch.save`).

use std::path::{Path, PathBuf};

use rushlight_diffusion::weights::StateDict;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn tensors_of_both_formats_are_read_without_their_wrapper() {
    for name in ["new.pt", "old.pt"] {
        let dict = StateDict::open(&file(name)).unwrap();
        let get = |name: &str| dict.get(name).unwrap();
        assert_eq!(get("a").shape(), [4, 6]);
        assert_eq!(get("a").to_f32(), (0..24).map(|i| i as f32).collect::<Vec<_>>());
        assert_eq!(get("b").shape(), [6, 4]);
        assert_eq!(get("b").to_f32()[..5], [0.0, 6.0, 12.0, 18.0, 1.0]);
        assert_eq!(get("c").to_f32(), [8.0, 9.0, 14.0, 15.0]);
        assert_eq!(get("h").to_f32(), [1.5, -2.0]);
        assert_eq!(get("bf").to_f32(), [0.5]);
        assert_eq!((get("n").shape(), get("n").to_f32()), (vec![], vec![7.0]));
        assert_eq!(get("p").to_f32(), [1.0, 1.0]);
        assert_eq!(dict.metadata().get("global_step").map(String::as_str), Some("110000"));
    }
}

#[test]
fn textual_inversions_keep_their_level() {
    let dict = StateDict::open(&file("embedding.pt")).unwrap();
    assert_eq!(dict.shape("string_to_param.*"), Some(vec![2, 3]));
}

#[test]
fn cut_and_changed_files_are_errors_or_tensors_and_never_a_panic() {
    for name in ["new.pt", "old.pt"] {
        let bytes = std::fs::read(file(name)).unwrap();
        for cut in (0..bytes.len()).step_by(7) {
            let _ = StateDict::from_vec(bytes[..cut].to_vec(), name);
        }
        for at in (0..bytes.len()).step_by(3) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x41;
            if let Ok(dict) = StateDict::from_vec(changed, name) {
                dict.iter().for_each(|(_, entry)| drop(entry.to_f32()));
            }
        }
    }
}

#[test]
fn a_pickle_that_is_no_model_is_refused() {
    let error = StateDict::from_vec(b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.".to_vec(), "x.ckpt")
        .unwrap_err();
    assert!(error.to_string().contains("x.ckpt"), "{error}");
}
