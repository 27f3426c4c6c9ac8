//! Pictures in few colours: a palette by median cut and the nearest of its colours for every pixel.
//!
//! Follows Pillow's `Quant.c` and `Convert.c` (MIT-CMU licence), whose choices show in every result: how boxes are cut,
//! in which order, and that pixels are matched by the upper six bits of their values.

use std::collections::HashMap;

/// A colour of eight bits a channel.
pub(crate) type Rgb = [u8; 3];

/// Colours that are told apart while boxes are cut; with more, low bits are dropped.
const MAX_COLOURS: usize = 65536;

/// How much a difference in red, green and blue weighs when a box is cut.
const WEIGHTS: [u32; 3] = [77, 150, 29];

/// Different colours with how many pixels have them.
type Counted = Vec<(Rgb, u32)>;

/// A box of colours.
struct ColourBox {
    colours: Counted,
    pixels: u32,
}

impl ColourBox {
    fn new(colours: Counted) -> Self {
        let pixels = colours.iter().map(|(_, count)| count).sum();
        Self { colours, pixels }
    }

    fn value(colour: &Rgb, axis: usize) -> u8 {
        colour.get(axis).copied().unwrap_or(0)
    }

    /// Least and greatest value along an axis.
    fn range(&self, axis: usize) -> (u8, u8) {
        let values = self.colours.iter().map(|(colour, _)| Self::value(colour, axis));
        values.fold((u8::MAX, 0), |(low, high), value| (low.min(value), high.max(value)))
    }

    fn is_one_colour(&self) -> bool {
        self.colours.len() <= 1
    }

    /// Cuts along the axis that differs most: the brighter half of the pixels, and what is as bright as the last of
    /// them, goes to the first part. Neither part is empty unless all values are equal.
    fn split(self) -> (Self, Self) {
        let spread = |axis: usize| {
            let (low, high) = self.range(axis);
            u32::from(high.saturating_sub(low)) * WEIGHTS.get(axis).copied().unwrap_or(0)
        };
        let mut axis = 0;
        for other in 1..3 {
            if spread(other) > spread(axis) {
                axis = other;
            }
        }
        let mut counts = [0u64; 256];
        for (colour, count) in &self.colours {
            if let Some(slot) = counts.get_mut(usize::from(Self::value(colour, axis))) {
                *slot += u64::from(*count);
            }
        }
        let (darkest, _) = self.range(axis);
        let mut seen = 0;
        let mut threshold = 0;
        for (value, count) in counts.iter().enumerate().rev() {
            seen += count;
            if seen * 2 > u64::from(self.pixels) {
                threshold = value;
                break;
            }
        }
        // With nothing left for the second part, the darkest value goes there.
        let threshold = threshold.max(usize::from(darkest) + 1);
        let (first, second) = self
            .colours
            .into_iter()
            .partition(|(colour, _)| usize::from(Self::value(colour, axis)) >= threshold);
        (Self::new(first), Self::new(second))
    }
}

/// A node of the tree of cuts.
enum Tree {
    Leaf(ColourBox),
    Cut(usize, usize),
}

/// The boxes that are to be cut next, those with most pixels first. Equals come in the order of this heap, so it is
/// written out.
#[derive(Default)]
struct Queue(Vec<(usize, u32)>);

impl Queue {
    fn at(&self, place: usize) -> u32 {
        self.0.get(place).map_or(0, |(_, pixels)| *pixels)
    }

    fn push(&mut self, node: usize, pixels: u32) {
        self.0.push((node, pixels));
        let mut place = self.0.len() - 1;
        while place > 0 {
            let parent = (place - 1) / 2;
            if pixels <= self.at(parent) {
                break;
            }
            self.0.swap(place, parent);
            place = parent;
        }
    }

    fn pop(&mut self) -> Option<usize> {
        let last = self.0.pop()?;
        let Some(top) = self.0.first().copied() else { return Some(last.0) };
        let mut place = 0;
        loop {
            let mut child = place * 2 + 1;
            if child >= self.0.len() {
                break;
            }
            if child + 1 < self.0.len() && self.at(child) < self.at(child + 1) {
                child += 1;
            }
            if last.1 > self.at(child) {
                break;
            }
            if let Some(moved) = self.0.get(child).copied()
                && let Some(slot) = self.0.get_mut(place)
            {
                *slot = moved;
            }
            place = child;
        }
        if let Some(slot) = self.0.get_mut(place) {
            *slot = last;
        }
        Some(top.0)
    }
}

fn scaled(colour: Rgb, bits: u32) -> Rgb {
    colour.map(|value| value >> bits)
}

/// At most `count` colours (1 to 256) that stand for those of the pixels.
pub(crate) fn median_cut(pixels: &[Rgb], count: usize) -> Vec<Rgb> {
    let mut bits = 0;
    let mut counted: HashMap<Rgb, u32> = HashMap::new();
    for pixel in pixels {
        *counted.entry(scaled(*pixel, bits)).or_default() += 1;
        while counted.len() > MAX_COLOURS {
            bits += 1;
            let mut coarser: HashMap<Rgb, u32> = HashMap::new();
            for (colour, pixels) in counted {
                *coarser.entry(scaled(colour, 1)).or_default() += pixels;
            }
            counted = coarser;
        }
    }
    if counted.is_empty() {
        return Vec::new();
    }
    let root = ColourBox::new(counted.into_iter().collect());
    let mut queue = Queue::default();
    queue.push(0, root.pixels);
    let mut tree = vec![Tree::Leaf(root)];
    'cuts: for _ in 1..count {
        let (node, colours) = loop {
            let Some(node) = queue.pop() else { break 'cuts };
            match tree.get_mut(node) {
                Some(Tree::Leaf(leaf)) if !leaf.is_one_colour() => {
                    break (node, std::mem::take(&mut leaf.colours));
                }
                _ => {}
            }
        };
        let (first, second) = ColourBox::new(colours).split();
        let index = tree.len();
        queue.push(index, first.pixels);
        queue.push(index + 1, second.pixels);
        tree.extend([Tree::Leaf(first), Tree::Leaf(second)]);
        if let Some(slot) = tree.get_mut(node) {
            *slot = Tree::Cut(index, index + 1);
        }
    }
    means(&leaves(&tree), pixels, bits)
}

