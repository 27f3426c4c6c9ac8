//! Pictures and texts prepared for training.

use std::sync::Arc;

use rushlight_diffusion::rng::TorchGenerator;

use super::basic::{image, pixels, with_channels};
use super::fit::paste;
use crate::picture::resize::resize;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "AdjustBrightness", adjust_brightness_schema, adjust_brightness);
    add(registry, "AdjustContrast", adjust_contrast_schema, adjust_contrast);
    add(registry, "NormalizeImages", normalize_images_schema, normalize_images);
    add(registry, "CenterCropImages", center_crop_images_schema, center_crop_images);
    add(registry, "RandomCropImages", random_crop_images_schema, random_crop_images);
    add(
        registry,
        "ResizeImagesByLongerEdge",
        resize_images_by_longer_edge_schema,
        resize_images_by_longer_edge,
    );
    add(
        registry,
        "ResizeImagesByShorterEdge",
        resize_images_by_shorter_edge_schema,
        resize_images_by_shorter_edge,
    );
    add(registry, "ImageGrid", image_grid_schema, image_grid);
    add(registry, "ImageDeduplication", image_deduplication_schema, image_deduplication);
    add(registry, "ShuffleDataset", shuffle_dataset_schema, shuffle_dataset);
    add(registry, "MergeImageLists", merge_image_lists_schema, merge_image_lists);
    add(registry, "ImageAddNoise", image_add_noise_schema, image_add_noise);
}

/// A class that is called once with whole lists.
fn whole_lists(schema: NodeSchema) -> NodeSchema {
    NodeSchema { input_is_list: true, ..schema }
}

/// The value itself, or the first of a list: what an input is for a node that gets whole lists.
fn first<'a>(inputs: &'a Inputs, name: &str) -> Result<&'a Value, NodeError> {
    match inputs.value(name)? {
        Value::List(items) => items.first().ok_or_else(|| NodeError::value(format!("'{name}' is empty"))),
        value => Ok(value),
    }
}

fn first_number(inputs: &Inputs, name: &str) -> Result<f64, NodeError> {
    let mut single = Inputs::new();
    single.insert(name, first(inputs, name)?.clone());
    single.float(name)
}

fn first_size(inputs: &Inputs, name: &str) -> Result<usize, NodeError> {
    let mut single = Inputs::new();
    single.insert(name, first(inputs, name)?.clone());
    single.size(name)
}

/// The pictures of a list; a batch counts as a list of its pictures.
fn pictures(inputs: &Inputs, name: &str) -> Result<Vec<Tensor>, NodeError> {
    match inputs.value(name)? {
        Value::List(items) => items
            .iter()
            .map(|item| match item {
                Value::Image(tensor) => Ok(tensor.clone()),
                other => {
                    Err(NodeError::new("TypeError", format!("'{name}' must be IMAGE, got {}", other.kind())))
                }
            })
            .collect(),
        _ => {
            let batch = inputs.image(name)?;
            Ok((0..batch.dim(0)?).map(|index| batch.get(index)).collect::<Result<_, _>>()?)
        }
    }
}

fn list(values: Vec<Value>) -> NodeOutput {
    NodeOutput::one(Value::List(Arc::new(values)))
}

/// NumPy's legacy generator: the same twister as PyTorch's, drawn from in its own ways.
struct NumpyRandom(TorchGenerator);

impl NumpyRandom {
    fn new(seed: u64) -> Self {
        Self(TorchGenerator::new(seed % 0xffff_ffff))
    }

    /// A number from 0 to `last`, by masking and trying again.
    fn up_to(&mut self, last: usize) -> usize {
        if last == 0 {
            return 0;
        }
        let mask = (last as u32).checked_next_power_of_two().map_or(u32::MAX, |power| power.wrapping_sub(1));
        let mask = mask | last as u32;
        loop {
            let draw = (self.0.random() & mask) as usize;
            if draw <= last {
                return draw;
            }
        }
    }

    fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let other = self.up_to(last);
            order.swap(last, other);
        }
        order
    }
}

/// Pictures as they are after a stay in 8 bits.
fn through_bytes(p: &Pixels) -> Pixels {
    p.clone().map(|value| f32::from(crate::picture::pixels::to_byte(value)) / 255.0)
}

fn adjust_brightness_schema(_: &dyn Host) -> NodeSchema {
    v3("AdjustBrightness", "dataset/image", "dataset")
        .display("Adjust Brightness")
        .extra("display_name", "Adjust Brightness")
        .input(InputSpec::new("images", "IMAGE"))
        .input(float("factor", 1.0, 0.0, 2.0))
        .output(OutputSpec::named("IMAGE", "images"))
        .extra("experimental", true)
}
fn adjust_brightness(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let factor = inputs.float("factor")? as f32;
    image(pixels(inputs, "images")?.map(|value| (value * factor).clamp(0.0, 1.0)))
}

