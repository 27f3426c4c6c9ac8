//! The base directory, and which folder is which.

use std::path::{Path, PathBuf};

/// A folder that clients name by `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FolderKind {
    /// Uploads.
    Input,
    /// Results.
    Output,
    /// Previews; emptied at start and stop.
    Temp,
}

impl FolderKind {
    /// Each kind.
    pub const ALL: [FolderKind; 3] = [FolderKind::Input, FolderKind::Output, FolderKind::Temp];

    /// The kind that a client named.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            FolderKind::Input => "input",
            FolderKind::Output => "output",
            FolderKind::Temp => "temp",
        }
    }
}

/// Where folders are, as options say. `None` means: in the base directory.
#[derive(Debug, Clone, Default)]
pub struct FolderSettings {
    /// The base directory.
    pub base: PathBuf,
    /// `--input-directory`.
    pub input: Option<PathBuf>,
    /// `--output-directory`.
    pub output: Option<PathBuf>,
    /// `--temp-directory`: the temp folder is `temp` *in* it, because it is emptied.
    pub temp: Option<PathBuf>,
    /// `--user-directory`.
    pub user: Option<PathBuf>,
    /// `--models-directory`.
    pub models: Option<PathBuf>,
    /// `--extra-model-paths-config`; the base directory's own `extra_model_paths.yaml` is read too.
    pub extra_model_paths: Vec<PathBuf>,
    /// `--follow-symlinks`: links in any folder may lead anywhere.
    pub follow_symlinks: bool,
}

/// The folders of one server, as absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The base directory.
    pub base: PathBuf,
    /// Uploads.
    pub input: PathBuf,
    /// Results.
    pub output: PathBuf,
    /// Previews.
    pub temp: PathBuf,
    /// Settings and workflows, one folder a user.
    pub user: PathBuf,
    /// Model folders are in it.
    pub models: PathBuf,
    /// Node packs are in it.
    pub custom_nodes: PathBuf,
}

impl Layout {
    /// The folders that settings describe. Nothing is made yet.
    pub fn new(settings: &FolderSettings) -> Self {
        let base = absolute(&settings.base);
        let pick = |given: &Option<PathBuf>, name: &str| match given {
            Some(path) => absolute(path),
            None => base.join(name),
        };
        Self {
            input: pick(&settings.input, "input"),
            output: pick(&settings.output, "output"),
            temp: match &settings.temp {
                Some(path) => absolute(path).join("temp"),
                None => base.join("temp"),
            },
            user: pick(&settings.user, "user"),
            models: pick(&settings.models, "models"),
            custom_nodes: base.join("custom_nodes"),
            base,
        }
    }

    /// The folder of a kind.
    pub fn folder(&self, kind: FolderKind) -> &Path {
        match kind {
            FolderKind::Input => &self.input,
            FolderKind::Output => &self.output,
            FolderKind::Temp => &self.temp,
        }
    }
}

/// A path made absolute by the current directory; kept as it is where that cannot be asked.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_in_the_base_directory_unless_given() {
        let layout = Layout::new(&FolderSettings {
            base: "/srv/base".into(),
            output: Some("/data/pictures".into()),
            temp: Some("/tmp".into()),
            ..FolderSettings::default()
        });
        assert_eq!(layout.input, Path::new("/srv/base/input"));
        assert_eq!(layout.output, Path::new("/data/pictures"));
        assert_eq!(
            layout.temp,
            Path::new("/tmp/temp"),
            "a folder that is emptied is never the given one itself"
        );
    }
}
