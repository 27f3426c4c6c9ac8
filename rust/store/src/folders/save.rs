//! Writing under the next free counter, atomically.
//!
//! A file is written under a temporary name, flushed to disk, and then given its name by an operation that fails
//! when the name is taken (a hard link; where a file system has none, an exclusively created placeholder that is
//! renamed over). So a name never shows half a file, and two writers, of this process or another, never share one.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use cap_std::fs::{Dir, OpenOptions};
use parking_lot::Mutex;

use super::error::FolderError;
use super::name::RelPath;
use super::prefix::PrefixFields;

/// Begins every temporary name, so that leftovers of a crash can be told from the user's files.
pub(crate) const TEMPORARY: &str = ".rushlight-tmp-";

/// What a file is to be called.
#[derive(Debug, Clone)]
pub struct SaveName<'a> {
    /// `filename_prefix`, with its fields and subfolders.
    pub prefix: &'a str,
    /// Appended to the prefix.
    pub suffix: &'a str,
    /// Extension without the dot.
    pub extension: &'a str,
    /// What the fields stand for.
    pub fields: PrefixFields,
}

/// Where a file went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its name in its folder.
    pub filename: String,
    /// Folder beneath the kind's folder, with `/`, or empty.
    pub subfolder: String,
}

/// A checked and filled-in [`SaveName`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Folder beneath the kind's folder.
    pub(crate) subfolder: RelPath,
    /// Name before the counter.
    pub(crate) stem: String,
    /// Extension without the dot.
    extension: String,
    /// Lowest counter to take.
    first: u64,
}

impl Target {
    /// Checks a name.
    ///
    /// # Errors
    /// [`FolderError::BadName`] for a prefix that leaves its folder.
    pub(crate) fn new(name: &SaveName<'_>) -> Result<Self, FolderError> {
        let (subfolder, stem) = split_prefix(&name.fields.fill(name.prefix))?;
        let stem = format!("{stem}{}", name.suffix);
        // The whole name is checked as it will be, so a long or strange prefix fails here and not at the disk.
        RelPath::file(&format!("{stem}_00001_.{}", name.extension))?;
        if stem.contains('/') || name.extension.contains('/') {
            return Err(FolderError::BadName { name: stem, reason: "the suffix or extension holds a slash" });
        }
        // A batch shares one counter although its names differ, so that a picture's number says its place.
        let first = if name.prefix.contains("%batch_num%") { 1 + name.fields.batch_index as u64 } else { 1 };
        Ok(Self { subfolder, stem, extension: name.extension.to_owned(), first })
    }

    fn numbered(&self, counter: u64) -> String {
        format!("{}_{counter:05}_.{}", self.stem, self.extension)
    }
}

/// Splits a filled prefix at its last `/`. Workflows made on Windows write `\`.
pub(crate) fn split_prefix(prefix: &str) -> Result<(RelPath, String), FolderError> {
    let prefix = prefix.replace('\\', "/");
    let (folder, stem) = prefix.rsplit_once('/').unwrap_or(("", &prefix));
    if prefix.starts_with('/') {
        return Err(FolderError::BadName { name: prefix, reason: "it is absolute" });
    }
    let checked = RelPath::parse(stem)?;
    Ok((RelPath::parse(folder)?, if stem == "." { stem.to_owned() } else { checked.as_str().to_owned() }))
}

/// The counters last given, so that a folder of many pictures is not read again for each.
#[derive(Default)]
pub(crate) struct Counters {
    /// (folder, stem, extension-independent) → the folder's time of change after the last save and the next counter.
    next: Mutex<HashMap<(PathBuf, String), (SystemTime, u64)>>,
}

/// Folders remembered; beyond it all are forgotten, which costs one reading each.
const MAX_REMEMBERED: usize = 1024;

impl Counters {
    /// Writes `bytes` into `dir` (which is `folder` beneath its root) under the next free name.
    pub(crate) fn save(
        &self,
        dir: &Dir,
        folder: PathBuf,
        target: &Target,
        bytes: &[u8],
        announce: &mut dyn FnMut(&str),
    ) -> Result<String, FolderError> {
        let fail = |e| FolderError::from_io(&target.stem, e);
        let temporary = write_temporary(dir, bytes).map_err(fail)?;
        // Held while a name is taken, so that writers of this process number in order. The slow part, writing, is over.
        let mut next = self.next.lock();
        let key = (folder, target.stem.clone());
        let before = dir.dir_metadata().and_then(|m| m.modified()).map(|t| t.into_std()).ok();
        let known = next.get(&key).filter(|(time, _)| Some(*time) == before).map(|(_, counter)| *counter);
        let mut counter = match known {
            Some(counter) => counter,
            None => highest(dir, &target.stem).map_err(fail)? + 1,
        }
        .max(target.first);
        let name = loop {
            let name = target.numbered(counter);
            announce(&name);
            match publish(dir, &temporary.name, &name) {
                Ok(()) => break name,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => counter += 1,
                Err(error) => return Err(fail(error)),
            }
        };
        drop(temporary);
        sync_folder(dir).map_err(fail)?;
        if next.len() >= MAX_REMEMBERED {
            next.clear();
        }
        if let Ok(time) = dir.dir_metadata().and_then(|m| m.modified()) {
            next.insert(key, (time.into_std(), counter + 1));
        }
        Ok(name)
    }
}

/// The highest counter that a folder has under a stem, 0 if none. Any extension counts, as in the original.
fn highest(dir: &Dir, stem: &str) -> io::Result<u64> {
    let mut highest = 0;
    for entry in dir.entries()? {
        let name = entry?.file_name();
        let counter = name
            .to_str()
            .and_then(|name| name.strip_prefix(stem)?.strip_prefix('_')?.split('_').next())
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse::<u64>().ok());
        highest = highest.max(counter.unwrap_or(0));
    }
    // A file may bear any number; one near the end of the range must not make the next one overflow.
    Ok(highest.min(u64::MAX >> 1))
}

/// A temporary file that goes when this is dropped, published or not.
pub(crate) struct Temporary {
    dir: Dir,
    /// Its name in the folder.
    pub(crate) name: String,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already when it was renamed; a leftover is removed at the next start.
        let _ = self.dir.remove_file(&self.name);
    }
}

/// Makes an empty file under a temporary name.
pub(crate) fn create_temporary(dir: &Dir) -> io::Result<(Temporary, std::fs::File)> {
    let name = format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple());
    let file = dir.open_with(&name, OpenOptions::new().write(true).create_new(true))?.into_std();
    Ok((Temporary { dir: dir.try_clone()?, name }, file))
}

fn write_temporary(dir: &Dir, bytes: &[u8]) -> io::Result<Temporary> {
    let (temporary, mut file) = create_temporary(dir)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(temporary)
}

/// Gives a temporary file its name unless that is taken (`AlreadyExists`).
pub(crate) fn publish(dir: &Dir, temporary: &str, name: &str) -> io::Result<()> {
    match dir.hard_link(temporary, dir, name) {
        Ok(()) => dir.remove_file(temporary),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => {
            // No hard links here (exFAT, some network shares): reserve the name, then replace the reservation.
            dir.open_with(name, OpenOptions::new().write(true).create_new(true))?;
            dir.rename(temporary, dir, name)
        }
    }
}

/// Makes a rename survive a power cut. Not every system lets a folder be flushed; then there is nothing to do.
pub(crate) fn sync_folder(dir: &Dir) -> io::Result<()> {
    #[cfg(unix)]
    dir.open(".")?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}
