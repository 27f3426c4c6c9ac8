//! Values as Python prints them.

mod tensor;

use rushlight_runtime::Value;
use serde_json::Value as Json;

use crate::picture::encode::python_json;

/// A float as `repr` prints it: shortest digits, an exponent below 1e-4 and from 1e16 on.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) || value == 0.0 {
        let plain = format!("{value}");
        if plain.contains('.') { plain } else { format!("{plain}.0") }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}

/// A value as `str` prints it; tensors and objects by kind and shape.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::None => "None".into(),
        Value::Bool(b) => if *b { "True" } else { "False" }.into(),
        Value::Int(i) => i.to_string(),
        Value::Float(f) => float(*f),
        Value::String(s) => s.to_string(),
        Value::Json(json) => python_json(json),
        Value::Image(tensor) | Value::Mask(tensor) => format!("{} {:?}", value.kind(), tensor.dims()),
        Value::Sigmas(tensor) => match tensor.to_vec1::<f32>() {
            Ok(sigmas) => tensor::tensor(&sigmas),
            Err(_) => format!("{} {:?}", value.kind(), tensor.dims()),
        },
        Value::Latent(latent) => format!("LATENT {:?}", latent.samples.dims()),
        Value::Audio(audio) => format!("AUDIO {:?} at {} Hz", audio.waveform.dims(), audio.sample_rate),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(text).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(object) => format!("<{}>", object.kind()),
        Value::Blocker(_) => "ExecutionBlocker".into(),
    }
}

/// A value as JSON, `None` when JSON cannot hold it.
pub(crate) fn plain(value: &Value) -> Option<Json> {
    match value {
        Value::None => Some(Json::Null),
        Value::Bool(b) => Some(Json::from(*b)),
        Value::Int(i) => serde_json::Number::from_i128(*i).map(Json::Number),
        Value::Float(f) => serde_json::Number::from_f64(*f).map(Json::Number),
        Value::String(s) => Some(Json::from(s.as_ref())),
        Value::Json(json) => Some(json.as_ref().clone()),
        Value::List(items) => items.iter().map(plain).collect::<Option<Vec<_>>>().map(Json::Array),
        _ => None,
    }
}

/// JSON as `json.dumps(value, indent=4)` prints it.
pub(crate) fn indented_json(json: &Json) -> String {
    let mut text = String::new();
    write_indented(json, 0, &mut text);
    text
}

fn write_indented(json: &Json, depth: usize, text: &mut String) {
    let new_line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', 4 * depth));
    };
    match json {
        Json::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                text.push(if index == 0 { '[' } else { ',' });
                new_line(text, depth + 1);
                write_indented(item, depth + 1, text);
            }
            new_line(text, depth);
            text.push(']');
        }
        Json::Object(members) if !members.is_empty() => {
            for (index, (name, member)) in members.iter().enumerate() {
                text.push(if index == 0 { '{' } else { ',' });
                new_line(text, depth + 1);
                text.push_str(&python_json(&Json::from(name.as_str())));
                text.push_str(": ");
                write_indented(member, depth + 1, text);
            }
            new_line(text, depth);
            text.push('}');
        }
        scalar => text.push_str(&python_json(scalar)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rushlight_runtime::Value;

    #[test]
    fn lists_are_json_with_four_spaces() {
        let text = |text: &str| Value::String(text.into());
        let list = Value::List(Arc::new(vec![text("a \"b\" é"), Value::List(Arc::new(vec![Value::Int(1)]))]));
        let shown = |list| super::indented_json(&super::plain(list).unwrap_or_default());
        let expected = "[\n    \"a \\\"b\\\" \\u00e9\",\n    [\n        1\n    ]\n]";
        assert_eq!(shown(&list), expected);
        assert_eq!(shown(&Value::List(Arc::new(vec![]))), "[]");
    }

    #[test]
    fn json_is_indented_as_python_does() {
        let json = serde_json::json!({"a": {"b": [1, 2.5, "é"]}, "empty": [{}, []], "none": null});
        let expected = "{\n    \"a\": {\n        \"b\": [\n            1,\n            2.5,\n            \"\\u00e9\"\n        ]\n    },\n    \
                        \"empty\": [\n        {},\n        []\n    ],\n    \"none\": null\n}";
        assert_eq!(super::indented_json(&json), expected);
    }

    #[test]
    fn floats_look_like_pythons() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-9.223372036854776e18, "-9.223372036854776e+18"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (0.00001, "1e-05"),
            (0.0001, "0.0001"),
            (0.0, "0.0"),
        ] {
            assert_eq!(super::float(value), text);
        }
    }
}
