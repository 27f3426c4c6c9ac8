//! PyTorch's CPU random number generator, number for number.
//!
//! Pictures are reproduced from seeds, so the start noise has to be PyTorch's: a 32-bit Mersenne
//! twister, uniform numbers from its low bits, and normal numbers by Box–Muller in one of two
//! orders: below 16 numbers one pair at a time in float64, from 16 on in blocks of 16 whose first
//! eight numbers are radii and last eight are angles.

const N: usize = 624;
const M: usize = 397;
/// Numbers of one vectorised Box–Muller block, and the length from which blocks are used.
const BLOCK: usize = 16;

/// A generator with the state of `torch.Generator("cpu")`.
#[derive(Clone)]
pub struct TorchGenerator {
    state: [u32; N],
    /// Next word of `state` to hand out; `N` when it has to be refilled.
    next: usize,
    /// The second number of the last Box–Muller pair of the scalar path.
    spare_normal: Option<f64>,
}

impl TorchGenerator {
    /// As `torch.manual_seed(seed)`: the low 32 bits of the seed count.
    pub fn new(seed: u64) -> Self {
        let mut state = [0u32; N];
        let mut previous = seed as u32;
        for (index, word) in state.iter_mut().enumerate() {
            if index > 0 {
                previous =
                    1_812_433_253u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(index as u32);
            }
            *word = previous;
        }
        Self { state, next: N, spare_normal: None }
    }

    /// The next 32 random bits.
    pub fn random(&mut self) -> u32 {
        if self.next >= N {
            self.refill();
        }
        let mut y = self.state.get(self.next).copied().unwrap_or_default();
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// The next 64 random bits: two draws, the first one on top.
    pub fn random64(&mut self) -> u64 {
        let high = u64::from(self.random());
        (high << 32) | u64::from(self.random())
    }

    // Indexes are remainders of N, the array's length.
    #[allow(clippy::indexing_slicing)]
    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// A float32 in [0, 1) from 24 bits.
    fn uniform_f32(&mut self) -> f32 {
        (self.random() & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)
    }

    /// A float64 in [0, 1) from 53 bits.
    fn uniform_f64(&mut self) -> f64 {
        (self.random64() & ((1 << 53) - 1)) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// `torch.rand(count)` in float32.
    pub fn rand(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.uniform_f32()).collect()
    }

    /// `torch.rand(count, dtype=float64)`.
    pub fn rand_f64(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.uniform_f64()).collect()
    }

    /// `torch.randn(count)` in float32.
    pub fn randn(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.normal_scalar() as f32).collect();
        }
        let mut values = self.rand(count);
        for block in values.chunks_exact_mut(BLOCK) {
            box_muller_f32(block);
        }
        if !count.is_multiple_of(BLOCK) {
            // The last 16 numbers are drawn anew, over the end of the block before.
            if let Some(tail) = values.get_mut(count - BLOCK..) {
                tail.fill_with(|| self.uniform_f32());
                box_muller_f32(tail);
            }
        }
        values
    }

    /// `torch.randn(count, dtype=float64)`.
    pub fn randn_f64(&mut self, count: usize) -> Vec<f64> {
        if count < BLOCK {
            return (0..count).map(|_| self.normal_scalar()).collect();
        }
        let mut values = self.rand_f64(count);
        for block in values.chunks_exact_mut(BLOCK) {
            box_muller_f64(block);
        }
        if !count.is_multiple_of(BLOCK)
            && let Some(tail) = values.get_mut(count - BLOCK..)
        {
            tail.fill_with(|| self.uniform_f64());
            box_muller_f64(tail);
        }
        values
    }

    /// One normal number of the scalar path, which keeps the second of each pair for later.
    fn normal_scalar(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        let angle = self.uniform_f64() * std::f64::consts::TAU;
        let radius = (-2.0 * (-self.uniform_f64()).ln_1p()).sqrt();
        self.spare_normal = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// `torch.randint(low, high, (count,))`; empty ranges give `low`.
    pub fn randint(&mut self, low: i64, high: i64, count: usize) -> Vec<i64> {
        let range = high.wrapping_sub(low).max(1) as u64;
        let mut draw = || {
            let bits = if range >= 1 << 28 { self.random64() } else { u64::from(self.random()) };
            low.wrapping_add((bits % range) as i64)
        };
        (0..count).map(|_| draw()).collect()
    }

    /// `torch.randperm(count)`.
    pub fn randperm(&mut self, count: usize) -> Vec<i64> {
        let mut order: Vec<i64> = (0..count as i64).collect();
        for i in 0..count.saturating_sub(1) {
            let offset = self.random() as usize % (count - i);
            order.swap(i, i + offset);
        }
        order
    }
}

fn box_muller_f32(block: &mut [f32]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (radius, angle) in radii.iter_mut().zip(angles) {
        let length = (-2.0 * (1.0 - *radius).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * *angle).sin_cos();
        (*radius, *angle) = (length * cos, length * sin);
    }
}

fn box_muller_f64(block: &mut [f64]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (radius, angle) in radii.iter_mut().zip(angles) {
        let length = (-2.0 * (1.0 - *radius).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * *angle).sin_cos();
        (*radius, *angle) = (length * cos, length * sin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_the_default_seed_is_the_reference_implementations() {
        assert_eq!(TorchGenerator::new(5489).random(), 3_499_211_612);
    }

    #[test]
    fn only_the_low_32_bits_of_a_seed_count() {
        let low = TorchGenerator::new(7).randn(40);
        assert_eq!(low, TorchGenerator::new(7 | 1 << 40).randn(40));
    }

    #[test]
    fn a_permutation_holds_each_index_once() {
        let mut order = TorchGenerator::new(1).randperm(100);
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<i64>>());
    }

    #[test]
    fn nothing_asked_for_is_nothing_drawn() {
        let mut generator = TorchGenerator::new(3);
        assert!(generator.randn(0).is_empty() && generator.randperm(0).is_empty());
        assert_eq!(generator.random(), TorchGenerator::new(3).random());
    }
}
