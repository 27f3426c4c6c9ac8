use rushlight_diffusion::models::vae::AutoEncoder;

use crate::common::{assert_close, recorded, weights};

#[test]
fn the_autoencoder_encodes_and_decodes_as_recorded() {
    let Some(model) = recorded("vae") else { return };
    let vae = AutoEncoder::new(&weights(&model.dict, "first_stage_model.")).unwrap();
    assert_eq!((vae.factor(), vae.latent_channels()), (8, 4));
    for case in model.io.cases() {
        let get = |part: &str| model.io.get(&format!("{case}/{part}"));
        assert_close(
            &format!("{case} moments"),
            &vae.moments(&get("pixels")).unwrap(),
            &get("moments"),
            1e-3,
        );
        assert_close(&format!("{case} decoded"), &vae.decode(&get("z")).unwrap(), &get("decoded"), 1e-3);
    }
}
