//! Files that a run has saved and that no history names yet.
//!
//! A run that the process does not survive is run again by the next one, and would save its files a second time. So a
//! name is noted before a file gets it; when the run has ended and its history is written the notes go. Notes that are
//! still there at the next start are of lost runs: their files are removed, unless their content is another by then.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use parking_lot::Mutex;

use super::error::FolderError;
use super::layout::FolderKind;
use super::name::RelPath;
use super::save::{SaveName, Saved, Target};
use super::store::Folders;

/// Folder of the notes in the user directory; beside the queue's database, whose rows they belong to.
const FOLDER: &str = ".rushlight-claims";

/// Bytes of notes that are read back; a run that saved more than that many files is not cleaned up after in full.
const MAX_NOTES: u64 = 16 << 20;

/// What one run has saved.
#[derive(Debug)]
pub struct Claims {
    path: PathBuf,
    /// Made when the first file is saved.
    notes: Mutex<Option<File>>,
}

impl Claims {
    fn note(&self, line: &str) -> io::Result<()> {
        let mut notes = self.notes.lock();
        let file = match &mut *notes {
            Some(file) => file,
            none => {
                if let Some(folder) = self.path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                none.insert(OpenOptions::new().create(true).append(true).open(&self.path)?)
            }
        };
        // One write, so that a kill leaves a whole line or none.
        file.write_all(line.as_bytes())
    }

    /// The run's history is written: its files are no longer its own.
    pub fn keep(&self) {
        if self.notes.lock().take().is_some()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "the notes of a run that has ended were not removed");
        }
    }
}

impl Folders {
    fn claims_folder(&self) -> PathBuf {
        self.layout().user.join(FOLDER)
    }

    /// The claims of a run; `run` is its number in the queue's database.
    pub fn claims(&self, run: i64) -> Claims {
        Claims { path: self.claims_folder().join(run.to_string()), notes: Mutex::new(None) }
    }

    /// As [`Folders::save`], for a run that may be lost.
    ///
    /// # Errors
    /// As [`Folders::save`].
    pub fn save_claimed(
        &self,
        kind: FolderKind,
        name: &SaveName<'_>,
        bytes: &[u8],
        claims: &Claims,
    ) -> Result<Saved, FolderError> {
        let subfolder = Target::new(name)?.subfolder;
        let hash = blake3::hash(bytes).to_hex();
        self.save_as(kind, name, bytes, &mut |filename| {
            let line = format!("{hash}\t{}\t{subfolder}\t{filename}\n", kind.as_str());
            if let Err(error) = claims.note(&line) {
                // Better saved twice than not at all.
                tracing::warn!(%error, filename, "a saved file was not noted");
            }
        })
    }

    /// The run will be repeated: removes what it saved. How many files that were.
    pub fn disclaim(&self, claims: &Claims) -> usize {
        let Some(_) = claims.notes.lock().take() else { return 0 };
        self.remove_claimed(&claims.path)
    }

