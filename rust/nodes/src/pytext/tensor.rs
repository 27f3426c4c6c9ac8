//! One-dimensional tensors as PyTorch prints them (`torch/_tensor_str.py`, BSD-3-Clause, with its default options).

const DIGITS: usize = 4;
const LINE: usize = 80;
const SHOWN_WHOLE: usize = 1000;
const EDGE: usize = 3;
const OPENING: &str = "tensor(";

/// How every number of one tensor is written.
struct Style {
    whole: bool,
    scientific: bool,
    width: usize,
}

impl Style {
    fn of(values: &[f32]) -> Self {
        let sizes =
            || values.iter().map(|value| f64::from(value.abs())).filter(|v| v.is_finite() && *v != 0.0);
        let (least, most) =
            sizes().fold((f64::INFINITY, 0.0_f64), |(least, most), v| (least.min(v), most.max(v)));
        let whole = sizes().all(|value| value.fract() == 0.0);
        let scientific = most > 0.0 && (most / least > 1000.0 || most > 1e8 || (!whole && least < 1e-4));
        let mut style = Self { whole, scientific, width: 0 };
        style.width = values.iter().map(|value| style.plain(*value).len()).max().unwrap_or(0);
        style
    }

    fn plain(&self, value: f32) -> String {
        let value = f64::from(value);
        if value.is_nan() {
            "nan".into()
        } else if value.is_infinite() {
            if value > 0.0 { "inf" } else { "-inf" }.into()
        } else if self.scientific {
            let text = format!("{value:.DIGITS$e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        } else if self.whole {
            format!("{value:.0}.")
        } else {
            format!("{value:.DIGITS$}")
        }
    }
}

/// `tensor([1.0000, 0.5000, 0.0000])`.
pub(crate) fn tensor(values: &[f32]) -> String {
    let (head, tail) = match values.len() {
        length if length > SHOWN_WHOLE => {
            (values.get(..EDGE).unwrap_or(values), values.get(length - EDGE..).unwrap_or_default())
        }
        _ => (values, Default::default()),
    };
    let shown: Vec<f32> = head.iter().chain(tail).copied().collect();
    let style = Style::of(&shown);
    let written = |values: &[f32]| -> Vec<String> {
        values.iter().map(|value| format!("{:>1$}", style.plain(*value), style.width)).collect()
    };
    let mut items = written(head);
    if !tail.is_empty() {
        // A space more than between numbers, as PyTorch has it.
        items.push(" ...".into());
        items.extend(written(tail));
    }
    let in_a_line = (LINE.saturating_sub(OPENING.len()) / (style.width + 2)).max(1);
    let lines: Vec<String> = items.chunks(in_a_line).map(|line| line.join(", ")).collect();
    let between = format!(",\n{}", " ".repeat(OPENING.len() + 1));
    format!("{OPENING}[{}])", lines.join(&between))
}

#[cfg(test)]
mod tests {
    use super::tensor;

    #[test]
    fn tensors_look_like_pytorchs() {
        for (values, text) in [
            (&[][..], "tensor([])"),
            (&[0.0], "tensor([0.])"),
            (&[8.0, 12.0], "tensor([ 8., 12.])"),
            (&[1.0, 0.5, 0.0], "tensor([1.0000, 0.5000, 0.0000])"),
            (&[-5.0, 14.6], "tensor([-5.0000, 14.6000])"),
            (&[0.0001, 8.0], "tensor([1.0000e-04, 8.0000e+00])"),
            (&[f32::NAN, f32::INFINITY, 1.5], "tensor([   nan,    inf, 1.5000])"),
        ] {
            assert_eq!(tensor(values), text);
        }
        assert_eq!(
            tensor(&[0.25; 10]),
            "tensor([0.2500, 0.2500, 0.2500, 0.2500, 0.2500, 0.2500, 0.2500, 0.2500, 0.2500,\n        0.2500])"
        );
        assert_eq!(tensor(&[1.5; 1001]), "tensor([1.5000, 1.5000, 1.5000,  ..., 1.5000, 1.5000, 1.5000])");
    }
}
