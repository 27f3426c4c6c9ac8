//! The list of families.

use rushlight_runtime::Registry;

use crate::{image, latent, mask, model, primitive};

/// Adds every native class.
pub fn register(registry: &mut Registry) {
    primitive::register(registry);
    image::io::register(registry);
    image::scale::register(registry);
    image::basic::register(registry);
    image::fit::register(registry);
    image::compose::register(registry);
    image::filter::register(registry);
    mask::register(registry);
    latent::empty::register(registry);
    latent::transform::register(registry);
    model::loaders::register(registry);
    model::clip::register(registry);
    model::vae::register(registry);
}
