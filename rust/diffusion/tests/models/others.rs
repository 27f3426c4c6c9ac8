//! ControlNet, ESRGAN and TAESD.

use rushlight_diffusion::conditioning::{ControlInput, ControlModel};
use rushlight_diffusion::model::{DiffusionModel, ModelInput};
use rushlight_diffusion::models::controlnet::ControlNet;
use rushlight_diffusion::models::esrgan::{self, Esrgan};
use rushlight_diffusion::models::taesd::Taesd;
use rushlight_diffusion::models::unet::UNet;

use crate::common::{assert_close, recorded, recorded_names, weights};

#[test]
fn a_control_network_makes_the_recorded_residuals_and_moves_the_unet() {
    let (Some(control), Some(unet)) = (recorded("controlnet"), recorded("unet_sd15")) else { return };
    let network = ControlNet::new(&weights(&control.dict, "control_model.")).unwrap();
    let get = |name: &str| control.io.get(name);
    let (x, hint, timestep, context) = (get("x"), get("hint"), get("timesteps"), get("context"));
    let input = ControlInput {
        x: &x,
        hint: &hint,
        timestep: &timestep,
        context: Some(&context),
        y: None,
        union_type: None,
    };
    let residuals = network.forward(&input).unwrap();
    for (index, residual) in residuals.output.iter().enumerate() {
        let expected = get(&format!("output/{index}"));
        assert_close(&format!("output {index}"), residual.as_ref().unwrap(), &expected, 1e-3);
    }
    assert_close("middle", residuals.middle[0].as_ref().unwrap(), &get("middle/0"), 1e-3);

    let unet = UNet::new(&weights(&unet.dict, "model.diffusion_model.")).unwrap();
    let run = |control| {
        let input = ModelInput { context: Some(context.clone()), control, ..ModelInput::default() };
        unet.forward(&x, &timestep, &input).unwrap()
    };
    assert_close("without control", &run(None), &get("unet_out_no_control"), 1e-3);
    let out = run(Some(residuals.scaled(0.8).unwrap()));
    assert_close("with control", &out, &get("unet_out_strength_0.8"), 1e-3);
}

#[test]
fn upscalers_compute_what_was_recorded() {
    for name in recorded_names("esrgan") {
        let Some(model) = recorded(&name) else { continue };
        let dict = esrgan::canonical(&model.dict).unwrap();
        let network = Esrgan::new(&weights(&dict, "")).unwrap();
        assert_close(&name, &network.forward(&model.io.get("x")).unwrap(), &model.io.get("out"), 1e-3);
    }
}

#[test]
fn the_tiny_autoencoder_decodes_as_recorded() {
    let Some(model) = recorded("taesd") else { return };
    let decoder = Taesd::decoder(&weights(&model.dict, "")).unwrap();
    let pixels = decoder.forward(&model.io.get("z")).unwrap();
    let pixels = ((pixels * 2.0).unwrap() - 1.0).unwrap();
    assert_close("taesd", &pixels, &model.io.get("decoded"), 1e-3);
}
