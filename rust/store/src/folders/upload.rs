//! Writing what a client sends, in constant memory.

use std::fs::File;
use std::io::{self, Read, Write};

use cap_std::fs::Dir;

use super::error::FolderError;
use super::name::RelPath;
use super::save::{Saved, Temporary, create_temporary, publish, sync_folder};

/// Bytes hashed at once when an old file is compared.
const CHUNK: usize = 64 << 10;

/// A file on its way in. Dropped before [`Upload::finish`] it leaves nothing behind.
pub struct Upload {
    dir: Dir,
    temporary: Temporary,
    file: File,
    hash: blake3::Hasher,
    size: u64,
    name: RelPath,
}

impl Upload {
    /// Begins; `dir` is the folder that `name`'s last component goes to.
    pub(crate) fn begin(dir: Dir, name: RelPath) -> Result<Self, FolderError> {
        let (temporary, file) = create_temporary(&dir).map_err(|e| FolderError::from_io(name.as_str(), e))?;
        Ok(Self { dir, temporary, file, hash: blake3::Hasher::new(), size: 0, name })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`FolderError::Io`], for instance when the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FolderError> {
        self.file.write_all(bytes).map_err(|e| FolderError::from_io(self.name.as_str(), e))?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Ends. With `overwrite` it replaces a file of its name; else a file of its name with the same content stands
    /// for it, and with other content it becomes `stem (1).ext`, `stem (2).ext`, ….
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn finish(self, overwrite: bool) -> Result<Saved, FolderError> {
        let name = self.name.clone();
        self.place(overwrite).map_err(|e| FolderError::from_io(name.as_str(), e))
    }

    /// Ends, refusing when a file of its name is there and may not be replaced.
    ///
    /// # Errors
    /// [`FolderError::Exists`], [`FolderError::Io`].
    pub fn finish_exact(self, overwrite: bool) -> Result<Saved, FolderError> {
        let name = self.name.clone();
        let act = || {
            self.file.sync_all()?;
            let filename = self.name.file_name().to_owned();
            if overwrite {
                self.dir.rename(&self.temporary.name, &self.dir, &filename)?;
            } else {
                publish(&self.dir, &self.temporary.name, &filename)?;
            }
            sync_folder(&self.dir)?;
            Ok(Saved { filename, subfolder: self.name.parent().to_string() })
        };
        act().map_err(|e| FolderError::from_io(name.as_str(), e))
    }

    fn place(self, overwrite: bool) -> io::Result<Saved> {
        self.file.sync_all()?;
        let subfolder = self.name.parent().to_string();
        let first = self.name.file_name().to_owned();
        if overwrite {
            self.dir.rename(&self.temporary.name, &self.dir, &first)?;
            sync_folder(&self.dir)?;
            return Ok(Saved { filename: first, subfolder });
        }
        let (stem, extension) = self.name.stem_and_extension();
        let hash = self.hash.finalize();
        let mut filename = first.clone();
        for count in 1_u64.. {
            match publish(&self.dir, &self.temporary.name, &filename) {
                Ok(()) => {
                    sync_folder(&self.dir)?;
                    break;
                }
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) if self.is_same(&filename, &hash)? => break,
                Err(_) => filename = format!("{stem} ({count}){extension}"),
            }
        }
        Ok(Saved { filename, subfolder })
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
