//! A Brownian path that can be asked for any increment: the virtual Brownian tree of `torchsde`
//! (arXiv 2105.13493, section 4), number for number.
//!
//! An interval's increment is fixed by its parent's increment and the parent's own seed; parents
//! are split at half, down to a resolution of 1e-6, so the path depends on the entropy alone.
//! Seeds come from NumPy's `SeedSequence` of the entropy and the place in the tree.

use std::collections::VecDeque;

use crate::rng::TorchGenerator;

/// Words in the entropy pool.
const POOL: usize = 24;
/// Increments kept: as many as torchsde keeps, a few times the depth of a tree.
const CACHED: usize = 45;
/// Splits below one another; 2^64 resolutions of 1e-6 are more than a float64 holds.
const MAX_DEPTH: u64 = 64;

struct Node {
    start: f64,
    end: f64,
    /// Parent's index and whether this is its left child; `None` for the root.
    parent: Option<(usize, bool)>,
    /// Where it was split, and the index of the left child (the right one follows).
    split: Option<(f64, usize)>,
    /// Place among the nodes of its depth.
    place: u64,
    depth: u64,
}

/// A Brownian path between two times.
pub struct BrownianTree {
    nodes: Vec<Node>,
    /// Increment over the whole interval.
    whole: Vec<f32>,
    /// Recently used increments by node, newest last.
    recent: VecDeque<(usize, Vec<f32>)>,
    entropy: u64,
}

impl BrownianTree {
    /// A path of `count` independent numbers between `start` and `end`.
    pub fn new(start: f64, end: f64, count: usize, entropy: u64) -> Self {
        let [seed, ..] = seed_sequence(entropy, None);
        let scale = (end - start).sqrt() as f32;
        let mut whole = TorchGenerator::new(u64::from(seed)).randn(count);
        whole.iter_mut().for_each(|value| *value *= scale);
        let root =
            Node { start: round(start), end: round(end), parent: None, split: None, place: 0, depth: 0 };
        Self { nodes: vec![root], whole, recent: VecDeque::new(), entropy }
    }

    /// The increment between two times, `from` ≤ `to`; times outside the path are moved to its ends.
    pub fn increment(&mut self, from: f64, to: f64) -> Vec<f32> {
        let (low, high) = self.nodes.first().map_or((0.0, 0.0), |root| (root.start, root.end));
        let (from, to) = (round(from.clamp(low, high)), round(to.clamp(low, high)));
        let mut sum: Option<Vec<f32>> = None;
        for part in self.cover(from, to) {
            let values = self.values(part);
            match &mut sum {
                None => sum = Some(values),
                Some(sum) => sum.iter_mut().zip(values).for_each(|(total, value)| *total += value),
            }
        }
        sum.unwrap_or_else(|| vec![0.0; self.whole.len()])
    }

    /// Nodes that together are exactly `[from, to]`, in order; made where they don't exist yet.
    fn cover(&mut self, from: f64, to: f64) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open = vec![(0, from, to)];
        while let Some((index, from, to)) = open.pop() {
            let Some(node) = self.nodes.get(index) else { continue };
            if from >= to {
                continue;
            }
            if from <= node.start && to >= node.end {
                found.push(index);
                continue;
            }
            if node.depth >= MAX_DEPTH {
                continue;
            }
            let (middle, left) = self.split(index);
            if to > middle {
                open.push((left + 1, from.max(middle), to));
            }
            if from < middle {
                open.push((left, from, to.min(middle)));
            }
        }
        found
    }

    /// Splits a node at half, once; returns the place and the left child.
    fn split(&mut self, index: usize) -> (f64, usize) {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(index) else { return (0.0, next) };
        if let Some(split) = node.split {
            return split;
        }
        let middle = round(0.5 * (node.end + node.start));
        node.split = Some((middle, next));
        let (start, end, place, depth) = (node.start, node.end, node.place, node.depth);
        let child = |start, end, left| Node {
            start,
            end,
            parent: Some((index, left)),
            split: None,
            place: 2 * place + u64::from(!left),
            depth: depth + 1,
        };
        self.nodes.push(child(start, middle, true));
        self.nodes.push(child(middle, end, false));
        (middle, next)
    }

    /// A node's increment: from its nearest known ancestor downwards.
    fn values(&mut self, index: usize) -> Vec<f32> {
        let mut path = Vec::new();
        let mut at = index;
        let mut values = loop {
            if let Some((_, values)) = self.recent.iter().find(|(node, _)| *node == at) {
                break values.clone();
            }
            let Some((parent, left)) = self.nodes.get(at).and_then(|node| node.parent) else {
                break self.whole.clone();
            };
            path.push((at, parent, left));
            at = parent;
        };
        for (node, parent, left) in path.into_iter().rev() {
            self.descend(parent, left, &mut values);
            if self.recent.len() >= CACHED {
                self.recent.pop_front();
            }
            self.recent.push_back((node, values.clone()));
        }
        values
    }

    /// Turns a parent's increment into that of one child.
    fn descend(&self, parent: usize, left: bool, values: &mut [f32]) {
        let Some(node) = self.nodes.get(parent) else { return };
        let Some((middle, _)) = node.split else { return };
        let per_length = 1.0 / (node.end - node.start);
        let (before, after) = (middle - node.start, node.end - middle);
        let deviation = (before * after * per_length).sqrt() as f32;
        let (before, per_length) = (before as f32, per_length as f32);
        let [seed, ..] = seed_sequence(self.entropy, Some((node.place, node.depth)));
        let noise = TorchGenerator::new(u64::from(seed)).randn(values.len());
        for (value, noise) in values.iter_mut().zip(noise) {
            let left_value = before * *value * per_length + deviation * noise;
            *value = if left { left_value } else { *value - left_value };
        }
    }
}

