use rushlight_diffusion::model::{DiffusionModel, ModelInput};
use rushlight_diffusion::models::unet::UNet;

use crate::common::{assert_close, recorded, recorded_names, weights};

#[test]
fn unets_compute_what_was_recorded() {
    for name in recorded_names("unet") {
        let Some(model) = recorded(&name) else { continue };
        let unet = UNet::new(&weights(&model.dict, "model.diffusion_model.")).unwrap();
        for case in model.io.cases() {
            let get = |part: &str| model.io.get(&format!("{case}/{part}"));
            let input = ModelInput {
                context: Some(get("context")),
                y: model.io.get_opt(&format!("{case}/y")),
                ..ModelInput::default()
            };
            let out = unet.forward(&get("x"), &get("timesteps"), &input).unwrap();
            assert_close(&format!("{name} {case}"), &out, &get("out"), 1e-3);
        }
    }
}
