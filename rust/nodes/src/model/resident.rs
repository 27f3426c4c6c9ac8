//! How much memory what was loaded takes.

use rushlight_diffusion::checkpoint::Checkpoint;
use rushlight_diffusion::clip::Clip;
use rushlight_diffusion::loaders::Upscaler;
use rushlight_diffusion::model::Model;
use rushlight_diffusion::vae::Vae;
use rushlight_diffusion::weights::StateDict;

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
    bytes: usize,
}

impl<T> Measured<T> {
    /// As large as the tensors that it was made of.
    pub(crate) fn new(value: T, dict: &StateDict) -> Self {
        Self { value, bytes: dict.stored_bytes() }
    }

    /// Something whose tensors are counted elsewhere.
    pub(crate) fn nothing(value: T) -> Self {
        Self { value, bytes: 0 }
    }
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
