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

#[cfg(test)]
mod tests {
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
