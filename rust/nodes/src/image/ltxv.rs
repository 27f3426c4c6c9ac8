//! Pictures made to look like frames of a video.

use crate::media::{find, h264};
use crate::prelude::*;

/// Registers the family. It needs an encoder that only an `ffmpeg` executable has.
pub(crate) fn register(registry: &mut Registry) {
    if find::ffmpeg().is_some() {
        add(registry, "LTXVPreprocess", ltxv_preprocess_schema, ltxv_preprocess);
    }
}

fn ltxv_preprocess_schema(_: &dyn Host) -> NodeSchema {
    v3("LTXVPreprocess", "image", "lt")
        .input(InputSpec::new("image", "IMAGE"))
        .input(int("img_compression", 35, 0, 100))
        .output(OutputSpec::named("IMAGE", "output_image"))
}
fn ltxv_preprocess(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let image = inputs.image("image")?;
    let compression = u32::try_from(inputs.size("img_compression")?).unwrap_or(u32::MAX);
    if compression == 0 {
        return Ok(NodeOutput::one(Value::Image(image.clone())));
    }
    let seen = h264::compressed(&Pixels::from_image(image)?, compression, &ctx.run.cancel)?;
    Ok(NodeOutput::one(Value::Image(seen.into_image()?)))
}