fn adjust_contrast_schema(_: &dyn Host) -> NodeSchema {
    v3("AdjustContrast", "dataset/image", "dataset")
        .display("Adjust Contrast")
        .extra("display_name", "Adjust Contrast")
        .input(InputSpec::new("images", "IMAGE"))
        .input(float("factor", 1.0, 0.0, 2.0))
        .output(OutputSpec::named("IMAGE", "images"))
        .extra("experimental", true)
}
fn adjust_contrast(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let factor = inputs.float("factor")? as f32;
    image(pixels(inputs, "images")?.map(|value| ((value - 0.5) * factor + 0.5).clamp(0.0, 1.0)))
}

fn normalize_images_schema(_: &dyn Host) -> NodeSchema {
    v3("NormalizeImages", "dataset/image", "dataset")
        .display("Normalize Images")
        .extra("display_name", "Normalize Images")
        .input(InputSpec::new("images", "IMAGE"))
        .input(float("mean", 0.5, 0.0, 1.0))
        .input(float("std", 0.5, 0.001, 1.0))
        .output(OutputSpec::named("IMAGE", "images"))
        .extra("experimental", true)
}
fn normalize_images(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (mean, std) = (inputs.float("mean")? as f32, inputs.float("std")? as f32);
    image(pixels(inputs, "images")?.map(|value| (value - mean) / std))
}

fn center_crop_images_schema(_: &dyn Host) -> NodeSchema {
    v3("CenterCropImages", "dataset/image", "dataset")
        .display("Center Crop Images")
        .extra("display_name", "Center Crop Images")
        .input(InputSpec::new("images", "IMAGE"))
        .input(int("width", 512, 1, 8192))
        .input(int("height", 512, 1, 8192))
        .output(OutputSpec::named("IMAGE", "images"))
        .extra("experimental", true)
}
fn center_crop_images(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "images")?;
    let (height, width) = (inputs.size("height")?, inputs.size("width")?);
    let (top, left) = (p.height.saturating_sub(height) / 2, p.width.saturating_sub(width) / 2);
    image(through_bytes(&p.crop(top, left, height, width)?))
}

fn random_crop_images_schema(_: &dyn Host) -> NodeSchema {
    v3("RandomCropImages", "dataset/image", "dataset")
        .display("Random Crop Images")
        .extra("display_name", "Random Crop Images")
        .input(InputSpec::new("images", "IMAGE"))
        .input(int("width", 512, 1, 8192))
        .input(int("height", 512, 1, 8192))
        .input(int("seed", 0, 0, u64::MAX))
        .output(OutputSpec::named("IMAGE", "images"))
        .extra("experimental", true)
}
fn random_crop_images(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "images")?;
    let (height, width) = (inputs.size("height")?, inputs.size("width")?);
    let mut random = NumpyRandom::new(inputs.int("seed")? as u64);
    let left = random.up_to(p.width.saturating_sub(width));
    let top = random.up_to(p.height.saturating_sub(height));
    image(through_bytes(&p.crop(top, left, height, width)?))
}

fn resize_images_by_longer_edge_schema(_: &dyn Host) -> NodeSchema {
    v3("ResizeImagesByLongerEdge", "dataset/image", "dataset")
        .display("Resize Images by Longer Edge")
        .extra("display_name", "Resize Images by Longer Edge")
        .input(InputSpec::new("images", "IMAGE"))
        .input(int("longer_edge", 1024, 1, 8192))
        .output(OutputSpec::named("IMAGE", "images"))
        .extra("experimental", true)
}
fn resize_images_by_longer_edge(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "images")?;
    let edge = inputs.size("longer_edge")?;
    let scaled = |side: usize, other: usize| (side as f64 * (edge as f64 / other as f64)) as usize;
    let (height, width) = if p.width > p.height {
        (scaled(p.height, p.width), edge)
    } else {
        (edge, scaled(p.width, p.height))
    };
    image(resize(&p, height, width, Method::Lanczos)?)
}

fn resize_images_by_shorter_edge_schema(_: &dyn Host) -> NodeSchema {
    v3("ResizeImagesByShorterEdge", "dataset/image", "dataset")
        .display("Resize Images by Shorter Edge")
        .extra("display_name", "Resize Images by Shorter Edge")
        .input(InputSpec::new("images", "IMAGE"))
        .input(int("shorter_edge", 512, 1, 8192))
        .output(OutputSpec::named("IMAGE", "images"))
        .extra("experimental", true)
}
fn resize_images_by_shorter_edge(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "images")?;
    let edge = inputs.size("shorter_edge")?;
    let scaled = |side: usize, other: usize| (side as f64 * (edge as f64 / other as f64)) as usize;
    let (height, width) = if p.width < p.height {
        (scaled(p.height, p.width), edge)
    } else {
        (edge, scaled(p.width, p.height))
    };
    image(resize(&p, height, width, Method::Lanczos)?)
}

