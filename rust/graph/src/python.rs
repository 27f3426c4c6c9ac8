//! Python's conversions and number printing, which the protocol's messages are made of.
//!
//! Sources: the Python language reference on `int()`, `float()`, `str()` and `repr()`.

use std::fmt::Write;

use serde_json::{Number, Value};

/// Digits that `int()` takes from text.
const MAX_INT_DIGITS: usize = 4300;

/// `str(value)`.
pub fn to_str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(&mut out, value);
    out
}

fn write_repr(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => out.push_str(&number_repr(number)),
        Value::String(text) => write_text_repr(out, text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_repr(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (i, (key, item)) in map.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_text_repr(out, key);
                out.push_str(": ");
                write_repr(out, item);
            }
            out.push('}');
        }
    }
}

/// `repr` of a text: single quotes unless it holds some and no double ones.
pub fn text_repr(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_text_repr(&mut out, text);
    out
}

fn write_text_repr(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_unprintable(c) => {
                let code = u32::from(c);
                // Writing to a String cannot fail.
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{a0}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
            | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || (c.is_whitespace() && c != ' ')
}

/// `repr` of a JSON number.
pub fn number_repr(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float_repr(float),
        _ => number.to_string(),
    }
}

/// `repr` of a float: the shortest digits that read back, in exponent form from 1e16 and below 1e-4.
pub fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// A number as Python has it: integers of any size a seed may have, or floats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PyNumber {
    /// An `int`, clamped to 128 bits.
    Int(i128),
    /// A `float`.
    Float(f64),
}

impl PyNumber {
    /// A JSON number.
    pub fn from_json(number: &Number) -> Self {
        if let Some(i) = number.as_i64() {
            PyNumber::Int(i.into())
        } else if let Some(u) = number.as_u64() {
            PyNumber::Int(u.into())
        } else {
            PyNumber::Float(number.as_f64().unwrap_or(f64::NAN))
        }
    }

    /// The JSON number, or `None` for one that JSON cannot hold.
    pub fn to_json(self) -> Option<Number> {
        match self {
            PyNumber::Int(i) => match (i64::try_from(i), u64::try_from(i)) {
                (Ok(i), _) => Some(i.into()),
                (_, Ok(u)) => Some(u.into()),
                _ => Number::from_f64(i as f64),
            },
            PyNumber::Float(f) => Number::from_f64(f),
        }
    }

    /// `str()` of it.
    pub fn repr(self) -> String {
        match self {
            PyNumber::Int(i) => i.to_string(),
            PyNumber::Float(f) => float_repr(f),
        }
    }

    fn as_f64(self) -> f64 {
        match self {
            PyNumber::Int(i) => i as f64,
            PyNumber::Float(f) => f,
        }
    }

    /// `self < other`; false when either is NaN.
    pub fn less_than(self, other: Self) -> bool {
        match (self, other) {
            (PyNumber::Int(a), PyNumber::Int(b)) => a < b,
            _ => self.as_f64() < other.as_f64(),
        }
    }
}

/// `int(value)`.
///
/// # Errors
/// The text of Python's exception.
pub fn to_int(value: &Value) -> Result<i128, String> {
    match value {
        Value::Bool(flag) => Ok(i128::from(*flag)),
        Value::Number(number) => match PyNumber::from_json(number) {
            PyNumber::Int(i) => Ok(i),
            // `as` cuts towards zero and clamps.
            PyNumber::Float(f) if f.is_finite() => Ok(f as i128),
            PyNumber::Float(f) if f.is_nan() => Err("cannot convert float NaN to integer".into()),
            PyNumber::Float(_) => Err("cannot convert float infinity to integer".into()),
        },
        Value::String(text) => text_to_int(text),
        other => Err(format!(
            "int() argument must be a string, a bytes-like object or a real number, not '{}'",
            type_name(other)
        )),
    }
}

fn text_to_int(text: &str) -> Result<i128, String> {
    let wrong = || format!("invalid literal for int() with base 10: {}", text_repr(text));
    let trimmed = text.trim();
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let digits = strip_underscores(digits).ok_or_else(wrong)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    if digits.len() > MAX_INT_DIGITS {
        return Err(format!(
            "Exceeds the limit ({MAX_INT_DIGITS} digits) for integer string conversion: value has {} digits; use \
             sys.set_int_max_str_digits() to increase the limit",
            digits.len()
        ));
    }
    let magnitude: i128 = digits.parse().unwrap_or(i128::MAX);
    Ok(if negative { -magnitude } else { magnitude })
}

