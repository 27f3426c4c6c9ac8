//! Operations on latents that are values of their own: applied to a latent, or to guidance's direction in every step.
//!
//! Both work on the lengths of the channel vectors and keep their directions. Their numbers were found by running the
//! original on known latents.

use std::sync::Arc;

use rushlight_diffusion::guidance::Guided;

use super::transform::with_samples;
use crate::image::filter::blur;
use crate::model::objects::{model, model_value};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "LatentOperationTonemapReinhard", tonemap_schema, tonemap_reinhard);
    add(registry, "LatentOperationSharpen", sharpen_schema, sharpen);
    add(registry, "LatentApplyOperation", latent_apply_operation_schema, latent_apply_operation);
    add(registry, "LatentApplyOperationCFG", latent_apply_operation_cfg_schema, latent_apply_operation_cfg);
}

/// A LATENT_OPERATION.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Operation {
    /// Reinhard's tone curve (2002).
    Tonemap { multiplier: f64 },
    /// Unsharp masking, mirrored at the borders.
    Sharpen { radius: usize, sigma: f64, alpha: f64 },
}

/// The length of every place's channel vector, `[B, 1, H, W]`, not 0.
fn lengths(samples: &Tensor) -> rushlight_diffusion::Result<Tensor> {
    Ok((samples.sqr()?.sum_keepdim(1)?.sqrt()? + 1e-10)?)
}

/// How many deviations above the mean the curve's white is.
const WHITE: f64 = 5.0;

/// Long vectors shortened: `l` becomes `l / (1 + l / white)`.
fn tonemap(samples: &Tensor, multiplier: f64) -> rushlight_diffusion::Result<Tensor> {
    let lengths = lengths(samples)?;
    let flat = lengths.flatten_from(1)?;
    let mean = flat.mean_keepdim(1)?;
    let white = ((flat.var_keepdim(1)?.sqrt()? * WHITE)? + mean)?;
    let mut shape = vec![1; samples.rank()];
    if let Some(first) = shape.first_mut() {
        *first = samples.dim(0)?;
    }
    let white = (white * multiplier)?.reshape(shape)?;
    let factor = lengths.broadcast_div(&white)?.affine(1.0, 1.0)?.recip()?;
    Ok(samples.broadcast_mul(&factor)?)
}

/// The directions sharpened `alpha` times ten, with their old lengths.
fn sharpened(samples: &Tensor, radius: usize, sigma: f64, alpha: f64) -> Result<Tensor, NodeError> {
    let lengths = lengths(samples).map_err(crate::model::objects::engine)?;
    let directions = samples.broadcast_div(&lengths)?;
    let host = Pixels::from_image(&directions.permute((0, 2, 3, 1))?.contiguous()?)?;
    let blurred = blur(&host, radius, sigma)?.into_image()?.permute((0, 3, 1, 2))?.contiguous()?;
    let blurred = blurred.to_device(samples.device())?;
    let detail = (&directions - blurred)?;
    Ok((directions + (detail * (alpha * 10.0))?)?.broadcast_mul(&lengths)?)
}

impl Operation {
    fn apply(self, samples: &Tensor) -> Result<Tensor, NodeError> {
        match self {
            Operation::Tonemap { multiplier } => {
                tonemap(samples, multiplier).map_err(crate::model::objects::engine)
            }
            Operation::Sharpen { radius, sigma, alpha } => sharpened(samples, radius, sigma, alpha),
        }
    }
}

fn value(operation: Operation) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::object("LATENT_OPERATION", operation)))
}

fn tonemap_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentOperationTonemapReinhard", "latent/advanced/operations", "latent")
        .input(float("multiplier", 1.0, 0.0, 100.0).step(0.01))
        .output(OutputSpec::new("LATENT_OPERATION"))
        .extra("experimental", true)
}
fn tonemap_reinhard(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    value(Operation::Tonemap { multiplier: inputs.float("multiplier")? })
}

