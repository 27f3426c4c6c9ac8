//! ControlNets and T2I adapters with the outputs that diffusers computed for them (`tests/data/control`).

use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::checkpoint::LoadOptions;
use rushlight_diffusion::conditioning::ControlInput;
use rushlight_diffusion::loaders;
use rushlight_diffusion::models::adapter::Adapter;
use rushlight_diffusion::weights::{StateDict, Weights};

use crate::common::assert_close;

const TOLERANCE: f32 = 1e-3;

fn open(name: &str) -> StateDict {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/control");
    StateDict::open(&std::path::Path::new(folder).join(format!("{name}.safetensors"))).unwrap()
}

fn io(dict: &StateDict, name: &str) -> Tensor {
    let entry = dict.get(&format!("io.{name}")).unwrap_or_else(|| panic!("no {name}"));
    entry.tensor(DType::F32, &Device::Cpu).unwrap()
}

fn check_control(name: &str, union_type: Option<usize>) {
    let dict = open(name);
    let model = loaders::control_net(&dict, name, &LoadOptions::default()).unwrap();
    let [x, hint, timestep, context, y] = ["x", "hint", "t", "context", "y"].map(|part| io(&dict, part));
    let input = ControlInput {
        x: &x,
        hint: &hint,
        timestep: &timestep,
        context: Some(&context),
        y: Some(&y),
        union_type,
    };
    let residuals = model.forward(&input).unwrap();
    assert_eq!(residuals.output.len(), 4);
    for (i, found) in residuals.output.iter().enumerate() {
        let part = format!("output.{i}");
        assert_close(&format!("{name} {part}"), found.as_ref().unwrap(), &io(&dict, &part), TOLERANCE);
    }
    let middle = residuals.middle[0].as_ref().unwrap();
    assert_close(&format!("{name} middle"), middle, &io(&dict, "middle"), TOLERANCE);
}

#[test]
fn control_nets_in_the_layout_of_diffusers_compute_what_it_does() {
    check_control("diffusers", None);
}

/// With the attention of its transformer over the tokens; see the README beside the files.
#[test]
fn union_control_nets_compute_what_diffusers_does() {
    check_control("union", Some(3));
}

#[test]
fn adapters_compute_what_diffusers_does() {
    for name in ["full_adapter", "light_adapter", "full_adapter_xl"] {
        let dict = open(name);
        let adapter = Adapter::new(&Weights::new(dict.clone(), DType::F32, &Device::Cpu)).unwrap();
        let features = adapter.features(&io(&dict, "hint")).unwrap();
        assert_eq!(features.len(), 4);
        for (i, found) in features.iter().enumerate() {
            let part = format!("feature.{i}");
            assert_close(&format!("{name} {part}"), found, &io(&dict, &part), TOLERANCE);
        }
    }
}

/// A feature of each level goes where diffusers adds it: in SDXL to the halved map of the first level, the last blocks of
/// the other two, and the middle. A latent of odd sides has maps of half of it and a place more.
#[test]
fn features_of_an_sdxl_adapter_go_to_its_blocks() {
    let dict = open("full_adapter_xl");
    let model = loaders::control_net(&dict, "adapter", &LoadOptions::default()).unwrap();
    let hint = io(&dict, "hint").narrow(2, 0, 56).unwrap();
    let x = Tensor::zeros((1, 4, 7, hint.dim(3).unwrap() / 8), DType::F32, &Device::Cpu).unwrap();
    let timestep = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let input =
        ControlInput { x: &x, hint: &hint, timestep: &timestep, context: None, y: None, union_type: None };
    let residuals = model.forward(&input).unwrap();
    let heights: Vec<(usize, usize)> = residuals
        .input
        .iter()
        .enumerate()
        .filter_map(|(block, feature)| Some((block, feature.as_ref()?.dim(2).unwrap())))
        .collect();
    assert_eq!(heights, [(3, 4), (5, 4), (8, 2)]);
    assert_eq!(residuals.middle[0].as_ref().unwrap().dim(2).unwrap(), 2);
}
