//! diffusers' names of a VAE's modules.

use crate::weights::StateDict;

/// Modules inside a residual or attention block, and of the middle: diffusers' name, the original one.
/// The older attention names are in the same table.
const INNER: [(&str, &str); 14] = [
    ("conv_shortcut", "nin_shortcut"),
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("mid_block.attentions.0", "mid.attn_1"),
    ("group_norm", "norm"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "proj_out"),
    ("query", "q"),
    ("key", "k"),
    ("value", "v"),
    ("proj_attn", "proj_out"),
    ("conv_norm_out", "norm_out"),
];

/// A VAE in diffusers' layout (keys without prefix) in the original one.
pub fn from_diffusers(dict: &StateDict) -> StateDict {
    let levels = dict.count_blocks("decoder.up_blocks.");
    dict.rename(|name| Some(original_name(name, levels)))
}

/// Whether a VAE's keys are diffusers'.
pub fn is_diffusers(dict: &StateDict) -> bool {
    dict.has_prefix("decoder.up_blocks.") || dict.has_prefix("encoder.down_blocks.")
}

fn original_name(name: &str, levels: usize) -> String {
    let name = block_name(name, levels).unwrap_or_else(|| name.to_string());
    // Whole modules only: a dot or an end on both sides.
    let dotted = format!(".{name}.");
    let renamed = INNER
        .iter()
        .fold(dotted, |name, (theirs, ours)| name.replace(&format!(".{theirs}."), &format!(".{ours}.")));
    renamed.trim_matches('.').to_string()
}

/// `encoder.down_blocks.I.resnets.J` to `encoder.down.I.block.J`, and the decoder's levels counted from
/// the other end.
fn block_name(name: &str, levels: usize) -> Option<String> {
    let (half, rest, reversed) = match name.strip_prefix("encoder.down_blocks.") {
        Some(rest) => ("encoder.down", rest, false),
        None => ("decoder.up", name.strip_prefix("decoder.up_blocks.")?, true),
    };
    let (level, rest) = rest.split_once('.')?;
    let level: usize = level.parse().ok()?;
    let level = if reversed { levels.checked_sub(level + 1)? } else { level };
    let rest = rest
        .strip_prefix("resnets.")
        .map(|rest| format!("block.{rest}"))
        .or_else(|| Some(format!("downsample.{}", rest.strip_prefix("downsamplers.0.")?)))
        .or_else(|| Some(format!("upsample.{}", rest.strip_prefix("upsamplers.0.")?)))
        .unwrap_or_else(|| rest.to_string());
    Some(format!("{half}.{level}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diffusers_names_become_the_original_ones() {
        let cases = [
            (
                "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
                "encoder.down.1.block.0.nin_shortcut.weight",
            ),
            ("encoder.down_blocks.0.downsamplers.0.conv.bias", "encoder.down.0.downsample.conv.bias"),
            ("decoder.up_blocks.0.resnets.2.norm1.weight", "decoder.up.3.block.2.norm1.weight"),
            ("decoder.up_blocks.1.upsamplers.0.conv.weight", "decoder.up.2.upsample.conv.weight"),
            ("decoder.mid_block.attentions.0.to_out.0.weight", "decoder.mid.attn_1.proj_out.weight"),
            ("decoder.mid_block.attentions.0.query.weight", "decoder.mid.attn_1.q.weight"),
            ("encoder.mid_block.resnets.1.conv2.weight", "encoder.mid.block_2.conv2.weight"),
            ("decoder.conv_norm_out.weight", "decoder.norm_out.weight"),
            ("post_quant_conv.weight", "post_quant_conv.weight"),
        ];
        for (theirs, ours) in cases {
            assert_eq!(original_name(theirs, 4), ours);
        }
    }
}
