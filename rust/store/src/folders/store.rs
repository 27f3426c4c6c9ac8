//! [`Folders`]: the whole.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};

use super::annotated::Annotated;
use super::error::FolderError;
use super::extra_paths;
use super::layout::{FolderKind, FolderSettings, Layout};
use super::media::{MediaKind, kind_of_name};
use super::models::ModelFolders;
use super::name::RelPath;
use super::root::{Root, Symlinks};
use super::save::{Counters, SaveName, Saved, TEMPORARY, Target, split_prefix};
use super::upload::{OnConflict, Upload};

/// Largest file that is read into memory whole, in bytes.
const MAX_READ: u64 = 2 << 30;
/// Fingerprints remembered; beyond it all are forgotten.
const MAX_FINGERPRINTS: usize = 4096;

/// What says that a file has not changed since it was fingerprinted.
type FileState = (u64, Option<SystemTime>);

/// Every folder of one server. Shared by all threads; every call may block on the disk.
pub struct Folders {
    layout: Layout,
    /// Folders that node packs moved while the server runs.
    moved: RwLock<HashMap<FolderKind, PathBuf>>,
    symlinks: Symlinks,
    models: ModelFolders,
    counters: Counters,
    fingerprints: Mutex<HashMap<(FolderKind, RelPath), (FileState, String)>>,
}

impl Folders {
    /// The folders that settings describe; makes those that are missing and removes what a crash left half written.
    ///
    /// # Errors
    /// A folder that cannot be made, or an `extra_model_paths.yaml` that cannot be read.
    pub fn open(settings: &FolderSettings) -> Result<Self, FolderError> {
        let layout = Layout::new(settings);
        for path in [&layout.input, &layout.output, &layout.temp, &layout.user] {
            std::fs::create_dir_all(path)
                .map_err(|e| FolderError::Io { name: path.to_string_lossy().into(), source: e })?;
        }
        let models = ModelFolders::new(&layout);
        let own = layout.base.join("extra_model_paths.yaml");
        let mut configs = settings.extra_model_paths.clone();
        if own.is_file() {
            configs.insert(0, own);
        }
        for config in &configs {
            models.extend(extra_paths::read(config)?);
        }
        let symlinks = if settings.follow_symlinks { Symlinks::Anywhere } else { Symlinks::Configured };
        let folders = Self {
            layout,
            moved: RwLock::default(),
            symlinks,
            models,
            counters: Counters::default(),
            fingerprints: Mutex::new(HashMap::new()),
        };
        for path in [&folders.layout.input, &folders.layout.output, &folders.layout.user] {
            remove_leftovers(&Root::new(path, Symlinks::Configured), 0, &RelPath::default());
        }
        Ok(folders)
    }

    /// Where each folder was put at the start.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Model folders.
    pub fn models(&self) -> &ModelFolders {
        &self.models
    }

    /// Where the folder of a kind is now.
    pub fn folder(&self, kind: FolderKind) -> PathBuf {
        let moved = self.moved.read().get(&kind).cloned();
        moved.unwrap_or_else(|| self.layout.folder(kind).to_owned())
    }

    /// Moves the folder of a kind (node packs do); what is in the old one stays there.
    pub fn set_folder(&self, kind: FolderKind, path: PathBuf) {
        self.moved.write().insert(kind, path);
        self.fingerprints.lock().clear();
    }

    /// The folder of a kind.
    pub fn root(&self, kind: FolderKind) -> Root {
        Root::new(self.folder(kind), self.symlinks)
    }

    /// Settings and workflows.
    pub fn user_root(&self) -> Root {
        Root::new(&self.layout.user, self.symlinks)
    }

    /// One user's folder in it, as a root of its own.
    pub fn user_folder(&self, user: &RelPath) -> Root {
        Root::new(self.layout.user.join(user.to_path()), self.symlinks)
    }