/// `float(value)`; may be NaN or infinite.
///
/// # Errors
/// The text of Python's exception.
pub fn to_float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Bool(flag) => Ok(f64::from(u8::from(*flag))),
        Value::Number(number) => Ok(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => text_to_float(text),
        other => {
            Err(format!("float() argument must be a string or a real number, not '{}'", type_name(other)))
        }
    }
}

fn text_to_float(text: &str) -> Result<f64, String> {
    let wrong = || format!("could not convert string to float: {}", text_repr(text));
    let digits = strip_underscores(text.trim()).ok_or_else(wrong)?;
    // Rust reads the same decimal forms, and `nan`, `inf` and `infinity` in any case.
    digits.parse().map_err(|_| wrong())
}

/// Underscores are allowed between digits only.
fn strip_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit = |i: Option<usize>| i.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    let misplaced = |i: usize| !(digit(i.checked_sub(1)) && digit(i.checked_add(1)));
    if bytes.iter().enumerate().any(|(i, &byte)| byte == b'_' && misplaced(i)) {
        return None;
    }
    Some(text.replace('_', ""))
}

/// `bool(value)`: false for what is empty or zero, so `"false"` is true.
pub fn to_bool(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// `a == b`: numbers and booleans compare by value.
pub fn equal(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Bool(flag) => Some(PyNumber::Int(i128::from(*flag))),
        Value::Number(number) => Some(PyNumber::from_json(number)),
        _ => None,
    };
    match (number(a), number(b)) {
        (Some(PyNumber::Int(a)), Some(PyNumber::Int(b))) => a == b,
        (Some(a), Some(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// `type(value).__name__`.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floats_print_as_python_prints_them() {
        let cases = [
            (1e30, "1e+30"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (-0.0, "-0.0"),
            (8.0, "8.0"),
            (0.1, "0.1"),
            (123456789.125, "123456789.125"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in cases {
            assert_eq!(float_repr(value), text);
        }
    }

    #[test]
    fn text_prints_with_the_quotes_python_picks() {
        assert_eq!(text_repr("a"), "'a'");
        assert_eq!(text_repr("it's"), "\"it's\"");
        assert_eq!(text_repr("\"it's\""), "'\"it\\'s\"'");
        assert_eq!(text_repr("\\\n\u{7}é\u{2028}"), "'\\\\\\n\\x07é\\u2028'");
        assert_eq!(repr(&json!([1, 1.0, true, null, {"k": "v"}])), "[1, 1.0, True, None, {'k': 'v'}]");
    }

    #[test]
    fn int_takes_what_python_takes() {
        for (value, int) in [
            (json!("12"), 12),
            (json!(" 9 "), 9),
            (json!("1_0"), 10),
            (json!(9.9), 9),
            (json!(-3.7), -3),
            (json!(true), 1),
            (json!("-5"), -5),
            (json!("+5"), 5),
            (json!(u64::MAX), i128::from(u64::MAX)),
        ] {
            assert_eq!(to_int(&value), Ok(int), "{value}");
        }
        for text in ["", "1__0", "_1", "1_", "0x10", "1.0", "1e3", "- 5"] {
            let message = format!("invalid literal for int() with base 10: '{text}'");
            assert_eq!(to_int(&json!(text)), Err(message));
        }
        let message = "int() argument must be a string, a bytes-like object or a real number, not 'NoneType'";
        assert_eq!(to_int(&json!(null)), Err(message.into()));
    }

    #[test]
    fn float_takes_what_python_takes() {
        for (value, float) in [
            (json!("1.5"), 1.5),
            (json!(" 1e3 "), 1000.0),
            (json!("1_0.5"), 10.5),
            (json!("Infinity"), f64::INFINITY),
            (json!("-inf"), f64::NEG_INFINITY),
            (json!(".5"), 0.5),
            (json!("5."), 5.0),
            (json!(true), 1.0),
        ] {
            assert_eq!(to_float(&value), Ok(float), "{value}");
        }
        assert!(to_float(&json!("nan")).is_ok_and(f64::is_nan));
        for text in ["", "abc", "1_", "1._0", "0x1p3"] {
            assert_eq!(to_float(&json!(text)), Err(format!("could not convert string to float: '{text}'")));
        }
    }

    #[test]
    fn truth_is_pythons() {
        for value in [json!(""), json!(0), json!(0.0), json!(null), json!([]), json!({})] {
            assert!(!to_bool(&value), "{value}");
        }
        for value in [json!("false"), json!("0"), json!(2), json!([0])] {
            assert!(to_bool(&value), "{value}");
        }
        assert!(
            equal(&json!(1), &json!(true)) && equal(&json!(1.0), &json!(1)) && !equal(&json!("1"), &json!(1))
        );
    }
}
