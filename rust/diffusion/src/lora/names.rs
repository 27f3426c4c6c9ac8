//! The names that LoRA files give to modules.

use std::collections::HashMap;

use crate::weights::{StateDict, layouts};

/// Suffixes of tensor names and the role of the tensor, longest first where one ends with another.
const ROLES: [(&str, &str); 36] = [
    (".lora_up.weight", "up"),
    (".lora_down.weight", "down"),
    (".lora_mid.weight", "mid"),
    (".lora_B.default.weight", "up"),
    (".lora_A.default.weight", "down"),
    (".lora_B.weight", "up"),
    (".lora_A.weight", "down"),
    (".lora_B", "up"),
    (".lora_A", "down"),
    (".lora_linear_layer.up.weight", "up"),
    (".lora_linear_layer.down.weight", "down"),
    (".lora.up.weight", "up"),
    (".lora.down.weight", "down"),
    ("_lora.up.weight", "up"),
    ("_lora.down.weight", "down"),
    (".lora_up", "up"),
    (".lora_down", "down"),
    (".alpha", "alpha"),
    (".dora_scale", "dora_scale"),
    (".lora_magnitude_vector.default.weight", "dora_scale"),
    (".lora_magnitude_vector.weight", "dora_scale"),
    (".lora_magnitude_vector", "dora_scale"),
    (".hada_w1_a", "hada_w1_a"),
    (".hada_w1_b", "hada_w1_b"),
    (".hada_w2_a", "hada_w2_a"),
    (".hada_w2_b", "hada_w2_b"),
    (".hada_t1", "hada_t1"),
    (".hada_t2", "hada_t2"),
    (".lokr_w1", "lokr_w1"),
    (".lokr_w1_a", "lokr_w1_a"),
    (".lokr_w1_b", "lokr_w1_b"),
    (".lokr_w2", "lokr_w2"),
    (".lokr_w2_a", "lokr_w2_a"),
    (".lokr_w2_b", "lokr_w2_b"),
    (".lokr_t2", "lokr_t2"),
    (".diff", "diff"),
];

/// More suffixes, of full differences.
const DIFFERENCES: [(&str, &str); 3] = [(".diff_b", "diff_b"), (".w_norm", "diff"), (".b_norm", "diff_b")];

/// A tensor's name as the module's part and the tensor's role.
pub(super) fn split_role(name: &str) -> Option<(String, &'static str)> {
    ROLES
        .iter()
        .chain(&DIFFERENCES)
        .find_map(|(suffix, role)| Some((name.strip_suffix(suffix)?.to_string(), *role)))
}

/// A part of a checkpoint that a LoRA file can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The diffusion model.
    Model,
    /// The only text encoder.
    OnlyText,
    /// The first of two.
    FirstText,
    /// The second of two.
    SecondText,
}

impl Part {
    /// The part that a text encoder is. The refiner's only encoder is CLIP-G, which files call the second.
    pub(super) fn text_encoder(index: usize, name: &str, count: usize) -> Self {
        match (index, count) {
            (0, 1) if name == "g" => Self::SecondText,
            (0, 1) => Self::OnlyText,
            (0, _) => Self::FirstText,
            _ => Self::SecondText,
        }
    }

    fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Model => &[
                "lora_unet_",
                "lycoris_",
                "model_diffusion_model_",
                "diffusion_model_",
                "base_model_model_",
                "transformer_",
                "unet_",
            ],
            Self::OnlyText => &["lora_te_", "lora_te1_", "text_encoder_", "clip_l_transformer_"],
            Self::FirstText => &["lora_te1_", "lora_te_", "text_encoder_", "clip_l_transformer_"],
            Self::SecondText => &["lora_te2_", "text_encoder_2_", "clip_g_transformer_"],
        }
    }

    /// The module's name, dots as underscores, without the prefix of this part; `None` when the module
    /// is of another part.
    pub(super) fn strip(self, stem: &str) -> Option<String> {
        let flat = stem.replace(".processor.", ".").replace('.', "_");
        let name = self.prefixes().iter().find_map(|prefix| flat.strip_prefix(prefix))?;
        // "text_encoder_2_" starts with "text_encoder_" too.
        let of_second = flat.starts_with("text_encoder_2_") && self != Self::SecondText;
        (!of_second).then(|| name.to_string())
    }
}

/// Modules of a model by every name a LoRA file may call them, dots as underscores.
#[derive(Debug, Default)]
pub(super) struct ModuleNames(HashMap<String, String>);

impl ModuleNames {
    pub(super) fn of_diffusion_model(dict: &StateDict) -> Self {
        let mut names = Self::default();
        for module in modules(dict) {
            names.add(&module, &module);
        }
        for (module, diffusers) in layouts::unet::diffusers_module_names(dict) {
            names.add(&diffusers, &module);
        }
        names
    }

    pub(super) fn of_text_encoder(dict: &StateDict) -> Self {
        let mut names = Self::default();
        for module in modules(dict) {
            names.add(&module, &module);
        }
        names
    }

    fn add(&mut self, name: &str, module: &str) {
        let flat = name.replace('.', "_");
        // Early diffusers files call `to_out.0` just `to_out`.
        if let Some(short) = flat.strip_suffix("_to_out_0") {
            self.0.insert(format!("{short}_to_out"), module.to_string());
        }
        self.0.insert(flat, module.to_string());
    }

    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn modules(dict: &StateDict) -> impl Iterator<Item = String> {
    dict.iter().filter_map(|(name, _)| name.strip_suffix(".weight").map(str::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_kinds_lose_their_prefixes_and_suffixes() {
        let cases = [
            ("lora_unet_a_b.lora_up.weight", Part::Model, Some("a_b")),
            ("unet.a.b.processor.to_q.lora_A.weight", Part::Model, Some("a_b_to_q")),
            ("unet.a.processor.to_out_lora.down.weight", Part::Model, Some("a_to_out")),
            ("diffusion_model.a.b.lora_B.weight", Part::Model, Some("a_b")),
            ("lora_te2_text_model_x.alpha", Part::SecondText, Some("text_model_x")),
            ("text_encoder_2.text_model.x.lora_A.weight", Part::FirstText, None),
            ("text_encoder_2.text_model.x.lora_A.weight", Part::SecondText, Some("text_model_x")),
            ("text_encoder.text_model.x.lora_A.weight", Part::OnlyText, Some("text_model_x")),
            ("lora_unet_a.diff_b", Part::OnlyText, None),
        ];
        for (name, part, expected) in cases {
            let (stem, _) = split_role(name).unwrap();
            assert_eq!(part.strip(&stem).as_deref(), expected, "{name}");
        }
    }
}
