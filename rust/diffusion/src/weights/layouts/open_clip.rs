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

/// The inverse of [`open_clip_to_hugging_face`].
pub fn hugging_face_to_open_clip(dict: &StateDict) -> StateDict {
    dict.flat_map(|name, entry| {
        if let Some((theirs, _)) = OPEN_CLIP_TOP.iter().find(|(_, ours)| *ours == name) {
            return Some((theirs.to_string(), entry.clone()));
        }
        if name == "text_projection.weight" {
            return Some(("text_projection".to_string(), entry.transpose()));
        }
        let (block, rest) = name.strip_prefix("text_model.encoder.layers.")?.split_once('.')?;
        let theirs = format!("transformer.resblocks.{block}.");
        // The three projections are fused where the first of them is.
        if let Some(kind) = rest.strip_prefix("self_attn.q_proj.") {
            let part = |part: &str| {
                dict.get(&format!("text_model.encoder.layers.{block}.self_attn.{part}.{kind}")).cloned()
            };
            let fused = Entry::stacked(&[entry.clone(), part("k_proj")?, part("v_proj")?])?;
            return Some((format!("{theirs}attn.in_proj_{kind}"), fused));
        }
        OPEN_CLIP_BLOCK.iter().find_map(|(old, ours)| {
            Some((format!("{theirs}{old}{}", rest.strip_prefix(ours)?), entry.clone()))
        })
    })
}

/// A tensor of an OpenCLIP residual block, `rest` its name in it, as tensors of the Hugging Face block `ours`.
pub(crate) fn block_tensors(ours: &str, rest: &str, entry: &Entry) -> Vec<(String, Entry)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::FileDtype;

    #[test]
    fn a_text_encoder_survives_the_way_there_and_back() {
        let tensor = |rows: usize, columns: usize, first: usize| {
            let numbers = (0..rows * columns).flat_map(|i| ((first + i) as f32).to_le_bytes()).collect();
            let shape = if columns == 1 { vec![rows] } else { vec![rows, columns] };
            Entry::from_bytes(numbers, FileDtype::F32, shape).unwrap()
        };
        let names = [
            ("token_embedding.weight", 5, 2),
            ("ln_final.bias", 2, 1),
            ("text_projection", 2, 3),
            ("transformer.resblocks.0.attn.in_proj_weight", 6, 2),
            ("transformer.resblocks.0.attn.in_proj_bias", 6, 1),
            ("transformer.resblocks.0.attn.out_proj.weight", 2, 2),
            ("transformer.resblocks.0.mlp.c_fc.weight", 8, 2),
            ("transformer.resblocks.0.ln_1.weight", 2, 1),
        ];
        let original = StateDict::from_entries(
            names
                .iter()
                .enumerate()
                .map(|(i, (name, rows, columns))| (name.to_string(), tensor(*rows, *columns, i * 10))),
        );
        let back = hugging_face_to_open_clip(&open_clip_to_hugging_face(&original));
        assert_eq!(back.len(), original.len());
        for (name, entry) in original.iter() {
            let found = back.get(name).unwrap().materialised();
            assert_eq!((found.shape(), found.to_f32()), (entry.shape(), entry.to_f32()), "{name}");
        }
    }
}
