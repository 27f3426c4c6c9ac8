//! The safetensors header: eight bytes of length, a JSON object, then the data.
//!
//! Everything the header says is checked against the bytes that are there before it is believed:
//! lengths, ranges, shapes against ranges, overlaps. The parser allocates in proportion to the
//! header bytes that exist, which are limited.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::dtype::FileDtype;
use crate::error::{Error, Result};

/// Largest header that is read unless a caller says otherwise. The largest published models have
/// headers under 1 MiB; the format itself allows 100 MB, which would be a cheap way to fill memory.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Most dimensions a tensor may have.
const MAX_RANK: usize = 8;

/// What a file may ask of us.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest accepted header, in bytes.
    pub header_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { header_bytes: MAX_HEADER_BYTES }
    }
}

/// One tensor as the header describes it; the range lies within the file.
pub(crate) struct HeaderEntry {
    pub(crate) name: String,
    pub(crate) dtype: FileDtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A checked header.
pub(crate) struct Header {
    pub(crate) entries: Vec<HeaderEntry>,
    pub(crate) metadata: HashMap<String, String>,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// The dimensions of a tensor. A list of more than [`MAX_RANK`] is read to its end and kept up to there and one more, so
/// that it takes no memory and is still known to be too long.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(dimension) = list.next_element()? {
                    if shape.len() <= MAX_RANK {
                        shape.push(dimension);
                    }
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Dimensions)
    }
}

/// A value of `__metadata__`: only texts are allowed there; others are of no use to us, not worth refusing a file for,
/// and not kept.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct AnyValue;
        impl<'de> Visitor<'de> for AnyValue {
            type Value = Text;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("any value")
            }

            fn visit_str<E>(self, text: &str) -> std::result::Result<Text, E> {
                Ok(Text(Some(text.to_owned())))
            }

            fn visit_bool<E>(self, _: bool) -> std::result::Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_i64<E>(self, _: i64) -> std::result::Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_u64<E>(self, _: u64) -> std::result::Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_f64<E>(self, _: f64) -> std::result::Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_unit<E>(self) -> std::result::Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Text, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(AnyValue)
    }
}

