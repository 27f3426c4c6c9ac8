//! Recursive listings that are remembered until a folder changes.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::name::RelPath;

/// Folders deeper than this are not looked into: nobody nests models so far, and a loop of links would.
const MAX_DEPTH: usize = 32;
/// File systems keep times this coarsely at worst, so a folder changed this recently may change again unseen.
const SETTLED: Duration = Duration::from_secs(2);

/// A listing and what it was made from.
struct Remembered {
    names: Arc<Vec<String>>,
    /// Every folder that was read, with its time of change.
    folders: Vec<(PathBuf, SystemTime)>,
    /// Whether every folder's time was old enough to trust.
    settled: bool,
}

/// Listings by folder.
#[derive(Default)]
pub struct Listings {
    remembered: Mutex<HashMap<PathBuf, Remembered>>,
}

impl Listings {
    /// Names of all files beneath a folder, relative with `/`, sorted. A missing folder is empty.
    ///
    /// Links are followed: this is for folders that only their owner writes to.
    pub fn files(&self, folder: &Path) -> Arc<Vec<String>> {
        if let Some(entry) = self.remembered.lock().get(folder)
            && entry.settled
            && entry.folders.iter().all(|(path, time)| modified(path) == Some(*time))
        {
            return entry.names.clone();
        }
        let entry = read(folder);
        let names = entry.names.clone();
        self.remembered.lock().insert(folder.to_owned(), entry);
        names
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

fn read(folder: &Path) -> Remembered {
    let mut walk = Walk { base: folder, names: Vec::new(), folders: Vec::new(), seen: HashSet::new() };
    walk.visit(folder, 0);
    let Walk { mut names, folders, .. } = walk;
    names.sort_unstable();
    let now = SystemTime::now();
    let settled = !folders.is_empty()
        && folders.iter().all(|(_, time)| now.duration_since(*time).is_ok_and(|age| age > SETTLED));
    Remembered { names: Arc::new(names), folders, settled }
}

struct Walk<'a> {
    base: &'a Path,
    names: Vec<String>,
    folders: Vec<(PathBuf, SystemTime)>,
    /// Real paths of folders on the way, against loops of links.
    seen: HashSet<PathBuf>,
}

impl Walk<'_> {
    fn visit(&mut self, folder: &Path, depth: usize) {
        let (Some(time), Ok(real)) = (modified(folder), folder.canonicalize()) else { return };
        if depth > MAX_DEPTH || !self.seen.insert(real) {
            return;
        }
        // The time is taken before the entries, so a file that comes in between makes the listing stale.
        self.folders.push((folder.to_owned(), time));
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            // `metadata` follows links, `file_type` does not.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                if entry.file_name() != ".git" {
                    self.visit(&path, depth + 1);
                }
            } else if metadata.is_file()
                && let Ok(relative) = path.strip_prefix(self.base)
                && let Some(name) = RelPath::from_disk(relative)
            {
                self.names.push(name.as_str().to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(path: &Path) {
        let old = SystemTime::now() - Duration::from_secs(60);
        std::fs::File::open(path).unwrap().set_modified(old).unwrap();
    }

    #[test]
    fn listings_are_recursive_sorted_and_follow_changes() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(base.path().join("sub/deep")).unwrap();
        for name in ["b.txt", "sub/a.txt", "sub/deep/c.txt", "B.txt"] {
            std::fs::write(base.path().join(name), "").unwrap();
        }
        for folder in ["sub/deep", "sub", "."] {
            age(&base.path().join(folder));
        }
        let listings = Listings::default();
        let first = listings.files(base.path());
        assert_eq!(*first, ["B.txt", "b.txt", "sub/a.txt", "sub/deep/c.txt"]);
        assert!(Arc::ptr_eq(&first, &listings.files(base.path())), "nothing changed, nothing is read");
        std::fs::write(base.path().join("sub/deep/new.txt"), "").unwrap();
        assert_eq!(listings.files(base.path()).len(), 5);
        std::fs::remove_file(base.path().join("b.txt")).unwrap();
        assert_eq!(listings.files(base.path()).len(), 4);
    }

    #[test]
    fn a_missing_folder_is_empty_until_it_is_there() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("later");
        let listings = Listings::default();
        assert!(listings.files(&folder).is_empty());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("a"), "").unwrap();
        assert_eq!(*listings.files(&folder), ["a"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_loop_of_links_ends() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("a"), "").unwrap();
        std::os::unix::fs::symlink(base.path(), base.path().join("loop")).unwrap();
        assert_eq!(*Listings::default().files(base.path()), ["a"]);
    }
}
