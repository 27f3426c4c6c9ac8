//! The list of sampler names and functions.

use candle_core::Tensor;

use super::solver::Solver;
use super::{
    dpm_solver, dpmpp, dpmpp_sde, euler, exponential, heun, multistep, res_multistep, sa_solver, uni_pc,
};
use crate::{Error, Result};

/// A sampler: from a start state at the first sigma to the latent at the last.
pub type SamplerFn = fn(&mut Solver<'_>, Tensor) -> Result<Tensor>;

/// A sampler by name, with what its surroundings have to know.
#[derive(Debug)]
pub struct Sampler {
    /// The name that workflows use.
    pub name: &'static str,
    /// The function.
    pub run: SamplerFn,
    /// Reads the unconditional prediction, so it is computed even without guidance.
    pub cfg_pp: bool,
    /// Runs on schedules without the last sigma before 0.
    pub discard_penultimate: bool,
    /// Inpainting keeps the outside at noise of the next seed instead of the start noise.
    pub fresh_inpaint_noise: bool,
}

const fn plain(name: &'static str, run: SamplerFn) -> Sampler {
    Sampler { name, run, cfg_pp: false, discard_penultimate: false, fresh_inpaint_noise: false }
}

const fn cfg_pp(name: &'static str, run: SamplerFn) -> Sampler {
    Sampler { cfg_pp: true, ..plain(name, run) }
}

const fn discarding(name: &'static str, run: SamplerFn) -> Sampler {
    Sampler { discard_penultimate: true, ..plain(name, run) }
}

/// All samplers, in the order that user interfaces list them. The `_gpu` names differ from the
/// others in where noise is drawn, which here is always the CPU.
pub static SAMPLERS: &[Sampler] = &[
    plain("euler", euler::euler),
    cfg_pp("euler_cfg_pp", euler::euler_cfg_pp),
    plain("euler_ancestral", euler::euler_ancestral),
    cfg_pp("euler_ancestral_cfg_pp", euler::euler_ancestral_cfg_pp),
    plain("heun", heun::heun),
    plain("heunpp2", heun::heunpp2),
    plain("exp_heun_2_x0", exponential::exp_heun_2_x0),
    plain("exp_heun_2_x0_sde", exponential::exp_heun_2_x0_sde),
    discarding("dpm_2", heun::dpm_2),
    discarding("dpm_2_ancestral", heun::dpm_2_ancestral),
    plain("lms", multistep::lms),
    plain("dpm_fast", dpm_solver::dpm_fast),
    plain("dpm_adaptive", dpm_solver::dpm_adaptive),
    plain("dpmpp_2s_ancestral", dpmpp::dpmpp_2s_ancestral),
    cfg_pp("dpmpp_2s_ancestral_cfg_pp", dpmpp::dpmpp_2s_ancestral_cfg_pp),
    plain("dpmpp_sde", dpmpp_sde::dpmpp_sde),
    plain("dpmpp_sde_gpu", dpmpp_sde::dpmpp_sde),
    plain("dpmpp_2m", dpmpp::dpmpp_2m),
    cfg_pp("dpmpp_2m_cfg_pp", dpmpp::dpmpp_2m_cfg_pp),
    plain("dpmpp_2m_sde", dpmpp_sde::dpmpp_2m_sde),
    plain("dpmpp_2m_sde_gpu", dpmpp_sde::dpmpp_2m_sde),
    plain("dpmpp_2m_sde_heun", dpmpp_sde::dpmpp_2m_sde_heun),
    plain("dpmpp_2m_sde_heun_gpu", dpmpp_sde::dpmpp_2m_sde_heun),
    plain("dpmpp_3m_sde", dpmpp_sde::dpmpp_3m_sde),
    plain("dpmpp_3m_sde_gpu", dpmpp_sde::dpmpp_3m_sde),
    plain("ddpm", euler::ddpm),
    plain("lcm", euler::lcm),
    plain("ipndm", multistep::ipndm),
    plain("ipndm_v", multistep::ipndm_v),
    plain("deis", multistep::deis),
    plain("res_multistep", res_multistep::res_multistep),
    cfg_pp("res_multistep_cfg_pp", res_multistep::res_multistep_cfg_pp),
    plain("res_multistep_ancestral", res_multistep::res_multistep_ancestral),
    cfg_pp("res_multistep_ancestral_cfg_pp", res_multistep::res_multistep_ancestral_cfg_pp),
    plain("gradient_estimation", euler::gradient_estimation),
    cfg_pp("gradient_estimation_cfg_pp", euler::gradient_estimation_cfg_pp),
    plain("er_sde", exponential::er_sde),
    plain("seeds_2", exponential::seeds_2),
    plain("seeds_3", exponential::seeds_3),
    plain("sa_solver", sa_solver::sa_solver),
    plain("sa_solver_pece", sa_solver::sa_solver_pece),
    Sampler { fresh_inpaint_noise: true, ..plain("ddim", euler::euler) },
    discarding("uni_pc", uni_pc::uni_pc),
    discarding("uni_pc_bh2", uni_pc::uni_pc_bh2),
];

/// Samplers that only nodes of their own choose.
static UNLISTED: &[Sampler] = &[
    cfg_pp("euler_cfg_pp_alternative", euler::euler_cfg_pp_alternative),
    plain("lcm_upscale", euler::lcm_upscale),
];

impl Sampler {
    /// Finds a sampler by name, those that user interfaces do not list included.
    pub fn by_name(name: &str) -> Result<&'static Self> {
        SAMPLERS
            .iter()
            .chain(UNLISTED)
            .find(|sampler| sampler.name == name)
            .ok_or_else(|| Error::unknown("sampler", name, SAMPLERS.iter().map(|sampler| sampler.name)))
    }
}

/// Whether a sampler runs on schedules without the last sigma before 0.
pub fn discards_penultimate(name: &str) -> bool {
    Sampler::by_name(name).is_ok_and(|sampler| sampler.discard_penultimate)
}
