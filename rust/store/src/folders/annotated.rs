//! Names with a folder after them: `picture.png [output]`.

use super::error::FolderError;
use super::layout::FolderKind;
use super::name::RelPath;

/// A file name and the folder it says it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotated {
    /// The file.
    pub path: RelPath,
    /// The folder after the name, if there was one.
    pub folder: Option<FolderKind>,
}

impl Annotated {
    /// Reads a name that may end in ` [input]`, ` [output]` or ` [temp]`.
    ///
    /// # Errors
    /// [`FolderError::BadName`].
    pub fn parse(name: &str) -> Result<Self, FolderError> {
        let (name, folder) = split(name);
        Ok(Self { path: RelPath::file(name)?, folder })
    }
}

fn split(name: &str) -> (&str, Option<FolderKind>) {
    for (suffix, folder) in
        [("[output]", FolderKind::Output), ("[input]", FolderKind::Input), ("[temp]", FolderKind::Temp)]
    {
        if let Some(rest) = name.strip_suffix(suffix) {
            return (rest.trim_end(), Some(folder));
        }
    }
    (name, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_names_the_folder() {
        let parsed = Annotated::parse("sub/a.png [output]").unwrap();
        assert_eq!((parsed.path.as_str(), parsed.folder), ("sub/a.png", Some(FolderKind::Output)));
        let parsed = Annotated::parse("a [1].png").unwrap();
        assert_eq!((parsed.path.as_str(), parsed.folder), ("a [1].png", None));
    }

    #[test]
    fn an_annotation_does_not_hide_a_bad_name() {
        assert!(Annotated::parse("../a.png [temp]").is_err());
        assert!(Annotated::parse(" [input]").is_err());
    }
}