fn image_grid_schema(_: &dyn Host) -> NodeSchema {
    whole_lists(
        v3("ImageGrid", "dataset/image", "dataset")
            .display("Image Grid")
            .extra("display_name", "Image Grid")
            .input(InputSpec::new("images", "IMAGE"))
            .input(int("columns", 4, 1, 20))
            .input(int("cell_width", 256, 32, 2048))
            .input(int("cell_height", 256, 32, 2048))
            .input(int("padding", 4, 0, 50))
            .output(OutputSpec::named("IMAGE", "images"))
            .extra("experimental", true),
    )
}
fn image_grid(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let pictures = pictures(inputs, "images")?;
    let columns = first_size(inputs, "columns")?.max(1);
    let (cell_width, cell_height) = (first_size(inputs, "cell_width")?, first_size(inputs, "cell_height")?);
    let padding = first_size(inputs, "padding")?;
    let rows = pictures.len().div_ceil(columns).max(1);
    let cells = |count: usize, side: usize| {
        count.saturating_mul(side).saturating_add((count - 1).saturating_mul(padding))
    };
    let mut grid = Pixels::filled(1, cells(rows, cell_height), cells(columns, cell_width), 3, 0.0)?;
    for (index, picture) in pictures.iter().enumerate() {
        let cell = with_channels(&Pixels::from_image(picture)?, 3)?;
        let cell = resize(&cell, cell_height, cell_width, Method::Lanczos)?;
        let (row, column) = (index / columns, index % columns);
        paste(
            &mut grid,
            &through_bytes(&cell),
            row * (cell_height + padding),
            column * (cell_width + padding),
        );
    }
    image(grid)
}

fn image_deduplication_schema(_: &dyn Host) -> NodeSchema {
    whole_lists(
        v3("ImageDeduplication", "dataset/image", "dataset")
            .display("Image Deduplication")
            .extra("display_name", "Image Deduplication")
            .input(InputSpec::new("images", "IMAGE"))
            .input(float("similarity_threshold", 0.95, 0.0, 1.0))
            .output(OutputSpec::named("IMAGE", "images").list())
            .extra("experimental", true),
    )
}
fn image_deduplication(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let threshold = first_number(inputs, "similarity_threshold")?;
    let mut kept: Vec<(Vec<bool>, Tensor)> = Vec::new();
    for picture in pictures(inputs, "images")? {
        let hash = average_hash(&Pixels::from_image(&picture)?)?;
        let similar = |other: &[bool]| {
            let equal = hash.iter().zip(other).filter(|(a, b)| a == b).count();
            equal as f64 / hash.len().max(1) as f64 >= threshold
        };
        if !kept.iter().any(|(other, _)| similar(other)) {
            kept.push((hash, picture));
        }
    }
    Ok(list(kept.into_iter().map(|(_, picture)| Value::Image(picture)).collect()))
}

/// Which of 8x8 parts are brighter than the mean.
fn average_hash(p: &Pixels) -> Result<Vec<bool>, NodeError> {
    let small = resize(p, 8, 8, Method::Area)?;
    let grey: Vec<f32> = small.data.chunks(small.channels.max(1)).map(|pixel| pixel.iter().sum()).collect();
    let mean = grey.iter().sum::<f32>() / grey.len().max(1) as f32;
    Ok(grey.into_iter().map(|value| value > mean).collect())
}

fn shuffle_dataset_schema(_: &dyn Host) -> NodeSchema {
    whole_lists(
        v3("ShuffleDataset", "dataset/image", "dataset")
            .display("Shuffle Image Dataset")
            .extra("display_name", "Shuffle Image Dataset")
            .input(InputSpec::new("images", "IMAGE"))
            .input(int("seed", 0, 0, u64::MAX))
            .output(OutputSpec::named("IMAGE", "images").list())
            .extra("experimental", true),
    )
}
fn shuffle_dataset(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let pictures = pictures(inputs, "images")?;
    let mut single = Inputs::new();
    single.insert("seed", first(inputs, "seed")?.clone());
    let order = NumpyRandom::new(single.int("seed")? as u64).permutation(pictures.len());
    Ok(list(order.into_iter().filter_map(|index| pictures.get(index).cloned()).map(Value::Image).collect()))
}

fn merge_image_lists_schema(_: &dyn Host) -> NodeSchema {
    whole_lists(
        v3("MergeImageLists", "dataset/image", "dataset")
            .display("Merge Image Lists")
            .extra("display_name", "Merge Image Lists")
            .input(InputSpec::new("images", "IMAGE"))
            .output(OutputSpec::named("IMAGE", "images").list())
            .extra("experimental", true),
    )
}
fn merge_image_lists(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(inputs.value("images")?.clone()))
}

fn image_add_noise_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageAddNoise", "image", "images")
        .input(InputSpec::new("image", "IMAGE"))
        .input(int("seed", 0, 0, u64::MAX).opt("control_after_generate", true))
        .input(float("strength", 0.5, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("IMAGE"))
}
fn image_add_noise(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut p = pixels(inputs, "image")?;
    let strength = inputs.float("strength")? as f32;
    let noise = TorchGenerator::new(inputs.int("seed")? as u64).randn(p.data.len());
    for (value, noise) in p.data.iter_mut().zip(noise) {
        *value = (*value + strength * noise).clamp(0.0, 1.0);
    }
    image(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_are_numpys() {
        // numpy.random.RandomState(3).permutation(8)
        assert_eq!(NumpyRandom::new(3).permutation(8), [5, 7, 4, 6, 3, 1, 0, 2]);
    }
}