/// Rounds to six decimals as Python's `round(x, 6)`: correctly, on the exact binary value.
fn round(value: f64) -> f64 {
    format!("{value:.6}").parse().unwrap_or(value)
}

/// `numpy.random.SeedSequence(entropy, spawn_key=key, pool_size=24).generate_state(4)`.
fn seed_sequence(entropy: u64, key: Option<(u64, u64)>) -> [u32; 4] {
    const MULT_A: u32 = 0x931e_8875;
    const MULT_B: u32 = 0x58f3_8ded;

    let mut words = Vec::with_capacity(POOL + 4);
    push_words(&mut words, entropy);
    if let Some((place, depth)) = key {
        words.resize(POOL, 0);
        push_words(&mut words, place);
        push_words(&mut words, depth);
    }

    let mut constant = 0x43b0_d7e5_u32;
    let mut hash = |value: u32| {
        let value = value ^ constant;
        constant = constant.wrapping_mul(MULT_A);
        let value = value.wrapping_mul(constant);
        value ^ (value >> 16)
    };
    let mix = |x: u32, y: u32| {
        let value = 0xca01_f9dd_u32.wrapping_mul(x).wrapping_sub(0x4973_f715_u32.wrapping_mul(y));
        value ^ (value >> 16)
    };
    let mut pool = [0u32; POOL];
    for (index, slot) in pool.iter_mut().enumerate() {
        *slot = hash(words.get(index).copied().unwrap_or(0));
    }
    for source in 0..POOL {
        for target in 0..POOL {
            if source != target {
                let value = hash(pool.get(source).copied().unwrap_or(0));
                if let Some(slot) = pool.get_mut(target) {
                    *slot = mix(*slot, value);
                }
            }
        }
    }
    for word in words.iter().skip(POOL) {
        for slot in &mut pool {
            *slot = mix(*slot, hash(*word));
        }
    }

    let mut constant = 0x8b51_f9dd_u32;
    let mut state = [0u32; 4];
    for (slot, word) in state.iter_mut().zip(pool) {
        let value = word ^ constant;
        constant = constant.wrapping_mul(MULT_B);
        let value = value.wrapping_mul(constant);
        *slot = value ^ (value >> 16);
    }
    state
}

/// Appends an integer as 32-bit words, lowest first, without leading zeros but at least one.
fn push_words(words: &mut Vec<u32>, value: u64) {
    words.push(value as u32);
    if value >> 32 != 0 {
        words.push((value >> 32) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increments_of_neighbouring_parts_add_up_to_the_whole() {
        let mut tree = BrownianTree::new(0.03, 14.6, 64, 7);
        let whole = tree.increment(0.03, 14.6);
        let (left, right) = (tree.increment(0.03, 1.234), tree.increment(1.234, 14.6));
        for ((whole, left), right) in whole.iter().zip(left).zip(right) {
            assert!((whole - left - right).abs() < 1e-4);
        }
    }

    #[test]
    fn the_path_does_not_depend_on_the_order_of_questions() {
        let mut one = BrownianTree::new(0.1, 10.0, 20, 3);
        let mut other = BrownianTree::new(0.1, 10.0, 20, 3);
        let first = one.increment(2.0, 5.0);
        other.increment(0.5, 3.0);
        assert_eq!(first, other.increment(2.0, 5.0));
    }

    #[test]
    fn times_closer_than_the_resolution_have_no_increment() {
        let mut tree = BrownianTree::new(0.1, 10.0, 3, 3);
        assert_eq!(tree.increment(1.0, 1.000_000_1), [0.0; 3]);
    }

    #[test]
    fn seeds_are_numpys() {
        assert_eq!(seed_sequence(7, None), [1_376_543_887, 623_213_690, 436_845_524, 1_186_459_840]);
        let spawned = seed_sequence(u64::MAX, Some((5, 3)));
        assert_eq!(spawned, [206_752_380, 1_890_374_860, 654_320_852, 1_710_134_239]);
    }

    #[test]
    fn increments_are_torchsdes() {
        let mut tree = BrownianTree::new(0.03, 14.6, 20, 7);
        for (found, expected) in
            tree.increment(1.234, 5.5).iter().zip([0.291_003_6, -0.608_884_04, -0.646_050_33])
        {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        for (found, expected) in
            tree.increment(0.5, 1.234).iter().zip([0.432_264_1, -1.304_399_1, 0.526_267_77])
        {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}
