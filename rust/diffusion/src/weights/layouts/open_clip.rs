//! OpenCLIP text encoders.

use crate::weights::{Entry, StateDict};

/// Suffixes of an OpenCLIP residual block and what they are called in the Hugging Face layout.
const OPEN_CLIP_BLOCK: [(&str, &str); 5] = [
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
    ("attn.out_proj.", "self_attn.out_proj."),
];

/// Tensors outside the blocks.
const OPEN_CLIP_TOP: [(&str, &str); 4] = [
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    ("ln_final.weight", "text_model.final_layer_norm.weight"),
    ("ln_final.bias", "text_model.final_layer_norm.bias"),
];

/// An OpenCLIP text encoder (`transformer.resblocks.N`, one fused input projection, `text_projection`
/// stored transposed) in the Hugging Face layout. Tensors of other names are left out.
pub fn open_clip_to_hugging_face(dict: &StateDict) -> StateDict {
    dict.flat_map(open_clip_tensor)
}

fn open_clip_tensor(name: &str, entry: &Entry) -> Vec<(String, Entry)> {
    if let Some((_, ours)) = OPEN_CLIP_TOP.iter().find(|(theirs, _)| *theirs == name) {
        return vec![(ours.to_string(), entry.clone())];
    }
    match name {
        "text_projection" => return vec![("text_projection.weight".to_string(), entry.transpose())],
        "text_projection.weight" => return vec![(name.to_string(), entry.clone())],
        _ => {}
    }
    let Some((block, rest)) = name.strip_prefix("transformer.resblocks.").and_then(|n| n.split_once('.'))
    else {
        return Vec::new();
    };
    block_tensors(&format!("text_model.encoder.layers.{block}."), rest, entry)
}

/// A tensor of an OpenCLIP residual block, `rest` its name in it, as tensors of the Hugging Face block `ours`.
pub(super) fn block_tensors(ours: &str, rest: &str, entry: &Entry) -> Vec<(String, Entry)> {
    if let Some(kind) = rest.strip_prefix("attn.in_proj_") {
        return ["q_proj", "k_proj", "v_proj"]
            .iter()
            .enumerate()
            .filter_map(|(i, part)| Some((format!("{ours}self_attn.{part}.{kind}"), entry.chunk(i, 3)?)))
            .collect();
    }
    OPEN_CLIP_BLOCK
        .iter()
        .find_map(|(theirs, new)| Some((format!("{ours}{new}{}", rest.strip_prefix(theirs)?), entry.clone())))
        .into_iter()
        .collect()
}

/// Tensors of a picture encoder outside its blocks.
const OPEN_CLIP_VISION: [(&str, &str); 7] = [
    ("conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    ("class_embedding", "vision_model.embeddings.class_embedding"),
    ("positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("ln_pre.weight", "vision_model.pre_layrnorm.weight"),
    ("ln_pre.bias", "vision_model.pre_layrnorm.bias"),
    ("ln_post.weight", "vision_model.post_layernorm.weight"),
    ("ln_post.bias", "vision_model.post_layernorm.bias"),
];

/// An OpenCLIP picture encoder (keys from `visual.` on, without it) in the Hugging Face layout.
pub fn open_clip_vision_to_hugging_face(dict: &StateDict) -> StateDict {
    dict.flat_map(|name, entry| {
        if let Some((_, ours)) = OPEN_CLIP_VISION.iter().find(|(theirs, _)| *theirs == name) {
            return vec![(ours.to_string(), entry.clone())];
        }
        if name == "proj" {
            return vec![("visual_projection.weight".to_string(), entry.transpose())];
        }
        match name.strip_prefix("transformer.resblocks.").and_then(|rest| rest.split_once('.')) {
            Some((block, rest)) => {
                block_tensors(&format!("vision_model.encoder.layers.{block}."), rest, entry)
            }
            None => Vec::new(),
        }
    })
}