fn sharpen_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentOperationSharpen", "latent/advanced/operations", "latent")
        .input(int("sharpen_radius", 9, 1, 31).step(1))
        .input(float("sigma", 1.0, 0.1, 10.0).step(0.1))
        .input(float("alpha", 0.1, 0.0, 5.0).step(0.01))
        .output(OutputSpec::new("LATENT_OPERATION"))
        .extra("experimental", true)
}
fn sharpen(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    value(Operation::Sharpen {
        radius: inputs.size("sharpen_radius")?,
        sigma: inputs.float("sigma")?,
        alpha: inputs.float("alpha")?,
    })
}

fn latent_apply_operation_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentApplyOperation", "latent/advanced/operations", "latent")
        .input(InputSpec::new("samples", "LATENT"))
        .input(InputSpec::new("operation", "LATENT_OPERATION"))
        .output(OutputSpec::new("LATENT"))
        .extra("experimental", true)
}
fn latent_apply_operation(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    let operation: &Operation = inputs.object("operation", "LATENT_OPERATION")?;
    Ok(with_samples(latent, operation.apply(&latent.samples)?))
}

fn latent_apply_operation_cfg_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentApplyOperationCFG", "latent/advanced/operations", "latent")
        .input(InputSpec::new("model", "MODEL"))
        .input(InputSpec::new("operation", "LATENT_OPERATION"))
        .output(OutputSpec::new("MODEL"))
        .extra("experimental", true)
}
fn latent_apply_operation_cfg(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    let operation = *inputs.object::<Operation>("operation", "LATENT_OPERATION")?;
    // On the direction from the negative to the positive prediction, or the positive one alone.
    model.guidance.positive = Some(Arc::new(move |guided: &Guided<'_>| {
        let apply = |samples: &Tensor| {
            operation.apply(samples).map_err(|error| rushlight_diffusion::Error::Format {
                what: "latent operation".into(),
                reason: error.to_string(),
            })
        };
        match guided.has_negative {
            true => Ok((guided.uncond + apply(&(guided.cond - guided.uncond)?)?)?),
            false => apply(guided.cond),
        }
    }));
    Ok(NodeOutput::one(model_value(model)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::pixels::{tensor, values};

    /// The latent that the original was run on.
    fn latent() -> Tensor {
        let data =
            (0..4 * 12 * 14).map(|i| ((i * i % 97) as f32 / 20.0 - 2.0) * (1.0 + (i % 5) as f32 / 5.0));
        tensor(data.collect(), &[1, 4, 12, 14]).unwrap()
    }

    /// Some values of an operation's result, compared with what the original gave.
    fn check(operation: Operation, expected: &[f32]) {
        let found = values(&operation.apply(&latent()).unwrap()).unwrap();
        let some: Vec<f32> = found.into_iter().step_by(61).collect();
        for (found, expected) in some.iter().zip(expected) {
            assert!((found - expected).abs() < 2e-4, "{operation:?}: {found} instead of {expected}");
        }
        assert_eq!(some.len(), expected.len());
    }

    #[test]
    fn operations_give_what_the_original_gives() {
        check(Operation::Tonemap { multiplier: 1.5 }, &TONEMAPPED);
        check(Operation::Sharpen { radius: 3, sigma: 0.7, alpha: 0.4 }, &SHARPENED);
    }

    const TONEMAPPED: [f32; 12] = [
        -1.42211, -0.231884, 0.167408, -0.963597, 2.3457, -1.54564, 2.53069, 1.53902, -2.0461, -1.29932,
        -1.13102, 1.19056,
    ];
    const SHARPENED: [f32; 12] = [
        -8.98981, -6.39662, 0.85879, -5.37246, 10.7327, -8.56262, 13.4661, 7.36484, -10.2019, -11.1771,
        -7.73997, 4.74748,
    ];
}
