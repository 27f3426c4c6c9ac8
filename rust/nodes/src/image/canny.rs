//! Canny's edge detector, with kornia's (Apache-2.0) choices of kernels, borders and rounding.

use rushlight_runtime::NodeError;

use crate::memory;
use crate::picture::Pixels;

/// A plane of numbers with its size.
struct Plane {
    height: usize,
    width: usize,
    data: Vec<f32>,
}

impl Plane {
    /// The value at a place that may lie outside, by a function from outside indexes to inside ones.
    fn at(&self, y: i64, x: i64, inside: fn(i64, usize) -> Option<usize>) -> f32 {
        let place = inside(y, self.height).zip(inside(x, self.width));
        place.and_then(|(y, x)| self.data.get(y * self.width + x).copied()).unwrap_or(0.0)
    }

    fn build(height: usize, width: usize, value: impl Fn(i64, i64) -> f32) -> Self {
        let places = (0..height as i64).flat_map(|y| (0..width as i64).map(move |x| (y, x)));
        Self { height, width, data: places.map(|(y, x)| value(y, x)).collect() }
    }
}

fn zero(index: i64, length: usize) -> Option<usize> {
    usize::try_from(index).ok().filter(|index| *index < length)
}

fn replicate(index: i64, length: usize) -> Option<usize> {
    Some(index.clamp(0, length as i64 - 1) as usize)
}

fn reflect(index: i64, length: usize) -> Option<usize> {
    let last = length as i64 - 1;
    if last <= 0 {
        return Some(0);
    }
    let folded = index.rem_euclid(2 * last);
    Some(folded.min(2 * last - folded) as usize)
}

/// Offsets (dy, dx) of the neighbour in each of eight directions, 45° apart.
const NEIGHBOURS: [(i64, i64); 8] = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)];

/// Gaussian of 5 places at sigma 1, along one direction.
fn blur(plane: &Plane, dy: i64, dx: i64) -> Plane {
    let weights: Vec<f32> = (-2..=2).map(|i: i32| (-(i * i) as f32 / 2.0).exp()).collect();
    let sum: f32 = weights.iter().sum();
    Plane::build(plane.height, plane.width, |y, x| {
        let taps = weights.iter().zip(-2i64..);
        taps.map(|(weight, i)| weight / sum * plane.at(y + dy * i, x + dx * i, reflect)).sum()
    })
}

/// Edges of every picture, 1 or 0, in three channels.
pub(crate) fn edges(p: &Pixels, low: f32, high: f32) -> Result<Pixels, NodeError> {
    let mut data = memory::numbers(&[p.batch, p.height, p.width, 3])?;
    for picture in 0..p.batch {
        let grey = Plane::build(p.height, p.width, |y, x| {
            let at = |c| p.at(picture, y as usize, x as usize, c);
            if p.channels < 3 { at(0) } else { 0.299 * at(0) + 0.587 * at(1) + 0.114 * at(2) }
        });
        for edge in trace(&thin(&grey), low, high) {
            data.extend([edge; 3]);
        }
    }
    Ok(Pixels { batch: p.batch, height: p.height, width: p.width, channels: 3, data })
}

/// Gradient magnitudes where they are greater than both neighbours across the edge, else 0.
fn thin(grey: &Plane) -> Plane {
    let smooth = blur(&blur(grey, 0, 1), 1, 0);
    let sobel = |y: i64, x: i64, transposed: bool| {
        let at = |dy: i64, dx: i64| {
            let (dy, dx) = if transposed { (dx, dy) } else { (dy, dx) };
            smooth.at(y + dy, x + dx, replicate)
        };
        (at(-1, 1) - at(-1, -1)) + 2.0 * (at(0, 1) - at(0, -1)) + (at(1, 1) - at(1, -1))
    };
    let magnitude = Plane::build(grey.height, grey.width, |y, x| {
        let (gx, gy) = (sobel(y, x, false), sobel(y, x, true));
        (gx * gx + gy * gy + 1e-6).sqrt()
    });
    Plane::build(grey.height, grey.width, |y, x| {
        let angle = sobel(y, x, true).atan2(sobel(y, x, false)) * 180.0 / std::f32::consts::PI;
        let direction = (angle / 45.0).round_ties_even() as i64;
        let own = magnitude.at(y, x, zero);
        // Of two equal pixels across a step the left or upper one is kept.
        let greater = |direction: i64| {
            let direction = direction.rem_euclid(8);
            let (dy, dx) = NEIGHBOURS.get(direction as usize).copied().unwrap_or((0, 0));
            let other = magnitude.at(y + dy, x + dx, zero);
            own > other || (matches!(direction, 0 | 2) && own == other)
        };
        if greater(direction) && greater(direction + 4) { own } else { 0.0 }
    })
}

/// Strong edges, and weak ones that touch them through weak ones.
fn trace(magnitude: &Plane, low: f32, high: f32) -> Vec<f32> {
    let (height, width) = (magnitude.height as i64, magnitude.width as i64);
    let mut edges = vec![0.0f32; magnitude.data.len()];
    let mut open: Vec<usize> = Vec::new();
    for (index, value) in magnitude.data.iter().enumerate() {
        if *value > high && *value > low {
            open.push(index);
            if let Some(edge) = edges.get_mut(index) {
                *edge = 1.0;
            }
        }
    }
    while let Some(index) = open.pop() {
        let (y, x) = (index as i64 / width, index as i64 % width);
        for (dy, dx) in NEIGHBOURS {
            let (y, x) = (y + dy, x + dx);
            if !(0..height).contains(&y) || !(0..width).contains(&x) {
                continue;
            }
            let next = (y * width + x) as usize;
            let weak = magnitude.data.get(next).is_some_and(|value| *value > low);
            if let Some(edge) = edges.get_mut(next)
                && weak
                && *edge == 0.0
            {
                *edge = 1.0;
                open.push(next);
            }
        }
    }
    edges
}
