//! Where the user's `ffmpeg` executable is.
//!
//! First what `RUSHLIGHT_FFMPEG` names, then `PATH`, then what the pip package `imageio-ffmpeg` has brought into the
//! Python environment that is active or that this process runs in.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The environment variable that names the executable; empty for none.
pub(crate) const VARIABLE: &str = "RUSHLIGHT_FFMPEG";

/// The executable, looked for once.
pub(crate) fn ffmpeg() -> Option<&'static Path> {
    static FOUND: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let found = find(env::var_os(VARIABLE).as_deref(), env::var_os("PATH").as_deref(), &prefixes());
        if let Some(path) = &found {
            tracing::debug!(path = %path.display(), "ffmpeg found");
        }
        found
    });
    FOUND.as_deref()
}

/// Whether a test that needs the executable may run. Without one it says loudly that it does not; where
/// `RUSHLIGHT_REQUIRE_FFMPEG` is 1, that is a failure.
#[cfg(any(test, feature = "goldens"))]
pub(crate) fn require(what: &str) -> bool {
    if ffmpeg().is_some() {
        return true;
    }
    assert!(
        env::var("RUSHLIGHT_REQUIRE_FFMPEG").as_deref() != Ok("1"),
        "{what} needs an ffmpeg executable, and there is none"
    );
    eprintln!("NOT RUN: {what} needs an ffmpeg executable (install ffmpeg, or set {VARIABLE})");
    false
}

/// The file's name on this system.
fn file_name() -> String {
    format!("ffmpeg{}", env::consts::EXE_SUFFIX)
}

/// Python environments that may be meant: the active one, and the one whose interpreter this process is.
fn prefixes() -> Vec<PathBuf> {
    let active = env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let own = env::current_exe().ok().and_then(|exe| {
        let folder = exe.parent()?;
        // On Windows the interpreter lies in the environment itself, elsewhere in its `bin`.
        Some(if cfg!(windows) { folder.to_owned() } else { folder.parent()?.to_owned() })
    });
    active.into_iter().chain(own).collect()
}

type OsText<'a> = Option<&'a std::ffi::OsStr>;

fn find(named: OsText<'_>, path: OsText<'_>, prefixes: &[PathBuf]) -> Option<PathBuf> {
    if let Some(named) = named {
        // Naming none, or one that is not there, turns off the search.
        return Some(PathBuf::from(named)).filter(|named| named.is_file());
    }
    let on_path = path.into_iter().flat_map(env::split_paths);
    on_path
        .map(|folder| folder.join(file_name()))
        .find(|candidate| candidate.is_file())
        .or_else(|| prefixes.iter().find_map(|prefix| of_imageio(prefix)))
}

/// `ffmpeg-…` of the package `imageio-ffmpeg` in a Python environment.
fn of_imageio(prefix: &Path) -> Option<PathBuf> {
    let libraries = if cfg!(windows) {
        vec![prefix.join("Lib")]
    } else {
        entries(&prefix.join("lib")).into_iter().filter(|folder| starts(folder, "python")).collect()
    };
    libraries
        .into_iter()
        .flat_map(|library| entries(&library.join("site-packages/imageio_ffmpeg/binaries")))
        .find(|file| starts(file, "ffmpeg-") && file.is_file())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

fn starts(path: &Path, with: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(with))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_comes_before_the_path_and_that_before_a_package() {
        let base = tempfile::tempdir().unwrap();
        let touch = |name: &str| {
            let path = base.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let library = if cfg!(windows) { "env/Lib" } else { "env/lib/python3.12" };
        let packaged = touch(&format!("{library}/site-packages/imageio_ffmpeg/binaries/ffmpeg-linux-v7.0"));
        let on_path = touch(&format!("bin/{}", file_name()));
        let named = touch("mine");
        let prefixes = [base.path().join("env")];
        let path = env::join_paths([base.path().join("none"), base.path().join("bin")]).unwrap();
        let found = |named: OsText<'_>, path: OsText<'_>| find(named, path, &prefixes);
        assert_eq!(found(Some(named.as_os_str()), Some(&path)), Some(named.clone()));
        assert_eq!(found(None, Some(&path)), Some(on_path));
        assert_eq!(found(None, None), Some(packaged));
        assert_eq!(found(Some("".as_ref()), Some(&path)), None);
        assert_eq!(find(None, None, &[]), None);
    }
}
