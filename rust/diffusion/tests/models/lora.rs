use std::sync::Arc;

use rushlight_diffusion::checkpoint::LazyUNet;
use rushlight_diffusion::latent_format::LatentFormat;
use rushlight_diffusion::lora::Lora;
use rushlight_diffusion::model::{Model, ModelInput};
use rushlight_diffusion::sampling::{ModelSampling, Prediction};
use rushlight_diffusion::testing;

use crate::common::{Io, assert_close, recorded, relative_error, weights};

#[test]
fn every_lora_format_changes_the_unet_as_recorded_and_leaves_the_original_alone() {
    let (Some(model), Some(io)) = (recorded("unet_sd15"), Io::open("lora")) else { return };
    let network = Arc::new(LazyUNet::new(weights(&model.dict, "model.diffusion_model.")));
    let sampling = ModelSampling::stable_diffusion(Prediction::Eps);
    let model = Model::new(network, sampling, LatentFormat::by_name("SD15").unwrap());
    let run = |model: &Model| {
        let input = ModelInput { context: Some(io.get("context")), ..ModelInput::default() };
        model.network.forward(&io.get("x"), &io.get("timesteps"), &input).unwrap()
    };
    assert_close("base", &run(&model), &io.get("base"), 1e-3);
    for format in io.cases() {
        let path = testing::goldens().join(format!("lora_{format}.safetensors"));
        let lora = Lora::open(&path).unwrap();
        let applied = lora.apply_to_model(&model, 0.7).unwrap();
        assert!(applied.unmatched.is_empty(), "{format}: {:?}", applied.unmatched);
        assert_eq!(applied.matched, lora.len());
        let expected = io.get(&format!("{format}/out"));
        let out = run(&applied.patched);
        assert_close(&format!("lora {format}"), &out, &expected, 1e-3);
        // Not merely close because the change is small.
        assert!(relative_error(&out, &expected) < 0.1 * relative_error(&io.get("base"), &expected));
    }
    assert_close("base after all", &run(&model), &io.get("base"), 1e-3);
}
