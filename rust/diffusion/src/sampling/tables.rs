//! Tables of noise levels: betas turned to sigmas, zero terminal SNR, shifted flow times.

/// Number of training timesteps of every discrete model.
pub(super) const TRAIN_STEPS: usize = 1000;

/// ᾱ that stands in for the last, exactly zero one after the zero-SNR rescale.
const LAST_ALPHA_BAR: f64 = 4.897_345_189_085_343_5e-8;

/// ᾱ of betas that are linear in their square root between `start` and `end` (Stable Diffusion).
pub(super) fn scaled_linear(start: f64, end: f64) -> Vec<f64> {
    let (first, last) = (start.sqrt(), end.sqrt());
    cumulative((0..TRAIN_STEPS).map(|i| lerp(first, last, i).powi(2)))
}

/// ᾱ of betas that are linear between `start` and `end`.
pub(super) fn linear(start: f64, end: f64) -> Vec<f64> {
    cumulative((0..TRAIN_STEPS).map(|i| lerp(start, end, i)))
}

/// ᾱ of the squared cosine schedule (arXiv 2102.09672).
pub(crate) fn squared_cosine() -> Vec<f64> {
    let bar = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
    let steps = TRAIN_STEPS as f64;
    let beta = |i: usize| 1.0 - bar((i + 1) as f64 / steps) / bar(i as f64 / steps);
    cumulative((0..TRAIN_STEPS).map(|i| beta(i).min(0.999)))
}

/// Rescales √ᾱ so that the last is zero and the first unchanged (arXiv 2305.08891, algorithm 1),
/// then sets the last ᾱ to a value that is just not zero.
pub(super) fn zero_terminal_snr(alpha_bars: &[f64]) -> Vec<f64> {
    let roots: Vec<f64> = alpha_bars.iter().map(|a| a.sqrt()).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else { return Vec::new() };
    let mut bars: Vec<f64> =
        roots.iter().map(|root| ((root - last) * first / (first - last)).powi(2)).collect();
    if let Some(bar) = bars.last_mut() {
        *bar = LAST_ALPHA_BAR;
    }
    bars
}

/// σ = √((1 − ᾱ) / ᾱ), rising.
pub(super) fn sigmas_of(alpha_bars: &[f64]) -> Vec<f32> {
    alpha_bars.iter().map(|bar| ((1.0 - bar) / bar).sqrt() as f32).collect()
}

/// Offset of the cosine schedule near 0 (arXiv 2102.09672, equation 17).
const COSINE_OFFSET: f64 = 0.008;

/// ᾱ of the cosine schedule at `t` 0, which others are divided by.
fn cosine_start() -> f64 {
    (COSINE_OFFSET / (1.0 + COSINE_OFFSET) * std::f64::consts::FRAC_PI_2).cos().powi(2)
}

/// σ of the cosine schedule at `t` with its log-SNR lowered by 2·ln(shift), ᾱ kept between 0.0001 and 0.9999.
pub(super) fn cosine_sigma(shift: f64, t: f64) -> f64 {
    let angle = (t + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) * std::f64::consts::FRAC_PI_2;
    let bar = angle.cos().powi(2) / cosine_start();
    // ᾱ/(1 − ᾱ) is the signal-to-noise ratio.
    let ratio = bar / (1.0 - bar) / shift.powi(2);
    let bar = if bar >= 1.0 { 1.0 } else { ratio / (1.0 + ratio) }.clamp(0.0001, 0.9999);
    ((1.0 - bar) / bar).sqrt()
}

/// The `t` at which the cosine schedule without a shift has σ.
pub(super) fn cosine_time(sigma: f64) -> f64 {
    let bar = 1.0 / (sigma.powi(2) + 1.0);
    let angle = (bar * cosine_start()).clamp(0.0, 1.0).sqrt().acos();
    angle / std::f64::consts::FRAC_PI_2 * (1.0 + COSINE_OFFSET) - COSINE_OFFSET
}

/// Discrete flow shift: a·t / (1 + (a − 1)·t).
pub(super) fn shift_time(shift: f64, t: f64) -> f64 {
    if shift == 1.0 { t } else { shift * t / (1.0 + (shift - 1.0) * t) }
}

/// Flux time shift: e^μ / (e^μ + (1/t − 1)).
pub(super) fn flux_shift_time(mu: f64, t: f64) -> f64 {
    if t <= 0.0 { 0.0 } else { mu.exp() / (mu.exp() + (1.0 / t - 1.0)) }
}

fn lerp(first: f64, last: f64, index: usize) -> f64 {
    first + (last - first) * index as f64 / (TRAIN_STEPS - 1) as f64
}

fn cumulative(betas: impl Iterator<Item = f64>) -> Vec<f64> {
    betas
        .scan(1.0, |product, beta| {
            *product *= 1.0 - beta;
            Some(*product)
        })
        .collect()
}
