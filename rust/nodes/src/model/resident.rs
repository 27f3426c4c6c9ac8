//! How much memory what was loaded takes.

use rushlight_diffusion::checkpoint::Checkpoint;
use rushlight_diffusion::clip::Clip;
use rushlight_diffusion::loaders::Upscaler;
use rushlight_diffusion::model::Model;
use rushlight_diffusion::vae::Vae;

/// Something loaded from files. Tensors are made when they are first used, so that its size grows.
pub(crate) trait Resident: Send + Sync + 'static {
    /// Bytes that its tensors take now.
    fn bytes(&self) -> usize;
}

impl Resident for Model {
    fn bytes(&self) -> usize {
        self.network.weights().map_or(0, |weights| weights.resident_bytes())
    }
}

impl Resident for Clip {
    fn bytes(&self) -> usize {
        self.encoders().iter().map(|encoder| encoder.weights().resident_bytes()).sum()
    }
}

impl Resident for Vae {
    fn bytes(&self) -> usize {
        self.weights().resident_bytes()
    }
}

impl Resident for Upscaler {
    fn bytes(&self) -> usize {
        self.weights().resident_bytes()
    }
}

/// Something that was measured when it was loaded.
pub(crate) struct Measured<T> {
    /// What was loaded.
    pub(crate) value: T,
    /// Bytes of its tensors.
    pub(crate) bytes: usize,
}

impl<T: Send + Sync + 'static> Resident for Measured<T> {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Resident for Checkpoint {
    fn bytes(&self) -> usize {
        self.model.as_ref().map_or(0, Resident::bytes)
            + self.clip.as_ref().map_or(0, Resident::bytes)
            + self.vae.as_ref().map_or(0, Resident::bytes)
    }
}
