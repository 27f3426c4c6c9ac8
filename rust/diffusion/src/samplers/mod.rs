//! Samplers: functions from a denoiser, sigmas, a noise source and a start state to a latent.
//!
//! Each is written to be read beside its paper. [`SAMPLERS`] is the list of names; what they share
//! is in [`solver`].

pub mod dpm_solver;
mod dpmpp;
mod dpmpp_sde;
mod euler;
mod exponential;
mod heun;
mod multistep;
mod res_multistep;
pub mod sa_solver;
pub mod solver;
mod table;
mod uni_pc;

pub use solver::{Callback, Denoised, Denoiser, SamplerOptions, Solver, Step};
pub use table::{SAMPLERS, Sampler, SamplerFn, discards_penultimate};
