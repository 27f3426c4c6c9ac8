//! Adaptive projected guidance (Sadat et al., arXiv 2410.02416).

use std::sync::Arc;

use candle_core::Tensor;
use parking_lot::Mutex;

use super::functions::per_picture;
use super::options::{CombineFn, Guided};
use crate::Result;

/// Numbers of adaptive projected guidance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Projected {
    /// Factor on what of the guidance is parallel to the positive prediction.
    pub eta: f64,
    /// Greatest length of the guidance of a picture, 0 for none.
    pub norm_threshold: f64,
    /// Factor on the guidance of the steps before that is added to each.
    pub momentum: f64,
}

/// Guidance of the steps of a run so far.
struct Momentum {
    /// The noisiest sigma, where the run began.
    first: f64,
    /// The sigma of the last step.
    last: f64,
    average: Tensor,
}

/// Adaptive projected guidance in place of the plain one: `cond + scale·(orthogonal + η·parallel)`. As measured, the
/// scale is not lowered by 1 as the paper does, and the momentum's average is what the threshold cuts.
pub fn projected(numbers: Projected) -> CombineFn {
    let state: Mutex<Option<Momentum>> = Mutex::new(None);
    Arc::new(move |guided: &Guided<'_>| {
        let Projected { eta, norm_threshold, momentum } = numbers;
        let mut guidance = (guided.cond - guided.uncond)?;
        if momentum != 0.0 {
            guidance = remember(&mut state.lock(), guided.sigma, momentum, guidance)?;
        }
        if norm_threshold > 0.0 {
            let length = per_picture(&guidance.sqr()?)?.sqrt()?;
            let factor = (length.recip()? * norm_threshold)?.minimum(1.0)?;
            guidance = guidance.broadcast_mul(&factor)?;
        }
        let along = per_picture(&(&guidance * guided.cond)?)?;
        let along = along.broadcast_div(&(per_picture(&guided.cond.sqr()?)? + 1e-30)?)?;
        let parallel = guided.cond.broadcast_mul(&along)?;
        let orthogonal = (guidance - &parallel)?;
        Ok((guided.cond + ((orthogonal + (parallel * eta)?)? * guided.scale)?)?)
    })
}

/// The guidance with those before it in the run. Sigmas fall in a run; where they do not, a new one has begun.
fn remember(state: &mut Option<Momentum>, sigma: f64, momentum: f64, guidance: Tensor) -> Result<Tensor> {
    let before = state
        .take()
        .filter(|run| sigma < run.first && sigma <= run.last && run.average.dims() == guidance.dims());
    let first = before.as_ref().map_or(sigma, |run| run.first);
    let average = match before {
        Some(run) => (guidance + (run.average * momentum)?)?,
        None => guidance,
    };
    *state = Some(Momentum { first, last: sigma, average: average.clone() });
    Ok(average)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_run_s_momentum_does_not_reach_the_next() -> Result<()> {
        let one = || Tensor::ones(1, candle_core::DType::F32, &Device::Cpu);
        let mut state = None;
        let mut at = |sigma| -> Result<f32> {
            Ok(remember(&mut state, sigma, -0.5, one()?)?.to_vec1::<f32>()?.iter().sum())
        };
        assert_eq!([at(9.0)?, at(3.0)?, at(3.0)?], [1.0, 0.5, 0.75]);
        assert_eq!([at(9.0)?, at(9.0)?], [1.0, 1.0]);
        Ok(())
    }
}