    /// Removes what runs saved that a former process did not survive: those for which `lost` holds, by their number.
    /// How many files that were.
    pub fn disclaim_lost(&self, lost: impl Fn(i64) -> bool) -> usize {
        let Ok(entries) = std::fs::read_dir(self.claims_folder()) else { return 0 };
        let mut removed = 0;
        for entry in entries.flatten() {
            let run = entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok());
            match run {
                Some(run) if lost(run) => removed += self.remove_claimed(&entry.path()),
                // Its history is written, only its notes were not removed in time.
                _ => drop(std::fs::remove_file(entry.path())),
            }
        }
        removed
    }

    fn remove_claimed(&self, path: &std::path::Path) -> usize {
        use std::io::Read;
        let mut notes = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_NOTES).read_to_string(&mut notes));
        if let Err(error) = read {
            tracing::warn!(%error, "the notes of a lost run cannot be read");
            return 0;
        }
        let removed = notes.lines().filter(|line| self.remove_if_same(line).is_some()).count();
        // Last, so that a kill in between leaves the rest to the next start.
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(%error, "the notes of a lost run were not removed");
        }
        removed
    }

    /// Removes the file of a note if it is there and its content is the one noted.
    fn remove_if_same(&self, line: &str) -> Option<()> {
        let mut fields = line.split('\t');
        let (hash, kind) = (fields.next()?, FolderKind::parse(fields.next()?)?);
        let (subfolder, filename) =
            (RelPath::parse(fields.next()?).ok()?, RelPath::file(fields.next()?).ok()?);
        let path = subfolder.join(&filename);
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(self.open_file(kind, &path).ok()?).ok()?;
        if hasher.finalize().to_hex().as_str() != hash {
            return None;
        }
        self.root(kind).remove_file(&path, &self.configured()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::FolderSettings;
    use super::super::prefix::PrefixFields;
    use super::*;

    fn folders(base: &std::path::Path) -> Folders {
        Folders::open(&FolderSettings { base: base.into(), ..FolderSettings::default() }).unwrap()
    }

    fn save(folders: &Folders, claims: &Claims, prefix: &str, bytes: &[u8]) -> String {
        let fields = PrefixFields { width: 8, height: 9, batch_index: 0, now: chrono::Local::now() };
        let name = SaveName { prefix, suffix: "", extension: "png", fields };
        folders.save_claimed(FolderKind::Output, &name, bytes, claims).unwrap().filename
    }

    fn outputs(base: &std::path::Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(base.join("output"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_lost_run_saved_is_removed_and_its_names_are_given_again() {
        let base = tempfile::tempdir().unwrap();
        let lost = folders(base.path());
        let claims = lost.claims(7);
        assert_eq!(save(&lost, &claims, "a", b"one"), "a_00001_.png");
        assert_eq!(save(&lost, &claims, "sub/b", b"two"), "b_00001_.png");
        drop((claims, lost));
        let next = folders(base.path());
        assert_eq!(next.disclaim_lost(|run| run == 7), 2);
        assert_eq!(save(&next, &next.claims(7), "a", b"one"), "a_00001_.png");
        assert!(!base.path().join("output/sub/b_00001_.png").exists());
    }

    #[test]
    fn what_history_names_or_someone_changed_stays() {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        let (kept, ended, changed) = (folders.claims(1), folders.claims(2), folders.claims(3));
        save(&folders, &kept, "kept", b"x");
        kept.keep();
        save(&folders, &ended, "ended", b"x");
        save(&folders, &changed, "changed", b"x");
        std::fs::write(base.path().join("output/changed_00001_.png"), "edited").unwrap();
        // Run 2 is no longer in the queue: it had ended.
        assert_eq!(folders.disclaim_lost(|run| run != 2), 0);
        assert_eq!(outputs(base.path()), ["changed_00001_.png", "ended_00001_.png", "kept_00001_.png"]);
        assert_eq!(std::fs::read_dir(base.path().join("user").join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn a_run_that_is_put_back_takes_its_files_with_it() {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        let claims = folders.claims(1);
        assert_eq!(folders.disclaim(&claims), 0);
        save(&folders, &claims, "a", b"x");
        assert_eq!(folders.disclaim(&claims), 1);
        assert!(outputs(base.path()).is_empty());
    }

    #[test]
    fn torn_and_strange_notes_do_no_harm() {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        let secret = base.path().join("secret.txt");
        std::fs::write(&secret, "x").unwrap();
        let hash = blake3::hash(b"x").to_hex();
        let notes = base.path().join("user").join(FOLDER);
        std::fs::create_dir_all(&notes).unwrap();
        std::fs::write(notes.join("1"), format!("{hash}\toutput\t..\tsecret.txt\n{hash}\tout\n\t\t\n{hash}"))
            .unwrap();
        std::fs::write(notes.join("other"), "?").unwrap();
        assert_eq!(folders.disclaim_lost(|_| true), 0);
        assert!(secret.exists());
    }
}
