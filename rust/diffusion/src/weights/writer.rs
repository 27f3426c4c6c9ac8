//! The bytes of a safetensors file.

use serde_json::{Map, Value, json};

use super::state_dict::StateDict;

/// A state dict as a safetensors file, with strings of metadata. The header is padded with blanks so that tensors begin at
/// a multiple of eight, as the format asks.
pub fn to_safetensors(dict: &StateDict, metadata: &[(String, String)]) -> Vec<u8> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        let strings: Map<String, Value> =
            metadata.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        header.insert("__metadata__".to_string(), Value::Object(strings));
    }
    let mut place = 0;
    let entries: Vec<_> = dict.iter().map(|(name, entry)| (name, entry.materialised())).collect();
    for (name, entry) in &entries {
        let end = place + entry.shape().iter().product::<usize>() * entry.dtype().size();
        let described =
            json!({"dtype": entry.dtype().name(), "shape": entry.shape(), "data_offsets": [place, end]});
        header.insert((*name).to_string(), described);
        place = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = Vec::with_capacity(8 + header.len() + place);
    file.extend_from_slice(&(header.len() as u64).to_le_bytes());
    file.extend_from_slice(&header);
    for (_, entry) in &entries {
        file.extend_from_slice(&entry.raw_bytes());
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{Entry, FileDtype};

    #[test]
    fn what_is_written_is_read_back_with_its_metadata() {
        let bytes: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let entry = Entry::from_bytes(bytes, FileDtype::F32, vec![2, 3]).unwrap();
        let dict =
            StateDict::from_entries([("a".to_string(), entry.clone()), ("b".to_string(), entry.transpose())]);
        let file = to_safetensors(&dict, &[("prompt".to_string(), "{\"é\": 1}".to_string())]);
        let back = StateDict::from_vec(file, "x").unwrap();
        assert_eq!(back.metadata().get("prompt").map(String::as_str), Some("{\"é\": 1}"));
        assert_eq!(back.get("a").unwrap().to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(back.shape("b"), Some(vec![3, 2]));
        assert_eq!(back.get("b").unwrap().to_f32(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }
}
