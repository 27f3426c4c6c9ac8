//! What the file-like routes share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, DeviceLocation};
use rushlight_runtime::Host;
use rushlight_store::Folders;
use rushlight_store::folders::{FolderError, Root, Symlinks};
use serde::Serialize;

use crate::error::ApiError;
use crate::extension::{Extension, Pack};
use crate::frontend::Frontend;
use crate::logs::LogBuffer;

/// A device as `/system_stats` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceInfo {
    /// Name, such as `cpu` or the GPU's.
    pub name: String,
    /// `cpu`, `cuda` or `mps`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which of its kind; `None` for the CPU.
    pub index: Option<usize>,
    /// Bytes of memory; `None` where it is the computer's own.
    pub vram_total: Option<u64>,
}

impl DeviceInfo {
    /// A device of the engine.
    pub fn of(device: &Device) -> Self {
        match device.location() {
            DeviceLocation::Cpu => {
                Self { name: "cpu".into(), kind: "cpu".into(), index: None, vram_total: None }
            }
            DeviceLocation::Cuda { gpu_id } => Self::gpu("cuda", gpu_id),
            // Python's name for Apple's.
            DeviceLocation::Metal { gpu_id } => Self::gpu("mps", gpu_id),
        }
    }

    fn gpu(kind: &str, index: usize) -> Self {
        Self { name: format!("{kind}:{index}"), kind: kind.into(), index: Some(index), vram_total: None }
    }
}

/// What the file-like routes share.
pub struct Files {
    /// Every folder.
    pub folders: Arc<Folders>,
    /// Files and models as nodes see them, embedded models included.
    pub host: Arc<dyn Host>,
    /// The last log lines.
    pub logs: Arc<LogBuffer>,
    /// The frontend's folders.
    pub frontend: Frontend,
    /// What prompts run on.
    pub devices: Vec<DeviceInfo>,
    /// Held while a settings file is read, changed and written.
    pub(crate) settings_lock: tokio::sync::Mutex<()>,
    extension: OnceLock<Arc<dyn Extension>>,
}

impl Files {
    /// Shares folders; `frontend_root` is the `--front-end-root`, without which installed packages are looked for.
    pub fn new(
        folders: Arc<Folders>,
        host: Arc<dyn Host>,
        logs: Arc<LogBuffer>,
        frontend_root: Option<PathBuf>,
        devices: Vec<DeviceInfo>,
    ) -> Self {
        Self {
            folders,
            host,
            logs,
            frontend: Frontend::find(frontend_root),
            devices,
            settings_lock: tokio::sync::Mutex::default(),
            extension: OnceLock::new(),
        }
    }

    /// Makes an extension's packs known. Called once; later calls change nothing.
    pub fn connect(&self, extension: Arc<dyn Extension>) {
        let _ = self.extension.set(extension);
    }

    /// The extension, if there is one.
    pub fn extension(&self) -> Option<&Arc<dyn Extension>> {
        self.extension.get()
    }

    /// Loaded packs of nodes.
    pub fn packs(&self) -> Vec<Pack> {
        self.extension().map(|extension| extension.packs()).unwrap_or_default()
    }

    /// The loaded pack of that name.
    pub fn pack(&self, name: &str) -> Option<Pack> {
        self.packs().into_iter().find(|pack| pack.name == name)
    }

    /// A folder that only its owner writes to, such as a pack's.
    pub(crate) fn owned_root(path: PathBuf) -> Root {
        Root::new(path, Symlinks::Anywhere)
    }
}

impl From<FolderError> for ApiError {
    fn from(error: FolderError) -> Self {
        use std::io::ErrorKind;
        let details = error.to_string();
        match &error {
            FolderError::BadName { .. } => {
                ApiError::bad_request("bad_name", "That name is not allowed", details)
            }
            FolderError::Escapes { .. } => {
                ApiError::forbidden("outside_folder", "That leads out of its folder", details)
            }
            FolderError::NotFound { .. } => ApiError::not_found("There is no such file", details),
            FolderError::Exists { .. } => {
                ApiError::new(axum::http::StatusCode::CONFLICT, "exists", "It exists already", details)
            }
            FolderError::TooLarge { .. } => ApiError::new(
                axum::http::StatusCode::PAYLOAD_TOO_LARGE,
                "file_too_large",
                "The file is too large",
                details,
            ),
            FolderError::Io { source, .. } => match source.kind() {
                ErrorKind::PermissionDenied => {
                    ApiError::forbidden("permission_denied", "The system does not allow it", details)
                }
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ApiError::new(
                    axum::http::StatusCode::INSUFFICIENT_STORAGE,
                    "storage_full",
                    "The disk is full",
                    details,
                ),
                ErrorKind::InvalidFilename | ErrorKind::InvalidInput | ErrorKind::IsADirectory => {
                    ApiError::bad_request("bad_name", "The system does not take that name", details)
                }
                _ => ApiError::internal(details),
            },
            FolderError::Config { .. } => ApiError::internal(details),
        }
    }
}

/// [`crate::blocking::run`] for work that already fails as an answer.
///
/// # Errors
/// Those of `work`.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    crate::blocking::run(work).await
}
