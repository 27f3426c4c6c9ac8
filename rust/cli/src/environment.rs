//! What every command needs of the machine: folders, the embedded checkpoint, the node classes, the device.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::Device;
use rushlight_nodes::Settings;
use rushlight_runtime::{ClassTable, Host, Registry};
use rushlight_server::{EmbeddedModel, FolderHost};
use rushlight_store::Folders;
use rushlight_store::folders::FolderSettings;

use crate::args::{DeviceArgs, FolderArgs};

/// Pixels that a decoded picture may have.
const MAX_IMAGE_PIXELS: u64 = 64 << 20;

/// The checkpoint that travels inside the program.
pub const EMBEDDED_CHECKPOINT: EmbeddedModel = EmbeddedModel {
    folder: "checkpoints",
    name: "rushlight-tiny.safetensors",
    bytes: include_bytes!("../../../models/rushlight-tiny.safetensors"),
};

/// Where folders are.
///
/// # Errors
/// When the current folder is needed and cannot be told.
pub fn folder_settings(args: &FolderArgs) -> Result<FolderSettings> {
    let base = match &args.base_directory {
        Some(base) => base.clone(),
        None => std::env::current_dir().context("cannot tell the current folder; use --base-directory")?,
    };
    Ok(FolderSettings {
        base,
        input: args.input_directory.clone(),
        output: args.output_directory.clone(),
        temp: args.temp_directory.clone(),
        user: args.user_directory.clone(),
        models: args.models_directory.clone(),
        extra_model_paths: args.extra_model_paths_config.clone(),
        follow_symlinks: args.follow_symlinks,
    })
}

/// Opens the folders, making those that are missing.
///
/// # Errors
/// Names the folder that cannot be made or read.
pub fn open_host(settings: &FolderSettings, metadata: bool) -> Result<(Arc<Folders>, Arc<FolderHost>)> {
    let folders = Arc::new(Folders::open(settings)?);
    let host = FolderHost::new(folders.clone(), vec![EMBEDDED_CHECKPOINT], metadata, MAX_IMAGE_PIXELS);
    Ok((folders, Arc::new(host)))
}

/// Every native class.
pub fn native_registry() -> Registry {
    native_registry_with(&Settings::default())
}

/// Every native class, loading models as the settings say.
pub fn native_registry_with(settings: &Settings) -> Registry {
    let mut registry = Registry::new();
    rushlight_nodes::register_with(&mut registry, settings);
    registry
}

/// The native classes with their schemas.
pub fn native_classes(host: Arc<dyn Host>, settings: &Settings) -> Arc<ClassTable> {
    Arc::new(ClassTable::new(native_registry_with(settings), host))
}

/// The device that models run on: the asked one, else the first GPU this build knows, else the CPU.
///
/// # Errors
/// When this build has CUDA and the GPU that was asked for by number cannot be had.
pub fn device(args: &DeviceArgs) -> Result<Device> {
    let asked = args.cuda_device.or(args.default_device);
    if args.cpu {
        return Ok(Device::Cpu);
    }
    if cfg!(feature = "cuda") {
        let ordinal = asked.unwrap_or(0);
        return match Device::new_cuda(ordinal) {
            Ok(device) => Ok(device),
            Err(error) if asked.is_some() => {
                Err(error).with_context(|| format!("cannot use CUDA device {ordinal}"))
            }
            Err(error) => {
                tracing::warn!(%error, "no CUDA device could be opened, running on the CPU");
                Ok(Device::Cpu)
            }
        };
    }
    if let Some(ordinal) = asked {
        // Start scripts that name a device go on working; that it is not used must be seen.
        tracing::warn!(
            "--cuda-device {ordinal} has no effect: this build has no CUDA (it takes one built with `--features cuda`)"
        );
    }
    if cfg!(feature = "metal") {
        return Device::new_metal(0).context("cannot use the Metal device");
    }
    Ok(Device::Cpu)
}

/// The device's name for people.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// Where a saved file is on disk.
pub fn saved_path(folders: &Folders, item: &serde_json::Value) -> Option<PathBuf> {
    let text = |key: &str| item.get(key).and_then(serde_json::Value::as_str);
    let layout = folders.layout();
    let folder = match text("type")? {
        "output" => &layout.output,
        "temp" => &layout.temp,
        "input" => &layout.input,
        _ => return None,
    };
    Some(folder.join(text("subfolder").unwrap_or_default()).join(text("filename")?))
}
