//! Untrusted names.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::FolderError;

/// Longest single name that common file systems take, in bytes.
const MAX_COMPONENT: usize = 255;
/// Longest path that is looked at, in bytes.
const MAX_PATH: usize = 4096;

/// A relative path that names something beneath a folder and nothing else.
///
/// Components are joined by `/`; there is no `..`, no root, no drive, no empty component. The empty path is the
/// folder itself. The same names are refused on every system, so that a workflow made on one cannot reach a
/// device or a stream on another.
///
/// ```
/// use rushlight_store::folders::RelPath;
/// assert_eq!(RelPath::parse("sub//picture.png").unwrap().as_str(), "sub/picture.png");
/// assert!(RelPath::parse("../secret.txt").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RelPath(String);

impl RelPath {
    /// Checks a name that may hold `/`; empty and `.` components are dropped.
    ///
    /// # Errors
    /// [`FolderError::BadName`], saying what is wrong.
    pub fn parse(name: &str) -> Result<Self, FolderError> {
        let bad = |reason| Err(FolderError::BadName { name: shorten(name), reason });
        if name.len() > MAX_PATH {
            return bad("it is longer than 4096 bytes");
        }
        if name.chars().any(char::is_control) {
            return bad("it holds a control character");
        }
        if name.contains('\\') {
            return bad("it holds a backslash");
        }
        if name.starts_with('/') {
            return bad("it is absolute");
        }
        if name.contains(':') {
            return bad("it holds a colon");
        }
        // A name is decoded once on its way in; what is still encoded was encoded twice to get past a check.
        let lower = name.to_ascii_lowercase();
        if ["%2f", "%5c", "%00", "%2e"].iter().any(|code| lower.contains(code)) {
            return bad("it holds an encoded separator");
        }
        let mut path = String::with_capacity(name.len());
        for component in name.split('/') {
            if component.is_empty() || component == "." {
                continue;
            }
            if component.trim_end_matches([' ', '.']).is_empty() {
                return bad("it holds `..`");
            }
            if component.len() > MAX_COMPONENT {
                return bad("a component is longer than 255 bytes");
            }
            if is_device(component) {
                return bad("it is the name of a device");
            }
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(component);
        }
        Ok(Self(path))
    }

    /// Checks a name that must name a file: at least one component.
    ///
    /// # Errors
    /// As [`RelPath::parse`], and for an empty name.
    pub fn file(name: &str) -> Result<Self, FolderError> {
        let path = Self::parse(name)?;
        if path.is_empty() {
            return Err(FolderError::BadName { name: shorten(name), reason: "it is empty" });
        }
        Ok(path)
    }

    /// Whether it is the folder itself.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The path with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path for the system.
    pub fn to_path(&self) -> PathBuf {
        if self.0.is_empty() { PathBuf::from(".") } else { PathBuf::from(&self.0) }
    }

    /// Another path beneath this one.
    pub fn join(&self, other: &RelPath) -> RelPath {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other.clone(),
            (_, true) => self.clone(),
            _ => Self(format!("{}/{}", self.0, other.0)),
        }
    }

    /// The last component; empty for the folder itself.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }

    /// Everything before the last component.
    pub fn parent(&self) -> RelPath {
        Self(self.0.rsplit_once('/').map(|(parent, _)| parent.to_owned()).unwrap_or_default())
    }

    /// The last component split at its last dot: stem and extension with the dot (`.png`, or empty).
    pub fn stem_and_extension(&self) -> (&str, &str) {
        let name = self.file_name();
        match name.rfind('.') {
            Some(at) if at > 0 => name.split_at(at),
            _ => (name, ""),
        }
    }

    /// What a path found on disk is called relative to its folder, if it can be named at all.
    pub fn from_disk(relative: &Path) -> Option<Self> {
        let mut names = Vec::new();
        for component in relative.components() {
            names.push(component.as_os_str().to_str()?);
        }
        Self::parse(&names.join("/")).ok()
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names that Windows gives to devices, with any extension and in any case.
fn is_device(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or("").trim_end().to_ascii_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") {
        return true;
    }
    let mut chars = stem.chars();
    let numbered = stem.starts_with("COM") || stem.starts_with("LPT");
    let last = chars.next_back();
    numbered && stem.chars().count() == 4 && matches!(last, Some('0'..='9' | '¹' | '²' | '³'))
}

/// Names are echoed in errors; a long one is cut.
fn shorten(name: &str) -> String {
    const KEPT: usize = 200;
    if name.chars().count() <= KEPT {
        name.to_owned()
    } else {
        name.chars().take(KEPT).collect::<String>() + "…"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_leave_their_folder_are_refused() {
        for name in [
            "..",
            "../x",
            "a/../x",
            "a/..",
            "/etc/passwd",
            "//etc",
            "C:/x",
            "a:b",
            "a\\b",
            "\\\\host\\x",
            "x\0y",
            "..%2fx",
            "%2e%2e/x",
            "a%5Cb",
            "CON",
            "con.png",
            "sub/NUL.txt",
            "COM1",
            "lpt9.log",
            "aux .x",
            ".. ",
            "...",
            "a\nb",
            "\u{1b}[31m",
        ] {
            assert!(RelPath::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn ordinary_names_pass() {
        for (name, expected) in [
            ("a.png", "a.png"),
            ("sub/a.png", "sub/a.png"),
            ("./sub//a b (1).png", "sub/a b (1).png"),
            ("sub/", "sub"),
            ("", ""),
            ("картинка 🖼.webp", "картинка 🖼.webp"),
            (".hidden", ".hidden"),
            ("console.log", "console.log"),
            ("com10.txt", "com10.txt"),
            ("100%.png", "100%.png"),
        ] {
            assert_eq!(RelPath::parse(name).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn stems_split_at_the_last_dot() {
        let split = |name: &str| {
            let path = RelPath::parse(name).unwrap();
            let (stem, extension) = path.stem_and_extension();
            (stem.to_owned(), extension.to_owned())
        };
        assert_eq!(split("sub/a.tar.gz"), ("a.tar".into(), ".gz".into()));
        assert_eq!(split(".hidden"), (".hidden".into(), String::new()));
        assert_eq!(split("plain"), ("plain".into(), String::new()));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_stays_beneath(name in "\\PC{0,40}|[./a:%\\\\]{0,12}") {
            if let Ok(path) = RelPath::parse(&name) {
                for component in path.to_path().components() {
                    prop_assert!(matches!(component, std::path::Component::Normal(_) | std::path::Component::CurDir));
                }
                prop_assert_eq!(RelPath::parse(path.as_str()).unwrap(), path);
            }
        }
    }
}