    /// The folders that links may lead into.
    pub fn configured(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = FolderKind::ALL.map(|kind| self.folder(kind)).into();
        paths.extend(self.models.all_paths());
        paths
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`FolderError::Escapes`], [`FolderError::NotFound`], [`FolderError::Io`].
    pub fn open_file(&self, kind: FolderKind, name: &RelPath) -> Result<File, FolderError> {
        self.root(kind).open_file(name, &self.configured())
    }

    /// Opens a file named as nodes do: `name`, `sub/name`, `name [output]`.
    ///
    /// # Errors
    /// As [`Folders::open_file`], and [`FolderError::BadName`].
    pub fn open_annotated(&self, name: &str) -> Result<File, FolderError> {
        let Annotated { path, folder } = Annotated::parse(name)?;
        self.open_file(folder.unwrap_or(FolderKind::Input), &path)
    }

    /// Reads a file named as nodes do.
    ///
    /// # Errors
    /// As [`Folders::open_annotated`], and [`FolderError::TooLarge`].
    pub fn read_annotated(&self, name: &str) -> Result<Vec<u8>, FolderError> {
        let fail = |e| FolderError::from_io(name, e);
        let file = self.open_annotated(name)?;
        let size = file.metadata().map_err(fail)?.len();
        if size > MAX_READ {
            return Err(FolderError::TooLarge { name: name.into(), size, limit: MAX_READ });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // The file may grow meanwhile; what is read stays bounded.
        file.take(MAX_READ).read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }

    /// A hash of a file's content, remembered until its size or time changes.
    ///
    /// # Errors
    /// As [`Folders::open_annotated`].
    pub fn fingerprint(&self, name: &str) -> Result<String, FolderError> {
        let fail = |e| FolderError::from_io(name, e);
        let Annotated { path, folder } = Annotated::parse(name)?;
        let kind = folder.unwrap_or(FolderKind::Input);
        let file = self.open_file(kind, &path)?;
        let metadata = file.metadata().map_err(fail)?;
        let modified = metadata.modified().ok();
        // A file written a moment ago may be written again within the same tick of its file system's clock.
        let settled = modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age.as_secs() >= 2);
        let state: FileState = (metadata.len(), modified);
        let key = (kind, path);
        if settled
            && let Some((known, hash)) = self.fingerprints.lock().get(&key)
            && *known == state
        {
            return Ok(hash.clone());
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).map_err(fail)?;
        let hash = hasher.finalize().to_hex().to_string();
        if settled {
            let mut remembered = self.fingerprints.lock();
            if remembered.len() >= MAX_FINGERPRINTS {
                remembered.clear();
            }
            remembered.insert(key, (state, hash.clone()));
        }
        Ok(hash)
    }

    /// Names of the files directly in a folder, sorted; temporary names left out.
    pub fn names(&self, kind: FolderKind) -> Vec<String> {
        let mut names: Vec<String> = self.entries(kind).into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names
    }

    /// Names of the files directly in a folder, newest first.
    pub fn newest(&self, kind: FolderKind) -> Vec<String> {
        let mut entries = self.entries(kind);
        entries.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        entries.into_iter().map(|(name, _)| name).collect()
    }

