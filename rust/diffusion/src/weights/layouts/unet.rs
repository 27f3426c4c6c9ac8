//! diffusers' names of UNet modules (`down_blocks.0.resnets.1.conv1`) beside the original ones
//! (`input_blocks.2.0.in_layers.2`). Which levels, blocks and transformers there are is read from the
//! names on either side, so the table fits every size of model.

use std::collections::HashMap;

use super::open_clip::block_tensors;
use crate::weights::StateDict;

/// Modules of a residual block: diffusers' name, the original one.
const RES_BLOCK: [(&str, &str); 6] = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];

/// Modules outside the blocks.
const TOP: [(&str, &str); 7] = [
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
];

/// One level of a UNet's half: for each residual block, whether a transformer follows; and whether the
/// level ends with a change of resolution.
#[derive(Debug, Clone, Default, PartialEq)]
struct Level {
    transformers: Vec<bool>,
    resamples: bool,
}

/// Pairs of a diffusers module prefix and the original one. Residual blocks are pairs of whole blocks;
/// their inner modules are renamed by [`RES_BLOCK`].
#[derive(Debug, Default)]
struct Pairs {
    res_blocks: Vec<(String, String)>,
    others: Vec<(String, String)>,
}

fn pairs(down: &[Level], up: &[Level]) -> Pairs {
    let mut pairs = Pairs::default();
    pairs.others.extend(TOP.iter().map(|(a, b)| (a.to_string(), b.to_string())));
    let mut index = 1;
    for (level, Level { transformers, resamples }) in down.iter().enumerate() {
        for (block, transformer) in transformers.iter().enumerate() {
            let ours = format!("input_blocks.{index}");
            pairs.res_blocks.push((format!("down_blocks.{level}.resnets.{block}"), format!("{ours}.0")));
            if *transformer {
                pairs.others.push((format!("down_blocks.{level}.attentions.{block}"), format!("{ours}.1")));
            }
            index += 1;
        }
        if *resamples {
            let theirs = format!("down_blocks.{level}.downsamplers.0.conv");
            pairs.others.push((theirs, format!("input_blocks.{index}.0.op")));
            index += 1;
        }
    }
    for (theirs, ours) in [("resnets.0", "0"), ("resnets.1", "2")] {
        pairs.res_blocks.push((format!("mid_block.{theirs}"), format!("middle_block.{ours}")));
    }
    pairs.others.push(("mid_block.attentions.0".to_string(), "middle_block.1".to_string()));
    index = 0;
    for (level, Level { transformers, resamples }) in up.iter().enumerate() {
        for (block, transformer) in transformers.iter().enumerate() {
            let ours = format!("output_blocks.{index}");
            pairs.res_blocks.push((format!("up_blocks.{level}.resnets.{block}"), format!("{ours}.0")));
            if *transformer {
                pairs.others.push((format!("up_blocks.{level}.attentions.{block}"), format!("{ours}.1")));
            }
            if *resamples && block + 1 == transformers.len() {
                let part = if *transformer { 2 } else { 1 };
                let theirs = format!("up_blocks.{level}.upsamplers.0.conv");
                pairs.others.push((theirs, format!("{ours}.{part}.conv")));
            }
            index += 1;
        }
    }
    pairs
}

/// Levels of a UNet in the original layout.
fn original_levels(dict: &StateDict) -> (Vec<Level>, Vec<Level>) {
    let mut down = vec![Level::default()];
    for index in 1..dict.count_blocks("input_blocks.") {
        let block = format!("input_blocks.{index}.");
        let Some(level) = down.last_mut() else { break };
        if dict.contains(&format!("{block}0.op.weight")) {
            level.resamples = true;
            down.push(Level::default());
        } else {
            level.transformers.push(dict.contains(&format!("{block}1.proj_in.weight")));
        }
    }
    let mut up = vec![Level::default()];
    for index in 0..dict.count_blocks("output_blocks.") {
        let block = format!("output_blocks.{index}.");
        let Some(level) = up.last_mut() else { break };
        level.transformers.push(dict.contains(&format!("{block}1.proj_in.weight")));
        if (1..3).any(|part| dict.contains(&format!("{block}{part}.conv.weight"))) {
            level.resamples = true;
            up.push(Level::default());
        }
    }
    (down, up)
}

/// Levels of a UNet in diffusers' layout.
fn diffusers_levels(dict: &StateDict, half: &str, resampler: &str) -> Vec<Level> {
    (0..dict.count_blocks(half))
        .map(|level| {
            let block = format!("{half}{level}.");
            Level {
                transformers: (0..dict.count_blocks(&format!("{block}resnets.")))
                    .map(|i| dict.has_prefix(&format!("{block}attentions.{i}.")))
                    .collect(),
                resamples: dict.has_prefix(&format!("{block}{resampler}.")),
            }
        })
        .collect()
}

