//! Paths of points drawn over pictures.

use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "WanMoveVisualizeTracks", wan_move_visualize_tracks_schema, wan_move_visualize_tracks);
}

fn wan_move_visualize_tracks_schema(_: &dyn Host) -> NodeSchema {
    v3("WanMoveVisualizeTracks", "conditioning/video_models", "wanmove")
        .input(InputSpec::new("images", "IMAGE"))
        .input(int("line_resolution", 24, 1, 1024))
        .input(int("circle_size", 12, 1, 128))
        .input(float("opacity", 0.75, 0.0, 1.0).step(0.01))
        .input(int("line_width", 16, 1, 128))
        .input(InputSpec::new("tracks", "TRACKS").optional())
        .output(OutputSpec::new("IMAGE"))
}
fn wan_move_visualize_tracks(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    // No native class makes tracks; without them there is nothing to draw.
    if inputs.present("tracks").is_some() {
        return Err(NodeError::new(
            "NotImplementedError",
            "drawing tracks is not supported by this server: disconnect 'tracks' to pass the images on",
        ));
    }
    Ok(NodeOutput::one(Value::Image(inputs.image("images")?.clone())))
}
