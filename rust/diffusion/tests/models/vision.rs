//! Picture encoders, style models and unCLIP with what transformers, PyTorch and diffusers computed (`tests/data/vision`).

use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::checkpoint::LoadOptions;
use rushlight_diffusion::loaders;
use rushlight_diffusion::unclip::{NoiseAugmentor, PictureCondition};
use rushlight_diffusion::weights::StateDict;

use crate::common::assert_close;

fn open(name: &str) -> StateDict {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/vision");
    StateDict::open(&std::path::Path::new(folder).join(format!("{name}.safetensors"))).unwrap()
}

fn io(dict: &StateDict, name: &str) -> Tensor {
    let entry = dict.get(&format!("io.{name}")).unwrap_or_else(|| panic!("no {name}"));
    entry.tensor(DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn picture_encoders_compute_what_transformers_does() {
    let dict = open("clip_vision");
    let encoder = loaders::clip_vision(&dict, "x", &LoadOptions::default()).unwrap();
    assert_eq!(encoder.side(), 42);
    let encoded = encoder.encode(&io(&dict, "pixels")).unwrap();
    assert_close("last", &encoded.last, &io(&dict, "last"), 1e-4);
    assert_close("penultimate", &encoded.penultimate, &io(&dict, "penultimate"), 1e-4);
    assert_close("embedding", &encoded.embedding, &io(&dict, "embedding"), 1e-4);
    let wrong = Tensor::zeros((1, 3, 28, 28), DType::F32, &Device::Cpu).unwrap();
    assert!(encoder.encode(&wrong).unwrap_err().to_string().contains("42"));
}

#[test]
fn style_models_compute_what_their_publications_do() {
    for name in ["style_adapter", "redux"] {
        let dict = open(name);
        let style = loaders::style_model(&dict, &LoadOptions::default()).unwrap();
        assert_close(name, &style.forward(&io(&dict, "states")).unwrap(), &io(&dict, "tokens"), 1e-4);
    }
    assert!(loaders::style_model(&open("unclip"), &LoadOptions::default()).is_err());
}

#[test]
fn pictures_for_unclip_are_noised_as_diffusers_does_it() {
    let dict = open("unclip");
    let augmentor = NoiseAugmentor::from_dict(&dict).unwrap().unwrap();
    let picture = |level: usize| PictureCondition {
        embedding: io(&dict, "embedding"),
        strength: 1.0,
        noise: level as f64 / 999.0,
    };
    for level in [0, 300, 999] {
        let expected = io(&dict, &format!("vector.{level}"));
        assert_close("vector", &augmentor.vector(&picture(level), 17).unwrap(), &expected, 1e-5);
    }
    let twice = augmentor.merged(&[picture(300), picture(300)], 17).unwrap();
    assert_close("two of the same", &twice, &io(&dict, "vector.300"), 1e-5);
    assert_eq!(augmentor.merged(&[], 17).unwrap().dims(), [1, 32]);
}
