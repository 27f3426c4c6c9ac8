//! Batches cut to another size.

use std::sync::Arc;

use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "RebatchImages", rebatch_images_schema, rebatch_images);
    add(registry, "RebatchLatents", rebatch_latents_schema, rebatch_latents);
}

/// A class that is called once with whole lists.
fn whole_lists(schema: NodeSchema) -> NodeSchema {
    NodeSchema { input_is_list: true, ..schema }
}

/// The members of a list input; anything else is a list of one.
fn members<'a>(inputs: &'a Inputs, name: &str) -> Result<Vec<&'a Value>, NodeError> {
    Ok(match inputs.value(name)? {
        Value::List(items) => items.iter().collect(),
        value => vec![value],
    })
}

fn batch_size(inputs: &Inputs) -> Result<usize, NodeError> {
    let mut single = Inputs::new();
    if let Some(value) = members(inputs, "batch_size")?.first() {
        single.insert("batch_size", (*value).clone());
    }
    Ok(single.size("batch_size")?.max(1))
}

/// Neighbours of equal shape joined, then cut to `size` pictures.
fn regroup(pictures: Vec<Tensor>, size: usize) -> Result<Vec<Tensor>, NodeError> {
    let mut groups: Vec<Vec<Tensor>> = Vec::new();
    for picture in pictures {
        match groups.last_mut() {
            Some(group)
                if group.len() < size
                    && group.first().is_some_and(|first| first.dims() == picture.dims()) =>
            {
                group.push(picture);
            }
            _ => groups.push(vec![picture]),
        }
    }
    Ok(groups.iter().map(|group| Tensor::cat(group, 0)).collect::<Result<_, _>>()?)
}

fn rebatch_images_schema(_: &dyn Host) -> NodeSchema {
    whole_lists(
        v3("RebatchImages", "image/batch", "rebatch")
            .display("Rebatch Images")
            .extra("display_name", "Rebatch Images")
            .input(InputSpec::new("images", "IMAGE"))
            .input(int("batch_size", 1, 1, 4096))
            .output(OutputSpec::new("IMAGE").list()),
    )
}
fn rebatch_images(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut pictures = Vec::new();
    for value in members(inputs, "images")? {
        let Value::Image(batch) = value else {
            return Err(NodeError::new("TypeError", format!("'images' must be IMAGE, got {}", value.kind())));
        };
        for index in 0..batch.dim(0)? {
            pictures.push(batch.narrow(0, index, 1)?);
        }
    }
    let batches = regroup(pictures, batch_size(inputs)?)?;
    Ok(NodeOutput::one(Value::List(Arc::new(batches.into_iter().map(Value::Image).collect()))))
}

fn rebatch_latents_schema(_: &dyn Host) -> NodeSchema {
    whole_lists(
        v3("RebatchLatents", "latent/batch", "rebatch")
            .display("Rebatch Latents")
            .extra("display_name", "Rebatch Latents")
            .input(InputSpec::new("latents", "LATENT"))
            .input(int("batch_size", 1, 1, 4096))
            .output(OutputSpec::new("LATENT").list()),
    )
}
fn rebatch_latents(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let size = batch_size(inputs)?;
    let mut groups: Vec<Latent> = Vec::new();
    let mut count = 0;
    for value in members(inputs, "latents")? {
        let Value::Latent(latent) = value else {
            return Err(NodeError::new(
                "TypeError",
                format!("'latents' must be LATENT, got {}", value.kind()),
            ));
        };
        for index in 0..latent.samples.dim(0)? {
            let draw =
                latent.batch_index.as_ref().and_then(|draws| draws.get(index).copied()).unwrap_or(count);
            count += 1;
            let mask = match &latent.noise_mask {
                Some(mask) => Some(mask.narrow(0, index.min(mask.dim(0)?.saturating_sub(1)), 1)?),
                None => None,
            };
            let one = Latent {
                samples: latent.samples.narrow(0, index, 1)?,
                noise_mask: mask,
                batch_index: Some(vec![draw]),
                extra: latent.extra.clone(),
            };
            match groups.last_mut() {
                Some(group) if fits(group, &one, size)? => append(group, one)?,
                _ => groups.push(one),
            }
        }
    }
    Ok(NodeOutput::one(Value::List(Arc::new(groups.into_iter().map(Value::latent).collect()))))
}

/// Whether one more picture may join a group.
fn fits(group: &Latent, one: &Latent, size: usize) -> Result<bool, NodeError> {
    let shape = |latent: &Latent| -> Vec<usize> { latent.samples.dims().iter().skip(1).copied().collect() };
    let mask = |latent: &Latent| -> Option<Vec<usize>> {
        latent.noise_mask.as_ref().map(|mask| mask.dims().iter().skip(1).copied().collect())
    };
    Ok(group.samples.dim(0)? < size && shape(group) == shape(one) && mask(group) == mask(one))
}

fn append(group: &mut Latent, one: Latent) -> Result<(), NodeError> {
    group.samples = Tensor::cat(&[&group.samples, &one.samples], 0)?;
    if let (Some(mask), Some(other)) = (&group.noise_mask, &one.noise_mask) {
        group.noise_mask = Some(Tensor::cat(&[mask, other], 0)?);
    }
    if let (Some(draws), Some(other)) = (&mut group.batch_index, one.batch_index) {
        draws.extend(other);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn pictures_are_regrouped_and_sizes_are_not_mixed() {
        let batch = |count: usize, side: usize| {
            Tensor::zeros((count, side, side, 3), DType::F32, &Device::Cpu).unwrap()
        };
        let mut inputs = Inputs::new();
        inputs.insert(
            "images",
            Value::List(Arc::new(vec![Value::Image(batch(3, 8)), Value::Image(batch(2, 4))])),
        );
        inputs.insert("batch_size", Value::List(Arc::new(vec![Value::Int(2)])));
        let (ctx, _) = crate::testing::context(Default::default());
        let output = rebatch_images(&ctx, &inputs).unwrap();
        let Value::List(batches) = &output.values[0] else { panic!("no list") };
        let counts: Vec<_> = batches
            .iter()
            .map(|batch| match batch {
                Value::Image(batch) => (batch.dim(0).unwrap(), batch.dim(1).unwrap()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(counts, [(2, 8), (1, 8), (2, 4)]);
    }
}
