//! Where the frontend's files are.

use std::path::{Path, PathBuf};

/// Folders of the frontend and of what goes with it; each is `None` where it is not installed.
#[derive(Debug, Clone, Default)]
pub struct Frontend {
    /// The frontend itself: has an `index.html`.
    pub root: Option<PathBuf>,
    /// Workflow templates, served under `/templates/`.
    pub templates: Option<PathBuf>,
    /// Node documentation, served under `/docs/`.
    pub docs: Option<PathBuf>,
    /// The installed frontend's version.
    pub version: Option<String>,
    /// The installed templates' version.
    pub templates_version: Option<String>,
}

impl Frontend {
    /// The folder that was given, or the Python packages that are installed.
    pub fn find(given: Option<PathBuf>) -> Self {
        let sites = site_packages();
        let package = |name: &str, folder: &str| {
            sites.iter().map(|site| site.join(name).join(folder)).find(|path| path.is_dir())
        };
        let installed =
            package("comfyui_frontend_package", "static").filter(|p| p.join("index.html").is_file());
        Self {
            version: given.is_none().then(|| version(&sites, "comfyui_frontend_package-")).flatten(),
            root: given.or(installed),
            templates: package("comfyui_workflow_templates", "templates"),
            docs: package("comfyui_embedded_docs", "docs"),
            templates_version: version(&sites, "comfyui_workflow_templates-"),
        }
    }
}

/// Folders that hold Python packages: of the active environment, else of the `python3` in the path.
fn site_packages() -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(std::env::var_os).map(PathBuf::from).collect();
    for folder in std::env::var_os("PATH").iter().flat_map(std::env::split_paths) {
        if folder.join("python3").is_file()
            && let Some(prefix) = folder.parent()
        {
            prefixes.push(prefix.to_owned());
        }
    }
    let mut sites = Vec::new();
    for prefix in prefixes {
        let Ok(entries) = std::fs::read_dir(prefix.join("lib")) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with("python3") {
                for name in ["site-packages", "dist-packages"] {
                    let site = entry.path().join(name);
                    if site.is_dir() && !sites.contains(&site) {
                        sites.push(site);
                    }
                }
            }
        }
    }
    sites
}

/// The version in the name of a package's `.dist-info` folder.
fn version(sites: &[PathBuf], prefix: &str) -> Option<String> {
    let of = |site: &Path| {
        let entries = std::fs::read_dir(site).ok()?;
        entries.flatten().find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_prefix(prefix)?.strip_suffix(".dist-info")?.to_owned())
        })
    };
    sites.iter().find_map(|site| of(site))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_folder_comes_first() {
        let frontend = Frontend::find(Some("/given".into()));
        assert_eq!(frontend.root.as_deref(), Some(Path::new("/given")));
    }

    #[test]
    fn versions_come_from_dist_info() {
        let site = tempfile::tempdir().unwrap();
        std::fs::create_dir(site.path().join("comfyui_frontend_package-1.58.1.dist-info")).unwrap();
        let sites = [site.path().to_owned()];
        assert_eq!(version(&sites, "comfyui_frontend_package-").as_deref(), Some("1.58.1"));
        assert_eq!(version(&sites, "other-"), None);
    }
}
