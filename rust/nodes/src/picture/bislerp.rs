//! Spherical interpolation between neighbouring pixels, taken as vectors of their channels.

use rushlight_runtime::NodeError;

use super::pixels::Pixels;

/// Where a new pixel lies between two old ones: (left, right, how far towards the right).
fn places(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f32 / to as f32;
    let last = from.saturating_sub(1);
    (0..to)
        .map(|i| {
            let place = ((i as f32 + 0.5) * scale - 0.5).clamp(0.0, last as f32);
            let left = place.floor() as usize;
            (left, (left + 1).min(last), place - left as f32)
        })
        .collect()
}

/// The vector between `a` and `b`: its direction turns evenly, its length changes evenly.
fn slerp(a: &[f32], b: &[f32], t: f32, out: &mut [f32]) {
    let norm = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
    let (norm_a, norm_b) = (norm(a), norm(b));
    let unit = |x: f32, norm: f32| if norm == 0.0 { 0.0 } else { x / norm };
    let dot: f32 = a.iter().zip(b).map(|(a, b)| unit(*a, norm_a) * unit(*b, norm_b)).sum();
    // Vectors of one direction need no turning; opposite ones have no plane to turn in.
    if dot > 1.0 - 1e-5 {
        out.copy_from_slice(a);
        return;
    }
    if dot < 1e-5 - 1.0 {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = a * (1.0 - t) + b * t;
        }
        return;
    }
    let angle = dot.acos();
    let sine = angle.sin();
    let (weight_a, weight_b) = (((1.0 - t) * angle).sin() / sine, (t * angle).sin() / sine);
    let length = norm_a * (1.0 - t) + norm_b * t;
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = (weight_a * unit(*a, norm_a) + weight_b * unit(*b, norm_b)) * length;
    }
}

/// Resizes every picture: columns first, then rows.
pub(crate) fn bislerp(pixels: &Pixels, height: usize, width: usize) -> Result<Pixels, NodeError> {
    let channels = pixels.channels;
    let pixel = |from: &Pixels, picture: usize, y: usize, x: usize| {
        let start = from.index(picture, y, x, 0);
        start..start + channels
    };
    let mut wide = Pixels::filled(pixels.batch, pixels.height, width, channels, 0.0)?;
    let columns = places(pixels.width, width);
    let rows = places(pixels.height, height);
    for picture in 0..pixels.batch {
        for y in 0..pixels.height {
            for (x, (left, right, t)) in columns.iter().enumerate() {
                let target = pixel(&wide, picture, y, x);
                let (a, b) = (pixel(pixels, picture, y, *left), pixel(pixels, picture, y, *right));
                if let (Some(a), Some(b), Some(out)) =
                    (pixels.data.get(a), pixels.data.get(b), wide.data.get_mut(target))
                {
                    slerp(a, b, *t, out);
                }
            }
        }
    }
    let mut result = Pixels::filled(pixels.batch, height, width, channels, 0.0)?;
    for picture in 0..pixels.batch {
        for (y, (above, below, t)) in rows.iter().enumerate() {
            for x in 0..width {
                let target = pixel(&result, picture, y, x);
                let (a, b) = (pixel(&wide, picture, *above, x), pixel(&wide, picture, *below, x));
                if let (Some(a), Some(b), Some(out)) =
                    (wide.data.get(a), wide.data.get(b), result.data.get_mut(target))
                {
                    slerp(a, b, *t, out);
                }
            }
        }
    }
    Ok(result)
}