/// The boxes at the ends of the tree, from the first to the last.
fn leaves(tree: &[Tree]) -> Vec<&ColourBox> {
    let mut open = vec![0];
    let mut found = Vec::new();
    while let Some(node) = open.pop() {
        match tree.get(node) {
            Some(Tree::Cut(first, second)) => open.extend([*second, *first]),
            Some(Tree::Leaf(leaf)) if !leaf.colours.is_empty() => found.push(leaf),
            _ => {}
        }
    }
    found
}

/// The mean colour of the pixels in each box.
fn means(boxes: &[&ColourBox], pixels: &[Rgb], bits: u32) -> Vec<Rgb> {
    let places: HashMap<Rgb, usize> = boxes
        .iter()
        .enumerate()
        .flat_map(|(index, colours)| colours.colours.iter().map(move |(colour, _)| (*colour, index)))
        .collect();
    let mut sums = vec![([0u64; 3], 0u64); boxes.len()];
    for pixel in pixels {
        let place = places.get(&scaled(*pixel, bits)).copied().unwrap_or(0);
        if let Some((sum, count)) = sums.get_mut(place) {
            sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(*value));
            *count += 1;
        }
    }
    sums.into_iter()
        .map(|(sum, count)| sum.map(|sum| (0.5 + sum as f64 / count.max(1) as f64) as u8))
        .collect()
}

/// Indexes of the palette's nearest colours, looked up by the upper six bits of each channel.
pub(crate) struct Nearest<'a> {
    palette: &'a [Rgb],
    known: HashMap<Rgb, usize>,
}

impl<'a> Nearest<'a> {
    /// Matches to `palette`.
    pub(crate) fn new(palette: &'a [Rgb]) -> Self {
        Self { palette, known: HashMap::new() }
    }

    /// The palette's colour for a colour.
    pub(crate) fn colour(&mut self, colour: Rgb) -> Rgb {
        let cell = colour.map(|value| value & 0xfc);
        let palette = self.palette;
        let index = *self.known.entry(cell).or_insert_with(|| {
            let distance = |other: &Rgb| -> u32 {
                cell.iter().zip(other).map(|(a, b)| u32::from(a.abs_diff(*b)).pow(2)).sum()
            };
            // The first of equals.
            palette.iter().enumerate().min_by_key(|(_, other)| distance(other)).map_or(0, |(index, _)| index)
        });
        palette.get(index).copied().unwrap_or([0; 3])
    }
}

/// What is left of the errors of one channel along a row.
#[derive(Default, Clone, Copy)]
struct Carry {
    /// For the next pixel, in sixteenths.
    next: i32,
    /// For the pixels below this one and the last.
    below: i32,
    /// Error of the last pixel.
    last: i32,
}

/// Every pixel replaced by a colour of the palette, its error spread over the neighbours (Floyd and Steinberg, 1976).
pub(crate) fn diffuse(pixels: &[Rgb], width: usize, palette: &[Rgb]) -> Vec<Rgb> {
    let mut nearest = Nearest::new(palette);
    let mut errors = vec![[0i32; 3]; width + 1];
    let mut out = Vec::with_capacity(pixels.len());
    for row in pixels.chunks(width.max(1)) {
        let mut carries = [Carry::default(); 3];
        for (x, pixel) in row.iter().enumerate() {
            let above = errors.get(x + 1).copied().unwrap_or([0; 3]);
            let mut wanted = [0u8; 3];
            for (((wanted, value), carry), above) in wanted.iter_mut().zip(pixel).zip(&carries).zip(above) {
                *wanted = (i32::from(*value) + (carry.next + above) / 16).clamp(0, 255) as u8;
            }
            let found = nearest.colour(wanted);
            let mut below = [0; 3];
            for (((carry, below), wanted), found) in carries.iter_mut().zip(&mut below).zip(wanted).zip(found)
            {
                let error = i32::from(wanted) - i32::from(found);
                *below = 3 * error + carry.below;
                carry.below = 5 * error + carry.last;
                carry.last = error;
                carry.next = 7 * error;
            }
            if let Some(slot) = errors.get_mut(x) {
                *slot = below;
            }
            out.push(found);
        }
        // Pillow ends every row with what is left of blue, for all three channels.
        let [_, _, blue] = carries;
        if let Some(slot) = errors.get_mut(row.len()) {
            *slot = [blue.below, blue.last, blue.last];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_few_colours_keeps_them() {
        let pixels = [[1, 2, 3], [200, 100, 50], [1, 2, 3], [9, 9, 9]];
        let mut palette = median_cut(&pixels, 8);
        palette.sort_unstable();
        assert_eq!(palette, [[1, 2, 3], [9, 9, 9], [200, 100, 50]]);
    }

    #[test]
    fn one_colour_is_the_mean_of_all() {
        assert_eq!(median_cut(&[[0, 0, 10], [255, 1, 20]], 1), [[128, 1, 15]]);
    }

    #[test]
    fn no_pixels_have_no_colours() {
        assert!(median_cut(&[], 4).is_empty());
        assert!(diffuse(&[], 0, &[]).is_empty());
    }
}
