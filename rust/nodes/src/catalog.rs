//! The list of families.

use rushlight_runtime::Registry;

use crate::settings::Settings;
use crate::{
    audio, dataset_text, image, latent, logic, mask, model, primitive, rebatch, regex, sigmas, text, video,
};

/// Adds every native class.
pub fn register(registry: &mut Registry) {
    register_with(registry, &Settings::default());
}

/// Adds every native class, loading models as `settings` say.
pub fn register_with(registry: &mut Registry, settings: &Settings) {
    primitive::register(registry);
    image::io::register(registry);
    image::scale::register(registry);
    image::basic::register(registry);
    image::animation::register(registry);
    image::fit::register(registry);
    image::compose::register(registry);
    image::filter::register(registry);
    image::quantize::register(registry);
    image::tracks::register(registry);
    image::ltxv::register(registry);
    mask::register(registry);
    latent::empty::register(registry);
    latent::transform::register(registry);
    latent::ops::register(registry);
    latent::operation::register(registry);
    latent::file::register(registry);
    latent::place::register(registry);
    text::register(registry);
    dataset_text::register(registry);
    image::dataset::register(registry);
    image::resize_any::register(registry);
    rebatch::register(registry);
    audio::edit::register(registry);
    audio::files::register(registry);
    video::register(registry);
    regex::register(registry);
    logic::register(registry);
    let mut loaders = model::loader::Loaders::new(registry, settings);
    model::loaders::register(&mut loaders);
    model::part_loaders::register(&mut loaders);
    model::pipelines::register(&mut loaders);
    model::control::register_loaders(&mut loaders);
    model::vision::register_loaders(&mut loaders);
    model::clip::register_loaders(&mut loaders);
    model::clip::register(registry);
    model::vae::register(registry);
    model::vision::register(registry);
    model::sampling::register(registry);
    model::custom_sampling::register(registry);
    model::sampler_nodes::register(registry);
    model::conditioning::register(registry);
    model::noise_levels::register(registry);
    model::patches::register(registry);
    model::guidance::register(registry);
    model::scaling::register(registry);
    model::merging::register(registry);
    model::saving::register(registry);
    model::control::register(registry);
    sigmas::register(registry);
}