/// For a UNet in the original layout (keys without prefix), diffusers' name of each module by the
/// original name.
pub fn diffusers_module_names(dict: &StateDict) -> HashMap<String, String> {
    let (down, up) = original_levels(dict);
    let pairs = pairs(&down, &up);
    let mut names = HashMap::new();
    for (name, _) in dict.iter() {
        let Some((module, _)) = name.rsplit_once('.') else { continue };
        let theirs = pairs
            .res_blocks
            .iter()
            .find_map(|(theirs, ours)| {
                let inner = module.strip_prefix(ours)?.strip_prefix('.')?;
                let (inner, _) = RES_BLOCK.iter().find(|(_, original)| *original == inner)?;
                Some(format!("{theirs}.{inner}"))
            })
            .or_else(|| pairs.others.iter().find_map(|(theirs, ours)| swap_prefix(module, ours, theirs)));
        if let Some(theirs) = theirs {
            names.insert(module.to_string(), theirs);
        }
    }
    names
}

/// A UNet in diffusers' layout (keys without prefix) in the original one.
pub fn from_diffusers(dict: &StateDict) -> StateDict {
    let down = diffusers_levels(dict, "down_blocks.", "downsamplers");
    let up = diffusers_levels(dict, "up_blocks.", "upsamplers");
    let pairs = pairs(&down, &up);
    dict.rename(|name| {
        let res_block = pairs.res_blocks.iter().find_map(|(theirs, ours)| {
            let (inner, leaf) = name.strip_prefix(theirs)?.strip_prefix('.')?.rsplit_once('.')?;
            let (_, original) = RES_BLOCK.iter().find(|(theirs, _)| *theirs == inner)?;
            Some(format!("{ours}.{original}.{leaf}"))
        });
        res_block.or_else(|| pairs.others.iter().find_map(|(theirs, ours)| swap_prefix(name, theirs, ours)))
    })
}

/// Parts of a control network beside its copy of a UNet's half: diffusers' prefix and the original one.
const CONTROL: [(&str, &str); 3] = [
    ("controlnet_cond_embedding.conv_in.", "input_hint_block.0."),
    ("controlnet_cond_embedding.conv_out.", "input_hint_block.14."),
    ("controlnet_mid_block.", "middle_block_out.0."),
];

/// Parts that only union networks have, which have no original layout: they keep their names.
const UNION: [&str; 3] = ["task_embedding", "spatial_ch_projs.", "control_add_embedding."];

/// A control network in diffusers' layout (keys without prefix) in the original one.
pub fn control_from_diffusers(dict: &StateDict) -> StateDict {
    let mut original = from_diffusers(dict);
    // Blocks of a union network's transformer have OpenCLIP's names.
    original.extend(&dict.flat_map(|name, entry| {
        match name.strip_prefix("transformer_layes.").and_then(|rest| rest.split_once('.')) {
            Some((block, rest)) => block_tensors(&format!("transformer_layes.{block}."), rest, entry),
            None => Vec::new(),
        }
    }));
    original.extend(&dict.rename(|name| {
        if UNION.iter().any(|part| name.starts_with(part)) {
            return Some(name.to_string());
        }
        if let Some((block, leaf)) =
            name.strip_prefix("controlnet_cond_embedding.blocks.").and_then(|rest| rest.split_once('.'))
        {
            return Some(format!("input_hint_block.{}.{leaf}", 2 * (block.parse::<usize>().ok()? + 1)));
        }
        if let Some((block, leaf)) =
            name.strip_prefix("controlnet_down_blocks.").and_then(|rest| rest.split_once('.'))
        {
            return Some(format!("zero_convs.{block}.0.{leaf}"));
        }
        CONTROL.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", name.strip_prefix(theirs)?)))
    }));
    original
}

/// `name` with the module prefix `from` replaced by `to`.
fn swap_prefix(name: &str, from: &str, to: &str) -> Option<String> {
    match name.strip_prefix(from)? {
        "" => Some(to.to_string()),
        rest => rest.starts_with('.').then(|| format!("{to}{rest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::UNetSize;
    use crate::weights::{Entry, FileDtype};

    #[test]
    fn names_survive_the_way_to_diffusers_and_back() {
        let empty = Entry::from_bytes(Vec::new(), FileDtype::F32, vec![0]).unwrap();
        let shapes = UNetSize::stable_diffusion_1_5().shapes();
        let dict = StateDict::from_entries(shapes.keys().map(|name| (name.clone(), empty.clone())));
        let names = diffusers_module_names(&dict);
        assert_eq!(
            names.get("output_blocks.5.1.transformer_blocks.0.attn1.to_q").map(String::as_str),
            Some("up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_q")
        );
        let renamed = dict.rename(|name| {
            let (module, leaf) = name.rsplit_once('.')?;
            Some(format!("{}.{leaf}", names.get(module)?))
        });
        assert_eq!(renamed.len(), dict.len());
        let back = from_diffusers(&renamed);
        let sorted = |dict: &StateDict| {
            let mut names: Vec<String> = dict.iter().map(|(name, _)| name.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(sorted(&back), sorted(&dict));
    }
}
