use candle_core::{Device, Tensor};
use rushlight_diffusion::checkpoint::LoadOptions;
use rushlight_diffusion::clip::ClipFamily;
use rushlight_diffusion::loaders;
use rushlight_diffusion::model::ModelInput;
use rushlight_diffusion::tiled::TileSize;
use rushlight_diffusion::weights::layouts;

use crate::common::{assert_close, recorded};

#[test]
fn a_unet_in_diffusers_layout_computes_what_was_recorded() {
    let Some(recorded) = recorded("unet_sd15") else { return };
    let unet = recorded.dict.view("model.diffusion_model.");
    let names = layouts::unet::diffusers_module_names(&unet);
    let diffusers = unet.rename(|name| {
        let (module, leaf) = name.rsplit_once('.')?;
        Some(format!("{}.{leaf}", names.get(module)?))
    });
    assert_eq!(diffusers.len(), unet.len());
    let model = loaders::diffusion_model(&diffusers, "x", &LoadOptions::default()).unwrap();
    let get = |part: &str| recorded.io.get(&format!("odd/{part}"));
    let input = ModelInput { context: Some(get("context")), ..ModelInput::default() };
    let out = model.network.forward(&get("x"), &get("timesteps"), &input).unwrap();
    assert_close("diffusers layout", &out, &get("out"), 1e-3);
}

#[test]
fn single_parts_are_recognised_and_others_refused_by_name() {
    let options = LoadOptions::default();
    if let Some(vae) = recorded("vae") {
        let bare = vae.dict.view("first_stage_model.");
        let loaded = loaders::vae(&bare, "x", &options).unwrap();
        let z = vae.io.get("odd/z");
        let tiles = TileSize::square(8, 4).unwrap();
        let whole = loaded.decode(&z).unwrap();
        let in_tiles = loaded.decode_tiled(&z, tiles, |_, _| Ok(())).unwrap();
        assert_eq!(whole.dims(), in_tiles.dims());
        let stopped = loaded.decode_tiled(&z, tiles, |_, _| Err(rushlight_diffusion::Error::Cancelled));
        assert!(matches!(stopped, Err(rushlight_diffusion::Error::Cancelled)));
        let error = loaders::diffusion_model(&bare, "some.safetensors", &options).map(drop).unwrap_err();
        assert!(error.to_string().contains("some.safetensors"), "{error}");
    }
    if let Some(clip) = recorded("clip_l") {
        let files = [(clip.dict.clone(), "l".to_string())];
        assert_eq!(loaders::text_encoders(&files, &options).unwrap().family(), ClipFamily::StableDiffusion1);
    }
    if let Some(control) = recorded("controlnet") {
        assert!(loaders::control_net(&control.dict, "x", &options).is_ok());
    }
}

#[test]
fn upscaling_in_tiles_gives_a_picture_of_the_right_size() {
    let Some(model) = recorded("esrgan_x4") else { return };
    let upscaler = loaders::Upscaler::new(&model.dict, &LoadOptions::default()).unwrap();
    assert_eq!(upscaler.scale().unwrap(), 4.0);
    let pixels = Tensor::rand(0f32, 1.0, (1, 20, 12, 3), &Device::Cpu).unwrap();
    let out = upscaler.upscale(&pixels, TileSize::square(16, 4).unwrap(), |_, _| Ok(())).unwrap();
    assert_eq!(out.dims(), [1, 80, 48, 3]);
}