struct RawHeader {
    entries: Vec<(String, RawEntry)>,
    metadata: HashMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawHeader;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawHeader, A::Error> {
                let mut header = RawHeader { entries: Vec::new(), metadata: HashMap::new() };
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        let values: HashMap<String, Text> = map.next_value()?;
                        let texts = values.into_iter().filter_map(|(key, Text(text))| Some((key, text?)));
                        header.metadata.extend(texts);
                    } else {
                        header.entries.push((key, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Reads and checks the header of the whole file `bytes`; `origin` names the file in errors.
pub(crate) fn parse(bytes: &[u8], origin: &str, limits: &Limits) -> Result<Header> {
    let bad = |reason: String| Error::Format { what: origin.to_string(), reason };
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(bad(format!("{} bytes are too few for a safetensors file", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > limits.header_bytes {
        let what = format!("{origin}: bytes that the header claims");
        return Err(Error::Limit { what, found: length, limit: limits.header_bytes });
    }
    // The limit is below usize::MAX on every platform we build for, so the cast keeps the value.
    let length = length as usize;
    let (Some(json), Some(data)) = (rest.get(..length), rest.get(length..)) else {
        return Err(bad(format!("the header claims {length} bytes, the file has {} left", rest.len())));
    };
    let raw: RawHeader =
        serde_json::from_slice(json).map_err(|e| bad(format!("the header is not valid: {e}")))?;

    let data_start = 8 + length;
    let mut entries = Vec::with_capacity(raw.entries.len());
    for (name, entry) in raw.entries {
        let dtype = FileDtype::from_name(&entry.dtype)
            .ok_or_else(|| bad(format!("tensor {name:?} has the unknown dtype {:?}", clip(&entry.dtype))))?;
        let (start, end) = entry.data_offsets;
        if start > end || end > data.len() as u64 {
            return Err(bad(format!(
                "tensor {name:?} claims bytes {start}..{end} of {} that are there",
                data.len()
            )));
        }
        let shape = entry.shape.0;
        if shape.len() > MAX_RANK {
            return Err(bad(format!("tensor {name:?} has more than {MAX_RANK} dimensions")));
        }
        let expected =
            shape.iter().try_fold(dtype.size() as u64, |size, &dimension| size.checked_mul(dimension));
        if expected != Some(end - start) {
            return Err(bad(format!(
                "tensor {name:?} of shape {shape:?} and dtype {} does not take the {} bytes it claims",
                entry.dtype,
                end - start
            )));
        }
        entries.push(HeaderEntry {
            name,
            dtype,
            // Each dimension divides a byte count that exists (or is multiplied by a zero), so the
            // only values that do not fit are of empty tensors.
            shape: shape.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect(),
            start: data_start + start as usize,
            end: data_start + end as usize,
        });
    }
    check_disjoint(&entries).map_err(bad)?;
    Ok(Header { entries, metadata: raw.metadata })
}

/// No two tensors may share bytes or a name.
fn check_disjoint(entries: &[HeaderEntry]) -> std::result::Result<(), String> {
    let mut ranges: Vec<(usize, usize, &str)> =
        entries.iter().filter(|e| e.start < e.end).map(|e| (e.start, e.end, e.name.as_str())).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if let [(_, end, first), (start, _, second)] = pair
            && end > start
        {
            return Err(format!("tensors {first:?} and {second:?} overlap"));
        }
    }
    let mut names = std::collections::HashSet::with_capacity(entries.len());
    for entry in entries {
        if !names.insert(entry.name.as_str()) {
            return Err(format!("tensor {:?} appears twice", entry.name));
        }
    }
    Ok(())
}

/// The first few characters of a string that came from a file, for use in messages.
fn clip(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn reason(bytes: &[u8]) -> String {
        match parse(bytes, "x.safetensors", &Limits::default()) {
            Ok(_) => String::from("accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_correct_header_is_read() {
        let bytes = file(
            r#"{"__metadata__":{"a":"b"},"x":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"s":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}"#,
            16,
        );
        let header = parse(&bytes, "x", &Limits::default()).unwrap();
        assert_eq!(header.entries.len(), 2);
        assert_eq!(header.metadata.get("a").map(String::as_str), Some("b"));
    }

    #[test]
    fn a_length_beyond_the_file_is_refused() {
        assert!(reason(&[1, 2, 3]).contains("too few"));
        let mut bytes = file("{}", 0);
        bytes[0] = 200;
        assert!(reason(&bytes).contains("has 2 left"));
    }

    #[test]
    fn a_huge_header_claim_is_refused_before_it_is_read() {
        let mut bytes = 100_000_000u64.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        assert!(reason(&bytes).contains("limit"));
        assert!(reason(&u64::MAX.to_le_bytes()).contains("limit"));
    }

    #[test]
    fn lies_about_ranges_shapes_and_types_are_refused() {
        let cases = [
            (r#"{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, 8, "claims bytes"),
            (r#"{"x":{"dtype":"F32","shape":[4],"data_offsets":[8,0]}}"#, 8, "claims bytes"),
            (r#"{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, "does not take"),
            (
                r#"{"x":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#,
                8,
                "does not take",
            ),
            (r#"{"x":{"dtype":"Q9","shape":[2],"data_offsets":[0,8]}}"#, 8, "unknown dtype"),
            (r#"{"x":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}"#, 8, "dimensions"),
            (
                r#"{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                8,
                "overlap",
            ),
            (
                r#"{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"x":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#,
                8,
                "twice",
            ),
            (r#"{"x":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}}"#, 8, "not valid"),
            (r#"[1]"#, 8, "not valid"),
            (r#"{"x":"#, 8, "not valid"),
        ];
        for (header, data, expected) in cases {
            let message = reason(&file(header, data));
            assert!(message.contains(expected), "{header}: {message}");
        }
    }

    #[test]
    fn long_lists_in_a_header_are_not_kept() {
        let zeros = vec!["0"; 1 << 20].join(",");
        let shape = format!(r#"{{"x":{{"dtype":"U8","shape":[{zeros}],"data_offsets":[0,0]}}}}"#);
        assert!(reason(&file(&shape, 0)).contains("dimensions"));
        let metadata = format!(r#"{{"__metadata__":{{"a":"b","list":[{zeros}],"n":1,"o":{{"p":null}}}}}}"#);
        let header = parse(&file(&metadata, 0), "x", &Limits::default()).unwrap();
        assert_eq!(header.metadata.len(), 1);
    }

    #[test]
    fn deeply_nested_json_does_not_overflow_the_stack() {
        let header = format!(r#"{{"__metadata__":{}"#, "[".repeat(200_000));
        assert!(reason(&file(&header, 0)).contains("not valid"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes, "x", &Limits::default());
        }

        #[test]
        fn no_header_text_makes_the_parser_panic(
            start in 0u64..40, end in 0u64..40, shape in proptest::collection::vec(0u64..9, 0..4),
            dtype in "F32|F16|U8|F9|I64", cut in 0usize..80,
        ) {
            let header = format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}}}"#);
            let mut bytes = file(&header, 24);
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Ok(header) = parse(&bytes, "x", &Limits::default()) {
                for entry in header.entries {
                    assert!(bytes.get(entry.start..entry.end).is_some());
                }
            }
        }
    }
}
