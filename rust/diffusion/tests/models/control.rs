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
    for name in ["full_adapter", "light_adapter"] {
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