    fn entries(&self, kind: FolderKind) -> Vec<(String, Option<SystemTime>)> {
        let root = self.root(kind);
        let Ok(entries) =
            root.dir().and_then(|dir| dir.entries().map_err(|e| FolderError::from_io(kind.as_str(), e)))
        else {
            return Vec::new();
        };
        let configured = self.configured();
        let mut out = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(path) = name.to_str().and_then(|name| RelPath::file(name).ok()) else { continue };
            if path.as_str().starts_with(TEMPORARY) {
                continue;
            }
            let Ok(metadata) = root.metadata(&path, &configured) else { continue };
            if metadata.is_file() {
                let time = metadata.modified().ok().map(|time| time.into_std());
                out.push((path.to_string(), time));
            }
        }
        out
    }

    /// Names of the media directly in the input folder, of some kinds, sorted.
    pub fn input_media(&self, kinds: &[&str]) -> Vec<String> {
        let wanted = |name: &String| {
            let kind = kind_of_name(name).map(MediaKind::as_str);
            kinds.iter().any(|wanted| match wanted.starts_with('.') {
                true => name.ends_with(wanted),
                false => kind == Some(*wanted),
            })
        };
        self.names(FolderKind::Input).into_iter().filter(wanted).collect()
    }

    /// Checks a file name prefix without writing anything.
    ///
    /// # Errors
    /// [`FolderError::BadName`] when it leaves its folder.
    pub fn check_prefix(&self, prefix: &str) -> Result<(), FolderError> {
        split_prefix(prefix_without_fields(prefix).as_str()).map(drop)
    }

    /// Writes a file under the next free counter of its name.
    ///
    /// # Errors
    /// [`FolderError::BadName`], [`FolderError::Escapes`], [`FolderError::Io`].
    pub fn save(&self, kind: FolderKind, name: &SaveName<'_>, bytes: &[u8]) -> Result<Saved, FolderError> {
        self.save_as(kind, name, bytes, &mut |_| {})
    }

    /// As [`Folders::save`]; `announce` gets each name that the file is about to be given, the last being the one it has.
    pub(crate) fn save_as(
        &self,
        kind: FolderKind,
        name: &SaveName<'_>,
        bytes: &[u8],
        announce: &mut dyn FnMut(&str),
    ) -> Result<Saved, FolderError> {
        let target = Target::new(name)?;
        let root = self.root(kind);
        let dir = root.make_folder(&target.subfolder, &self.configured())?;
        let folder = root.path().join(target.subfolder.as_str());
        let filename = self.counters.save(&dir, folder, &target, bytes, announce)?;
        Ok(Saved { filename, subfolder: target.subfolder.to_string() })
    }

    /// Begins to take a file in, whose name and folder may come later. `root` is where it most likely goes.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn receive(&self, root: &Root) -> Result<Upload, FolderError> {
        Upload::begin(root.make_folder(&RelPath::default(), &self.configured())?)
    }

    /// Gives a file that was taken in its name beneath a folder.
    ///
    /// # Errors
    /// As [`Folders::save`], and [`FolderError::Exists`].
    pub fn place(
        &self,
        upload: Upload,
        root: &Root,
        name: &RelPath,
        on_conflict: OnConflict,
    ) -> Result<Saved, FolderError> {
        upload.place(root.make_folder(&name.parent(), &self.configured())?, name, on_conflict)
    }

    /// Empties the temp folder of the start; one that a pack chose may hold other things. Links in it are removed, never
    /// what they lead to.
    pub fn clear_temp(&self) {
        let Ok(dir) = Root::new(&self.layout.temp, self.symlinks).dir() else { return };
        let Ok(entries) = dir.entries() else { return };
        for entry in entries.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let name = entry.file_name();
            let removed = if is_folder { dir.remove_dir_all(&name) } else { dir.remove_file(&name) };
            if let Err(error) = removed {
                tracing::warn!(name = ?name, %error, "could not remove a temporary file");
            }
        }
    }
}

/// Fields become a harmless letter, so that a check does not depend on the moment or on a picture's size.
fn prefix_without_fields(prefix: &str) -> String {
    let now = chrono::Local::now();
    super::prefix::PrefixFields { width: 1, height: 1, batch_index: 0, now }.fill(prefix)
}

