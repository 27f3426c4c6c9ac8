//! `GET /system_stats`: the computer, the versions, the devices.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::error::ApiError;
use crate::files::{DeviceInfo, blocking};
use crate::routes::internal::Trusted;
use crate::state::AppState;

/// The version of ComfyUI whose protocol is spoken; frontends switch features by it.
pub const EMULATED_VERSION: &str = "0.8.0";

/// `/system_stats`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/system_stats", get(system_stats))
}

async fn system_stats(
    State(state): State<AppState>,
    trusted: Result<Trusted, ApiError>,
) -> Result<Json<Value>, ApiError> {
    blocking(move || {
        let system = System::new_with_specifics(
            RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()),
        );
        // A system that cannot be asked has an unknown amount, which clients show as 0.
        let (total, free) =
            system.map_or((0, 0), |system| (system.total_memory(), system.available_memory()));
        // Arguments can name users, paths and tokens: not for strangers.
        let argv: &[String] = if trusted.is_ok() { &state.settings.argv } else { &[] };
        let frontend = &state.files.frontend;
        let mut info = json!({
            "os": platform(),
            "ram_total": total,
            "ram_free": free,
            "comfyui_version": EMULATED_VERSION,
            "required_frontend_version": frontend.version,
            "installed_templates_version": frontend.templates_version,
            "required_templates_version": frontend.templates_version,
            // Clients take these for texts, also where no Python runs.
            "python_version": "none",
            "pytorch_version": "none",
            "embedded_python": false,
            "argv": argv,
            "rushlight_version": env!("CARGO_PKG_VERSION"),
        });
        if let (Some(extension), Some(info)) = (state.files.extension(), info.as_object_mut()) {
            info.extend(extension.versions());
        }
        let devices: Vec<_> =
            state.files.devices.iter().map(|device| describe(device, total, free)).collect();
        Ok(Json(json!({ "system": info, "devices": devices })))
    })
    .await
}

/// The name that Python gives the system.
fn platform() -> &'static str {
    match std::env::consts::OS {
        "windows" => "win32",
        "macos" => "darwin",
        other => other,
    }
}

fn describe(device: &DeviceInfo, ram_total: u64, ram_free: u64) -> Value {
    // A device without memory of its own uses the computer's.
    let total = device.vram_total.unwrap_or(ram_total);
    let free = if device.vram_total.is_some() { total } else { ram_free };
    let mut value = Map::new();
    value.insert("name".into(), device.name.clone().into());
    value.insert("type".into(), device.kind.clone().into());
    value.insert("index".into(), device.index.into());
    for (key, bytes) in
        [("vram_total", total), ("vram_free", free), ("torch_vram_total", total), ("torch_vram_free", free)]
    {
        value.insert(key.into(), bytes.into());
    }
    Value::Object(value)
}
