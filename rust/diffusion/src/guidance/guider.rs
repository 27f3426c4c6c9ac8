//! Guiders: how many predictions a step takes and how they become one.

use candle_core::Tensor;

use super::batch::denoise_lists;
use super::options::Guided;
use super::prepare::{Canvas, Prepared, Side, prepare};
use crate::conditioning::Conditioning;
use crate::model::{ForwardOptions, Model};
use crate::samplers::{Denoised, Denoiser};
use crate::{Error, Result};

/// A scale this near to 1 needs no negative prediction.
const NO_GUIDANCE: f64 = 1e-9;

/// What guides a run.
#[derive(Clone)]
pub enum Guidance {
    /// The positive prediction alone.
    Basic {
        /// What the picture should be.
        positive: Conditioning,
    },
    /// Classifier-free guidance (arXiv 2207.12598).
    Cfg {
        /// What the picture should be.
        positive: Conditioning,
        /// What it should not be.
        negative: Conditioning,
        /// Guidance scale.
        scale: f64,
    },
    /// Guidance by two conditionings against one negative.
    Dual {
        /// First conditioning.
        first: Conditioning,
        /// Second conditioning.
        second: Conditioning,
        /// What the picture should not be.
        negative: Conditioning,
        /// Scale of the first against the second (nested: against the guided second).
        first_scale: f64,
        /// Scale of the second against the negative.
        second_scale: f64,
        /// Guide by the second first, then by the first against that.
        nested: bool,
    },
}

/// Guidance bound to a model and a latent: a denoiser.
pub struct Guider<'a> {
    model: &'a Model,
    lists: Vec<Vec<Prepared>>,
    kind: Kind,
    always_uncond: bool,
}

enum Kind {
    Basic,
    Cfg { scale: f64 },
    Dual { first_scale: f64, second_scale: f64, nested: bool },
}

impl<'a> Guider<'a> {
    /// Prepares conditioning for a latent. `always_uncond` asks for the negative prediction even
    /// where guidance does not need it.
    pub fn new(model: &'a Model, guidance: &Guidance, canvas: &Canvas, always_uncond: bool) -> Result<Self> {
        use Side::{Negative, Positive};
        let (lists, kind) = match guidance {
            Guidance::Basic { positive } => (vec![(positive.0.as_slice(), Positive)], Kind::Basic),
            Guidance::Cfg { positive, negative, scale } => (
                vec![(positive.0.as_slice(), Positive), (negative.0.as_slice(), Negative)],
                Kind::Cfg { scale: *scale },
            ),
            Guidance::Dual { first, second, negative, first_scale, second_scale, nested } => (
                vec![
                    (first.0.as_slice(), Positive),
                    (second.0.as_slice(), Positive),
                    (negative.0.as_slice(), Negative),
                ],
                Kind::Dual { first_scale: *first_scale, second_scale: *second_scale, nested: *nested },
            ),
        };
        let always_uncond = always_uncond || model.guidance.always_uncond;
        Ok(Self { model, lists: prepare(&lists, model, canvas)?, kind, always_uncond })
    }

    fn list(&self, index: usize) -> &[Prepared] {
        self.lists.get(index).map_or(&[], Vec::as_slice)
    }

    /// Combines two predictions with the model's hooks.
    fn combine(
        &self,
        x: &Tensor,
        sigma: f64,
        (cond, uncond): (&Tensor, &Tensor),
        scale: f64,
    ) -> Result<Tensor> {
        let hooks = &self.model.guidance;
        let again = |options: &ForwardOptions| {
            let mut outputs = denoise_lists(self.model, &[self.list(0)], x, sigma, options)?;
            outputs.pop().ok_or_else(|| Error::invalid("predictions", 0, "one a list"))
        };
        let guided = |denoised: &Tensor, hook: &super::options::CombineFn| {
            let forward = &self.model.forward;
            hook(&Guided { x, sigma, cond, uncond, scale, denoised, again: &again, forward })
        };
        let mut denoised = match &hooks.combine {
            Some(hook) => guided(cond, hook)?,
            None => cfg(cond, uncond, scale)?,
        };
        for hook in &hooks.post {
            denoised = guided(&denoised, hook)?;
        }
        Ok(denoised)
    }

    fn run(&self, x: &Tensor, sigma: f64, lists: &[&[Prepared]]) -> Result<Vec<Tensor>> {
        denoise_lists(self.model, lists, x, sigma, &self.model.forward)
    }
}

/// `uncond + (cond − uncond)·scale`.
fn cfg(cond: &Tensor, uncond: &Tensor, scale: f64) -> Result<Tensor> {
    Ok((uncond + ((cond - uncond)? * scale)?)?)
}

impl Denoiser for Guider<'_> {
    fn denoise(&mut self, x: &Tensor, sigma: f64) -> Result<Denoised> {
        let one = |mut outputs: Vec<Tensor>| {
            outputs.pop().ok_or_else(|| Error::invalid("predictions", 0, "one a list"))
        };
        match self.kind {
            Kind::Basic => {
                let cond = one(self.run(x, sigma, &[self.list(0)])?)?;
                let denoised = self.combine(x, sigma, (&cond, &cond), 1.0)?;
                Ok(Denoised { denoised, uncond: cond })
            }
            Kind::Cfg { scale } if (scale - 1.0).abs() < NO_GUIDANCE && !self.always_uncond => {
                let cond = one(self.run(x, sigma, &[self.list(0)])?)?;
                let denoised = self.combine(x, sigma, (&cond, &cond), scale)?;
                Ok(Denoised { denoised, uncond: cond })
            }
            Kind::Cfg { scale } => {
                let mut outputs = self.run(x, sigma, &[self.list(0), self.list(1)])?;
                let uncond = outputs.pop();
                let (cond, uncond) = (one(outputs)?, one(uncond.into_iter().collect())?);
                let denoised = self.combine(x, sigma, (&cond, &uncond), scale)?;
                Ok(Denoised { denoised, uncond })
            }
            Kind::Dual { first_scale, second_scale, nested } => {
                let mut outputs = self.run(x, sigma, &[self.list(0), self.list(1), self.list(2)])?;
                let (uncond, second) = (outputs.pop(), outputs.pop());
                let first = one(outputs)?;
                let (second, uncond) =
                    (one(second.into_iter().collect())?, one(uncond.into_iter().collect())?);
                let denoised = if nested {
                    let inner = cfg(&second, &uncond, second_scale)?;
                    self.combine(x, sigma, (&first, &inner), first_scale)?
                } else {
                    let outer = self.combine(x, sigma, (&second, &uncond), second_scale)?;
                    (outer + ((first - second)? * first_scale)?)?
                };
                Ok(Denoised { denoised, uncond })
            }
        }
    }
}