/// Removes temporary files of writers that a crash ended, some folders deep.
fn remove_leftovers(root: &Root, depth: usize, folder: &RelPath) {
    const MAX_DEPTH: usize = 4;
    let Ok(dir) = root.open_folder(folder, &[]) else { return };
    let Ok(entries) = dir.entries() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        match entry.file_type() {
            Ok(kind) if kind.is_file() && name.starts_with(TEMPORARY) => {
                let _ = dir.remove_file(name);
            }
            Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => {
                if let Ok(name) = RelPath::file(name) {
                    remove_leftovers(root, depth + 1, &folder.join(&name));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::prefix::PrefixFields;
    use super::*;

    fn folders(base: &std::path::Path) -> Folders {
        Folders::open(&FolderSettings { base: base.into(), ..FolderSettings::default() }).unwrap()
    }

    #[test]
    fn a_folder_that_is_moved_is_used_and_never_emptied() {
        let base = tempfile::tempdir().unwrap();
        let elsewhere = base.path().join("elsewhere");
        let folders = folders(base.path());
        folders.set_folder(FolderKind::Output, elsewhere.clone());
        let saved = folders.save(FolderKind::Output, &name("a"), b"x").unwrap();
        assert!(elsewhere.join(&saved.filename).is_file());
        assert_eq!(folders.names(FolderKind::Output), [saved.filename]);
        folders.set_folder(FolderKind::Temp, elsewhere.clone());
        folders.clear_temp();
        assert_eq!(folders.names(FolderKind::Temp).len(), 1);
    }

    fn name(prefix: &str) -> SaveName<'_> {
        let fields = PrefixFields { width: 8, height: 9, batch_index: 0, now: chrono::Local::now() };
        SaveName { prefix, suffix: "", extension: "png", fields }
    }

    #[test]
    fn the_counter_goes_on_from_the_highest_in_the_folder() {
        let base = tempfile::tempdir().unwrap();
        let output = base.path().join("output");
        let folders = folders(base.path());
        let save = |prefix| folders.save(FolderKind::Output, &name(prefix), b"x").unwrap();
        assert_eq!(save("a").filename, "a_00001_.png");
        assert_eq!(save("a").filename, "a_00002_.png");
        std::fs::write(output.join("a_00041_.webp"), "").unwrap();
        std::fs::write(output.join("a_x_.png"), "").unwrap();
        assert_eq!(save("a").filename, "a_00042_.png");
        std::fs::write(output.join("a_99999_.png"), "").unwrap();
        assert_eq!(save("a").filename, "a_100000_.png");
        let saved = save("deep/er/%width%x%height%");
        assert_eq!((saved.filename.as_str(), saved.subfolder.as_str()), ("8x9_00001_.png", "deep/er"));
        assert_eq!(save("sub/").filename, "_00001_.png");
        assert_eq!(save("win\\dows").subfolder, "win");
        assert_eq!(std::fs::read(output.join("deep/er/8x9_00001_.png")).unwrap(), b"x");
        let left = std::fs::read_dir(output).unwrap().flatten();
        assert!(!left.into_iter().any(|e| e.file_name().to_string_lossy().starts_with(TEMPORARY)));
    }

    #[test]
    fn pictures_of_a_batch_are_numbered_by_their_place() {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        let save = |batch_index| {
            let mut name = name("a%batch_num%");
            name.fields.batch_index = batch_index;
            folders.save(FolderKind::Output, &name, b"x").unwrap().filename
        };
        assert_eq!([save(0), save(1), save(0)], ["a0_00001_.png", "a1_00002_.png", "a0_00002_.png"]);
    }

    #[test]
    fn prefixes_that_leave_the_folder_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        for prefix in ["../x", "/x", "a/../../x", "..\\x", "C:\\x", "\\\\host\\share\\x", "a\0", "nul"] {
            assert!(matches!(folders.check_prefix(prefix), Err(FolderError::BadName { .. })), "{prefix:?}");
            let saved = folders.save(FolderKind::Output, &name(prefix), b"");
            assert!(matches!(saved, Err(FolderError::BadName { .. })), "{prefix:?}");
        }
        for prefix in ["x", "a/b/x", "%date:yyyy-MM-dd hh:mm%/x", "%year%", ""] {
            folders.check_prefix(prefix).unwrap();
        }
        assert_eq!(std::fs::read_dir(base.path().join("output")).unwrap().count(), 0);
    }

    #[test]
    fn concurrent_saves_never_share_a_name() {
        let base = tempfile::tempdir().unwrap();
        // Two instances stand for two processes: they share nothing but the disk.
        let instances = [folders(base.path()), folders(base.path())];
        let names = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..8_usize {
                let (instances, names) = (&instances, &names);
                scope.spawn(move || {
                    for _ in 0..10 {
                        let bytes = thread.to_string();
                        let folders = &instances[thread % 2];
                        let saved = folders.save(FolderKind::Output, &name("a"), bytes.as_bytes()).unwrap();
                        names.lock().push((saved.filename, bytes));
                    }
                });
            }
        });
        let names = names.into_inner();
        assert_eq!(names.iter().map(|(name, _)| name).collect::<HashSet<_>>().len(), 80);
        for (name, bytes) in names {
            let path = base.path().join("output").join(name);
            assert_eq!(std::fs::read_to_string(path).unwrap(), bytes);
        }
    }

    #[test]
    fn uploads_of_the_same_content_keep_the_old_name() {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        let upload = |content: &str, overwrite| {
            let root = folders.root(FolderKind::Input);
            let mut upload = folders.receive(&root).unwrap();
            upload.write(content.as_bytes()).unwrap();
            let on_conflict = if overwrite { OnConflict::Replace } else { OnConflict::Rename };
            folders.place(upload, &root, &RelPath::parse("s/a.png").unwrap(), on_conflict).unwrap().filename
        };
        assert_eq!(upload("one", false), "a.png");
        assert_eq!(upload("one", false), "a.png");
        assert_eq!(upload("two", false), "a (1).png");
        assert_eq!(upload("two", false), "a (1).png");
        assert_eq!(upload("three", false), "a (2).png");
        assert_eq!(upload("four", true), "a.png");
        assert_eq!(folders.read_annotated("s/a.png").unwrap(), b"four");
        assert_eq!(std::fs::read_dir(base.path().join("input/s")).unwrap().count(), 3);
    }

    #[test]
    fn an_abandoned_upload_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        let mut upload = folders.receive(&folders.root(FolderKind::Input)).unwrap();
        upload.write(b"half").unwrap();
        drop(upload);
        assert_eq!(std::fs::read_dir(base.path().join("input")).unwrap().count(), 0);
    }

    #[test]
    fn leftovers_of_a_crash_go_at_the_next_start() {
        let base = tempfile::tempdir().unwrap();
        drop(folders(base.path()));
        std::fs::create_dir(base.path().join("output/sub")).unwrap();
        let leftover = base.path().join(format!("output/sub/{TEMPORARY}x"));
        std::fs::write(&leftover, "half").unwrap();
        std::fs::write(base.path().join("output/sub/kept.png"), "").unwrap();
        folders(base.path());
        assert!(!leftover.exists() && base.path().join("output/sub/kept.png").exists());
    }

    #[test]
    fn fingerprints_follow_content() {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        let path = base.path().join("output/a.png");
        let old = SystemTime::now() - std::time::Duration::from_secs(60);
        let write = |content: &str, time: SystemTime| {
            std::fs::write(&path, content).unwrap();
            File::open(&path).unwrap().set_modified(time).unwrap();
            folders.fingerprint("a.png [output]").unwrap()
        };
        let first = write("one", old);
        assert_eq!(first, folders.fingerprint("a.png [output]").unwrap());
        assert_ne!(first, write("two", old - std::time::Duration::from_secs(1)));
        let now = SystemTime::now();
        assert_ne!(write("six", now), write("ten", now), "a young file is hashed each time");
    }

    #[cfg(unix)]
    #[test]
    fn emptying_temp_removes_links_and_not_their_targets() {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        std::fs::create_dir_all(base.path().join("kept")).unwrap();
        std::fs::write(base.path().join("kept/a"), "").unwrap();
        std::fs::create_dir_all(base.path().join("temp/sub")).unwrap();
        std::fs::write(base.path().join("temp/sub/b"), "").unwrap();
        std::os::unix::fs::symlink(base.path().join("kept"), base.path().join("temp/link")).unwrap();
        std::os::unix::fs::symlink(base.path().join("kept"), base.path().join("temp/sub/link")).unwrap();
        folders.clear_temp();
        assert_eq!(std::fs::read_dir(base.path().join("temp")).unwrap().count(), 0);
        assert!(base.path().join("kept/a").exists());
    }
}
