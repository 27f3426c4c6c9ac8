//! Shorthands for schemas, and the lists of choices that many classes share.

use rushlight_graph::{InputSpec, NodeSchema};
use rushlight_runtime::{Host, Inputs, Value as RuntimeValue};
use serde_json::Value;

/// The largest width or height that core nodes accept, in pixels.
pub(crate) const MAX_RESOLUTION: i64 = 16384;

/// How pictures are resized.
pub(crate) const IMAGE_RESIZES: [&str; 5] = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"];

/// How latents are resized.
pub(crate) const LATENT_RESIZES: [&str; 5] = ["nearest-exact", "bilinear", "area", "bicubic", "bislerp"];

/// What is done with another aspect ratio.
pub(crate) const CROPS: [&str; 2] = ["disabled", "center"];

/// Every sampler a KSampler offers, in upstream's order.
pub(crate) const SAMPLERS: [&str; 44] = [
    "euler",
    "euler_cfg_pp",
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "heun",
    "heunpp2",
    "exp_heun_2_x0",
    "exp_heun_2_x0_sde",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp",
    "dpmpp_sde",
    "dpmpp_sde_gpu",
    "dpmpp_2m",
    "dpmpp_2m_cfg_pp",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu",
    "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu",
    "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu",
    "ddpm",
    "lcm",
    "ipndm",
    "ipndm_v",
    "deis",
    "res_multistep",
    "res_multistep_cfg_pp",
    "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp",
    "gradient_estimation",
    "gradient_estimation_cfg_pp",
    "er_sde",
    "seeds_2",
    "seeds_3",
    "sa_solver",
    "sa_solver_pece",
    "ddim",
    "uni_pc",
    "uni_pc_bh2",
];

/// Every scheduler a KSampler offers, in upstream's order.
pub(crate) const SCHEDULERS: [&str; 9] = [
    "simple",
    "sgm_uniform",
    "karras",
    "exponential",
    "ddim_uniform",
    "beta",
    "normal",
    "linear_quadratic",
    "kl_optimal",
];

/// An INT input with a widget.
pub(crate) fn int(
    name: &str,
    default: impl Into<Value>,
    min: impl Into<Value>,
    max: impl Into<Value>,
) -> InputSpec {
    InputSpec::new(name, "INT").default(default).range(min, max)
}

/// A FLOAT input with a widget.
pub(crate) fn float(
    name: &str,
    default: impl Into<Value>,
    min: impl Into<Value>,
    max: impl Into<Value>,
) -> InputSpec {
    InputSpec::new(name, "FLOAT").default(default).range(min, max)
}

/// A BOOLEAN input with a widget.
pub(crate) fn boolean(name: &str, default: bool) -> InputSpec {
    InputSpec::new(name, "BOOLEAN").default(default)
}

/// A STRING input of several lines.
pub(crate) fn text(name: &str) -> InputSpec {
    InputSpec::new(name, "STRING").opt("multiline", true)
}

/// A STRING input of one line.
pub(crate) fn line(name: &str, default: &str) -> InputSpec {
    InputSpec::new(name, "STRING").default(default).opt("multiline", false)
}

/// A choice in the newer form: type `COMBO`, the choices among the options.
pub(crate) fn choice<S: AsRef<str>>(name: &str, choices: impl IntoIterator<Item = S>) -> InputSpec {
    let options: Vec<Value> = choices.into_iter().map(|choice| Value::from(choice.as_ref())).collect();
    InputSpec::new(name, "COMBO").opt("multiselect", false).opt("options", options)
}

/// Names of the models in a folder.
pub(crate) fn model_names(host: &dyn Host, folder: &str) -> Vec<String> {
    host.model_names(folder)
}

/// A class of the newer kind from upstream's module `comfy_extras.nodes_MODULE`: `/object_info` has further keys for
/// it, and no display name unless one is given.
pub(crate) fn v3(name: &str, category: &str, module: &str) -> NodeSchema {
    NodeSchema::new(name, category)
        .module(&format!("comfy_extras.nodes_{module}"))
        .extra("display_name", Value::Null)
        .extra("api_node", false)
        .extra("deprecated", false)
        .extra("experimental", false)
        .extra("output_matchtypes", Value::Null)
}

/// The values of an input that takes any number of sockets, in the order of their numbers.
pub(crate) fn grown<'a>(inputs: &'a Inputs, name: &str) -> Vec<&'a RuntimeValue> {
    if let Some(RuntimeValue::List(items)) = inputs.get(name) {
        return items.iter().collect();
    }
    let mut found: Vec<_> = inputs
        .iter()
        .filter_map(|(key, value)| {
            let member = key.strip_prefix(name)?.strip_prefix('.')?;
            let digits = member.trim_start_matches(|c: char| !c.is_ascii_digit());
            Some((digits.parse().unwrap_or(usize::MAX), value))
        })
        .filter(|(_, value)| !matches!(value, RuntimeValue::None))
        .collect();
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, value)| value).collect()
}
