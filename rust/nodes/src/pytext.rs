//! Values as Python prints them.

use rushlight_runtime::Value;

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
            Ok(sigmas) => format!("{sigmas:?}"),
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

/// JSON as `json.dumps(value, indent=4)` prints it.
pub(crate) fn indented_json(json: &serde_json::Value) -> String {
    let mut text = String::new();
    write_indented(json, 0, &mut text);
    text
}

fn write_indented(json: &serde_json::Value, depth: usize, text: &mut String) {
    use serde_json::Value as Json;
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
