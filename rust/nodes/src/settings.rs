//! [`Settings`]: what is decided once for all native nodes.

use rushlight_diffusion::precision::Precision;

/// How the native nodes load models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// How exactly each part of a model computes.
    pub precision: Precision,
    /// Keep autoencoders on the CPU.
    pub vae_on_cpu: bool,
    /// Bytes of memory that kept models leave free.
    pub reserved_bytes: u64,
}
