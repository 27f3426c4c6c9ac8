//! One folder and the opening of files beneath it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::error::FolderError;
use super::name::RelPath;

/// Where symbolic links beneath a folder may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symlinks {
    /// To places in the same folder, or in another configured one.
    Configured,
    /// Anywhere. For model folders, in which nothing but their owner writes, and with `--follow-symlinks`.
    Anywhere,
}

/// A folder that names are resolved beneath. The folder itself may be a symbolic link: its owner chose it.
#[derive(Debug, Clone)]
pub struct Root {
    path: PathBuf,
    symlinks: Symlinks,
}

impl Root {
    /// A folder; it need not exist yet.
    pub fn new(path: impl Into<PathBuf>, symlinks: Symlinks) -> Self {
        Self { path: path.into(), symlinks }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the folder.
    ///
    /// # Errors
    /// [`FolderError::NotFound`] when it does not exist.
    pub fn dir(&self) -> Result<Dir, FolderError> {
        open_dir(&self.path)
    }

    /// Opens a regular file beneath it for reading. `others` are the folders that links may lead into.
    ///
    /// # Errors
    /// [`FolderError::Escapes`] for a link that leads out; [`FolderError::NotFound`] for what is no regular file.
    pub fn open_file(&self, name: &RelPath, others: &[PathBuf]) -> Result<File, FolderError> {
        self.beneath(name, others, |dir, path| {
            // Asked before opening: opening a named pipe would wait for its writer.
            if !dir.metadata(path)?.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(dir.open(path)?.into_std())
        })
    }

    /// What is known of a file or folder beneath it.
    ///
    /// # Errors
    /// As [`Root::open_file`].
    pub fn metadata(&self, name: &RelPath, others: &[PathBuf]) -> Result<cap_std::fs::Metadata, FolderError> {
        self.beneath(name, others, |dir, path| dir.metadata(path))
    }

    /// Opens a folder beneath it.
    ///
    /// # Errors
    /// As [`Root::open_file`].
    pub fn open_folder(&self, name: &RelPath, others: &[PathBuf]) -> Result<Dir, FolderError> {
        if name.is_empty() {
            return self.dir();
        }
        self.beneath(name, others, |dir, path| dir.open_dir(path))
    }

    /// Opens a folder beneath it, making it first where it is missing.
    ///
    /// # Errors
    /// As [`Root::open_file`], and when a folder cannot be made.
    pub fn make_folder(&self, name: &RelPath, others: &[PathBuf]) -> Result<Dir, FolderError> {
        std::fs::create_dir_all(&self.path).map_err(|e| FolderError::from_io(name.as_str(), e))?;
        if name.is_empty() {
            return self.dir();
        }
        self.beneath(name, others, |dir, path| match dir.open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                dir.create_dir_all(path)?;
                dir.open_dir(path)
            }
            opened => opened,
        })
    }

    /// Removes a file beneath it. A link is removed, not what it leads to.
    ///
    /// # Errors
    /// As [`Root::open_file`].
    pub fn remove_file(&self, name: &RelPath, others: &[PathBuf]) -> Result<(), FolderError> {
        let dir = self.open_folder(&name.parent(), others)?;
        let is_folder = dir.symlink_metadata(name.file_name()).is_ok_and(|metadata| metadata.is_dir());
        if is_folder {
            return Err(FolderError::NotFound { name: name.to_string() });
        }
        dir.remove_file(name.file_name()).map_err(|e| FolderError::from_io(name.as_str(), e))
    }

    /// Renames a file beneath it, making the folder that it goes to.
    ///
    /// # Errors
    /// As [`Root::open_file`], and [`FolderError::Exists`] when the new name is taken and may not be replaced.
    pub fn rename_file(
        &self,
        from: &RelPath,
        to: &RelPath,
        replace: bool,
        others: &[PathBuf],
    ) -> Result<(), FolderError> {
        if !self.metadata(from, others)?.is_file() {
            return Err(FolderError::NotFound { name: from.to_string() });
        }
        let source = self.open_folder(&from.parent(), others)?;
        let target = self.make_folder(&to.parent(), others)?;
        let fail = |e| FolderError::from_io(to.as_str(), e);
        if replace {
            return source.rename(from.file_name(), &target, to.file_name()).map_err(fail);
        }
        // A link fails when the name is taken; asking first and renaming then would not.
        source.hard_link(from.file_name(), &target, to.file_name()).map_err(fail)?;
        source.remove_file(from.file_name()).map_err(|e| FolderError::from_io(from.as_str(), e))
    }

    /// The real path of a file beneath it, for readers that need a path (memory maps).
    ///
    /// # Errors
    /// As [`Root::open_file`].
    pub fn resolve(&self, name: &RelPath, others: &[PathBuf]) -> Result<PathBuf, FolderError> {
        self.open_file(name, others)?;
        let path = self.path.join(name.to_path());
        path.canonicalize().map_err(|e| FolderError::from_io(name.as_str(), e))
    }

    /// Runs `act` on the folder and a path beneath it. When a link leads out, the same is tried beneath the
    /// configured folder that it leads into; the operation itself never follows a link out of the folder that it is
    /// given, so a link that changes meanwhile gains nothing.
    fn beneath<T>(
        &self,
        name: &RelPath,
        others: &[PathBuf],
        act: impl Fn(&Dir, &Path) -> io::Result<T>,
    ) -> Result<T, FolderError> {
        let path = name.to_path();
        let error = match act(&self.dir()?, &path) {
            Ok(value) => return Ok(value),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => error,
            Err(error) => return Err(FolderError::from_io(name.as_str(), error)),
        };
        let Ok(target) = self.path.join(&path).canonicalize() else {
            return Err(FolderError::Escapes { name: name.to_string() });
        };
        if self.path.canonicalize().is_ok_and(|own| target.starts_with(own)) {
            // It does not lead out: the system itself refused.
            return Err(FolderError::from_io(name.as_str(), error));
        }
        if let Some((folder, rest)) = self.configured(&target, others) {
            let rest = if rest.as_os_str().is_empty() { PathBuf::from(".") } else { rest };
            return act(&open_dir(&folder)?, &rest).map_err(|e| FolderError::from_io(name.as_str(), e));
        }
        Err(FolderError::Escapes { name: name.to_string() })
    }

    /// The folder that a link's target may be opened beneath, and the target relative to it.
    fn configured(&self, target: &Path, others: &[PathBuf]) -> Option<(PathBuf, PathBuf)> {
        if self.symlinks == Symlinks::Anywhere {
            let parent = target.parent()?;
            return Some((parent.into(), target.file_name()?.into()));
        }
        others.iter().find_map(|other| {
            let folder = other.canonicalize().ok()?;
            let rest = target.strip_prefix(&folder).ok()?.to_owned();
            Some((folder, rest))
        })
    }
}

