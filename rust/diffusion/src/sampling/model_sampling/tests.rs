//! Tests of [`ModelSampling`].

use super::*;

#[test]
fn distilled_levels_keep_the_timesteps_of_the_whole_schedule() {
    let whole = ModelSampling::stable_diffusion(Prediction::Lcm);
    let distilled = whole.clone().distilled(50);
    assert_eq!(distilled.sigmas().len(), 50);
    assert_eq!(distilled.timestep(distilled.sigma_max()), 999.0);
    assert_eq!(distilled.timestep(distilled.sigma_min()), 19.0);
    assert!((distilled.sigma(499.0) / whole.sigma(499.0) - 1.0).abs() < 1e-6);
}

#[test]
fn a_consistency_model_near_the_end_returns_its_input() -> Result<()> {
    use candle_core::{DType, Device};
    let model = ModelSampling::stable_diffusion(Prediction::Lcm);
    let x = Tensor::ones((1, 4, 2, 2), DType::F32, &Device::Cpu)?;
    let denoised = model.denoised(&x, &x, model.sigma_min())?;
    assert!((denoised - x)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
    Ok(())
}

#[test]
fn percents_run_from_the_top_to_the_bottom_of_every_kind() {
    let kinds = [
        ModelSampling::stable_diffusion(Prediction::Eps),
        ModelSampling::continuous_edm(Prediction::Edm, 0.002, 80.0, 0.5),
        ModelSampling::continuous_v(Prediction::V, 0.03, 500.0, 1.0),
        ModelSampling::flow(3.0, 1000.0),
        ModelSampling::flux(1.15),
        ModelSampling::cosine(Prediction::Eps, 2.0),
        ModelSampling::continuous_flow(0.002, 80.0),
    ];
    for model in kinds {
        let sigmas: Vec<f64> = (0..=10).map(|p| model.percent_to_sigma(f64::from(p) / 10.0)).collect();
        assert!(sigmas.windows(2).all(|pair| pair[0] > pair[1]), "{model:?}: {sigmas:?}");
    }
}

#[test]
fn cosine_levels_are_those_of_recorded_schedules() {
    let model = ModelSampling::cosine(Prediction::Eps, 2.0);
    let near =
        |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
    near(model.sigma_max(), 99.995);
    near(model.sigma_min(), 0.010_000_5);
    for (percent, sigma) in [(0.2, 6.2075), (0.5, 2.0248), (0.9, 0.3389)] {
        near(model.percent_to_sigma(percent), sigma);
    }
    // Timesteps are those of the schedule without the shift.
    near(model.sigma(model.timestep(2.0)), 4.0 / (1.0 + 1e-12));
}

#[test]
fn a_continuous_flow_s_timestep_is_its_noise_s_share() {
    let model = ModelSampling::continuous_flow(0.002, 80.0);
    assert!((model.timestep(1.0) - 0.5).abs() < 1e-7 && (model.sigma(0.5) - 1.0).abs() < 1e-6);
}
