//! Writing what a client sends, in constant memory.

use std::fs::File;
use std::io::{self, Read, Write};

use cap_std::fs::Dir;

use super::error::FolderError;
use super::name::RelPath;
use super::save::{Saved, Temporary, create_temporary, publish, sync_folder};

/// Bytes hashed at once when an old file is compared.
const CHUNK: usize = 64 << 10;

/// A file on its way in, under a temporary name. Dropped before it is placed it leaves nothing behind.
pub struct Upload {
    dir: Dir,
    temporary: Temporary,
    file: File,
    hash: blake3::Hasher,
    size: u64,
}

/// What happens when a file of the name is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// It is replaced.
    Replace,
    /// [`FolderError::Exists`].
    Refuse,
    /// With the same content it stands for the new one; with other content the new one becomes `stem (1).ext`, ….
    Rename,
}

impl Upload {
    /// Begins, in a folder of the file system that the file is to end up in.
    pub(crate) fn begin(dir: Dir) -> Result<Self, FolderError> {
        let (temporary, file) = create_temporary(&dir).map_err(|e| FolderError::from_io("upload", e))?;
        Ok(Self { dir, temporary, file, hash: blake3::Hasher::new(), size: 0 })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`FolderError::Io`], for instance when the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FolderError> {
        self.file.write_all(bytes).map_err(|e| FolderError::from_io("upload", e))?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes it has taken.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Opens what has been taken so far for reading, from the start.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn reopen(&self) -> Result<File, FolderError> {
        let opened = self.dir.open(&self.temporary.name).map_err(|e| FolderError::from_io("upload", e))?;
        Ok(opened.into_std())
    }

    /// Gives the file its name (`name`'s last component) in `dir`.
    pub(crate) fn place(
        mut self,
        dir: Dir,
        name: &RelPath,
        on_conflict: OnConflict,
    ) -> Result<Saved, FolderError> {
        let act = || {
            self.file.sync_all()?;
            self.move_to(dir)?;
            let filename = match on_conflict {
                OnConflict::Rename => self.publish_renamed(name)?,
                OnConflict::Refuse => {
                    publish(&self.dir, &self.temporary.name, name.file_name())?;
                    name.file_name().to_owned()
                }
                OnConflict::Replace => {
                    self.dir.rename(&self.temporary.name, &self.dir, name.file_name())?;
                    name.file_name().to_owned()
                }
            };
            sync_folder(&self.dir)?;
            Ok(Saved { filename, subfolder: name.parent().to_string() })
        };
        act().map_err(|e| FolderError::from_io(name.as_str(), e))
    }

    /// Moves the temporary file into another folder; copies it where that is another file system.
    fn move_to(&mut self, dir: Dir) -> io::Result<()> {
        let (temporary, mut file) = create_temporary(&dir)?;
        if self.dir.rename(&self.temporary.name, &dir, &temporary.name).is_err() {
            io::copy(&mut self.dir.open(&self.temporary.name)?, &mut file)?;
            file.sync_all()?;
        }
        self.temporary = temporary;
        self.dir = dir;
        Ok(())
    }

    fn publish_renamed(&self, name: &RelPath) -> io::Result<String> {
        let (stem, extension) = name.stem_and_extension();
        let hash = self.hash.finalize();
        let mut filename = name.file_name().to_owned();
        let mut count = 0_u64;
        loop {
            match publish(&self.dir, &self.temporary.name, &filename) {
                Ok(()) => return Ok(filename),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) if self.is_same(&filename, &hash)? => return Ok(filename),
                Err(_) => count += 1,
            }
            filename = format!("{stem} ({count}){extension}");
        }
    }

    /// Whether a file of the folder has this upload's content.
    fn is_same(&self, name: &str, hash: &blake3::Hash) -> io::Result<bool> {
        // A link, a folder or a file that went away meanwhile is not the same, so another name is taken.
        let Ok(metadata) = self.dir.symlink_metadata(name) else { return Ok(false) };
        if !metadata.is_file() || metadata.len() != self.size {
            return Ok(false);
        }
        let mut file = self.dir.open(name)?;
        let mut hasher = blake3::Hasher::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                return Ok(hasher.finalize() == *hash);
            }
            hasher.update(chunk.get(..read).unwrap_or_default());
        }
    }
}