fn open_dir(path: &Path) -> Result<Dir, FolderError> {
    Dir::open_ambient_dir(path, ambient_authority()).map_err(|e| {
        // Clients are told of the error, and where folders are is none of their business.
        let name = path.file_name().unwrap_or(path.as_os_str());
        FolderError::from_io(&name.to_string_lossy(), e)
    })
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(root: &Root, name: &str, others: &[PathBuf]) -> Result<String, FolderError> {
        let mut text = String::new();
        root.open_file(&RelPath::parse(name).unwrap(), others)?.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn links_inside_are_followed_and_links_out_are_not() {
        let base = tempfile::tempdir().unwrap();
        let (inside, outside) = (base.path().join("in"), base.path().join("out"));
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(inside.join("a.txt"), "a").unwrap();
        std::fs::write(outside.join("secret.txt"), "secret").unwrap();
        symlink("../a.txt", inside.join("sub/link.txt")).unwrap();
        symlink(outside.join("secret.txt"), inside.join("leak.txt")).unwrap();
        symlink(&outside, inside.join("folder")).unwrap();

        let root = Root::new(&inside, Symlinks::Configured);
        assert_eq!(read(&root, "sub/link.txt", &[]).unwrap(), "a");
        for name in ["leak.txt", "folder/secret.txt"] {
            assert!(matches!(read(&root, name, &[]), Err(FolderError::Escapes { .. })), "{name}");
            assert_eq!(read(&root, name, std::slice::from_ref(&outside)).unwrap(), "secret");
            assert_eq!(read(&Root::new(&inside, Symlinks::Anywhere), name, &[]).unwrap(), "secret");
        }
        let folder = RelPath::parse("folder/new").unwrap();
        assert!(matches!(root.make_folder(&folder, &[]), Err(FolderError::Escapes { .. })));
        assert!(!outside.join("new").exists());
    }

    #[test]
    fn a_folder_or_a_missing_file_is_not_found() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("sub")).unwrap();
        let root = Root::new(base.path(), Symlinks::Configured);
        for name in ["sub", "missing", "sub/missing"] {
            assert!(matches!(read(&root, name, &[]), Err(FolderError::NotFound { .. })), "{name}");
        }
    }
}
