//! Guiders: how many predictions a step takes and how they become one.

use candle_core::Tensor;

use super::batch::denoise_lists;
use super::options::{CombineFn, Guided};
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
    /// Perp-Neg (arXiv 2304.04968): of the negative only what is perpendicular to the positive counts. Both are
    /// directions from an empty conditioning.
    PerpNeg {
        /// What the picture should be.
        positive: Conditioning,
        /// What it should not be.
        negative: Conditioning,
        /// Nothing in particular.
        empty: Conditioning,
        /// Guidance scale.
        scale: f64,
        /// Factor on the negative direction.
        negative_scale: f64,
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
    PerpNeg { scale: f64, negative_scale: f64 },
    Dual { first_scale: f64, second_scale: f64, nested: bool },
}

impl<'a> Guider<'a> {
    /// Prepares conditioning for a latent. `always_uncond` asks for the negative prediction even
    /// where guidance does not need it.
    pub fn new(model: &'a Model, guidance: &Guidance, canvas: &Canvas, always_uncond: bool) -> Result<Self> {
        use Side::{Negative, Positive};
        // A model may turn guidance with a negative into Perp-Neg.
        let replaced = match (guidance, &model.guidance.perp_neg) {
            (Guidance::Cfg { positive, negative, scale }, Some((empty, negative_scale))) => {
                Some(Guidance::PerpNeg {
                    positive: positive.clone(),
                    negative: negative.clone(),
                    empty: empty.clone(),
                    scale: *scale,
                    negative_scale: *negative_scale,
                })
            }
            _ => None,
        };
        let guidance = replaced.as_ref().unwrap_or(guidance);
        let (lists, kind) = match guidance {
            Guidance::Basic { positive } => (vec![(positive.0.as_slice(), Positive)], Kind::Basic),
            Guidance::Cfg { positive, negative, scale } => (
                vec![(positive.0.as_slice(), Positive), (negative.0.as_slice(), Negative)],
                Kind::Cfg { scale: *scale },
            ),
            Guidance::PerpNeg { positive, negative, empty, scale, negative_scale } => (
                vec![
                    (positive.0.as_slice(), Positive),
                    (negative.0.as_slice(), Negative),
                    (empty.0.as_slice(), Negative),
                ],
                Kind::PerpNeg { scale: *scale, negative_scale: *negative_scale },
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
        // Without a negative both are one tensor.
        let alone = cond.id() == uncond.id();
        let changed = match &self.model.guidance.positive {
            Some(hook) => Some(self.call(hook, x, sigma, (cond, uncond), scale, cond)?),
            None => None,
        };
        let cond = changed.as_ref().unwrap_or(cond);
        let uncond = if alone { cond } else { uncond };
        let denoised = match &self.model.guidance.combine {
            Some(hook) => self.call(hook, x, sigma, (cond, uncond), scale, cond)?,
            None => cfg(cond, uncond, scale)?,
        };
        self.after(x, sigma, (cond, uncond), scale, denoised)
    }

    /// Runs the hooks that follow the combination.
    fn after(
        &self,
        x: &Tensor,
        sigma: f64,
        both: (&Tensor, &Tensor),
        scale: f64,
        mut denoised: Tensor,
    ) -> Result<Tensor> {
        for hook in &self.model.guidance.post {
            denoised = self.call(hook, x, sigma, both, scale, &denoised)?;
        }
        Ok(denoised)
    }

    fn call(
        &self,
        hook: &CombineFn,
        x: &Tensor,
        sigma: f64,
        (cond, uncond): (&Tensor, &Tensor),
        scale: f64,
        denoised: &Tensor,
    ) -> Result<Tensor> {
        let again = |options: &ForwardOptions| {
            let mut outputs = denoise_lists(self.model, &[self.list(0)], x, sigma, options)?;
            outputs.pop().ok_or_else(|| Error::invalid("predictions", 0, "one a list"))
        };
        let negative_at = |x: &Tensor, options: &ForwardOptions| {
            let index = usize::from(self.lists.len() > 1);
            let mut outputs = denoise_lists(self.model, &[self.list(index)], x, sigma, options)?;
            outputs.pop().ok_or_else(|| Error::invalid("predictions", 0, "one a list"))
        };
        let forward = &self.model.forward;
        hook(&Guided {
            x,
            sigma,
            cond,
            uncond,
            has_negative: cond.id() != uncond.id(),
            scale,
            denoised,
            again: &again,
            negative_at: &negative_at,
            forward,
        })
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
            Kind::PerpNeg { scale, negative_scale } => {
                let mut outputs = self.run(x, sigma, &[self.list(0), self.list(1), self.list(2)])?;
                let (empty, negative) = (outputs.pop(), outputs.pop());
                let cond = one(outputs)?;
                let (negative, empty) =
                    (one(negative.into_iter().collect())?, one(empty.into_iter().collect())?);
                let (towards, away) = ((&cond - &empty)?, (&negative - &empty)?);
                let along = ((&away * &towards)?.sum_all()? / (towards.sqr()?.sum_all()? + 1e-30)?)?;
                let perpendicular = (away - towards.broadcast_mul(&along)?)?;
                let guided = (towards - (perpendicular * negative_scale)?)?;
                let mut denoised = (&empty + (guided * scale)?)?;
                denoised = self.after(x, sigma, (&cond, &negative), scale, denoised)?;
                Ok(Denoised { denoised, uncond: empty })
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
