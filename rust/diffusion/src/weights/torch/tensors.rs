//! The tensors of a PyTorch file, as entries over the file's bytes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::pickle::{self, Id, Machine, Value};
use super::zip;
use crate::error::{Error, Result};
use crate::weights::FileDtype;
use crate::weights::state_dict::{Bytes, Entry, StateDict};

/// First number of the format before PyTorch 1.6, as the low bytes of a long; it does not fit an `i64`,
/// so its pickle is recognised by these bytes.
const OLD_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Most names that are looked at, over all dictionaries.
const MAX_VISITS: usize = 1 << 20;

/// Deepest dictionaries that are looked into.
const MAX_DEPTH: usize = 8;

/// Most dimensions a tensor may have.
const MAX_RANK: usize = 8;

/// Longest name of a tensor in bytes; one text of the file may be part of many names.
const MAX_NAME: usize = 1024;

/// Bytes that all names and texts may have together.
const MAX_TEXT: usize = 64 << 20;

/// Reads all tensors of a file. Names of nested dictionaries are joined with dots, and the level that
/// training programs put around the weights (`state_dict`, `params_ema`, `params`) is left out.
pub(in crate::weights) fn read(bytes: Bytes, origin: &str) -> Result<StateDict> {
    let bad = |reason: String| Error::Format { what: origin.to_string(), reason };
    let bytes = Arc::new(bytes);
    let all = bytes.as_slice();
    let (machine, top, storages) =
        if all.starts_with(b"PK") { archive(all) } else { old_format(all) }.map_err(bad)?;
    let reader = Reader { machine: &machine, storages: &storages, bytes: &bytes };
    let mut found = Found { copies_left: all.len(), text_left: MAX_TEXT, ..Found::default() };
    reader.collect(top, String::new(), 0, &mut found).map_err(bad)?;
    let dict = StateDict::from_parts(found.entries, found.metadata);
    let wrapper = ["state_dict.", "params_ema.", "params.", "model_state_dict."]
        .into_iter()
        .find(|prefix| dict.has_prefix(prefix));
    Ok(wrapper.map_or_else(|| dict.clone(), |prefix| dict.view(prefix)))
}

type Storages = HashMap<String, Range<usize>>;

/// The current format: an archive of one pickle and a member for each storage.
fn archive(all: &[u8]) -> std::result::Result<(Machine, Id, Storages), String> {
    let members = zip::members(all)?;
    let pickle = members.iter().find(|m| m.name.ends_with("data.pkl")).ok_or("it has no data.pkl")?;
    let root = pickle.name.strip_suffix("data.pkl").unwrap_or_default();
    let storages = members
        .iter()
        .filter_map(|m| {
            Some((m.name.strip_prefix(root)?.strip_prefix("data/")?.to_string(), m.range.clone()))
        })
        .collect();
    let pickled = pickle::run(all.get(pickle.range.clone()).unwrap_or_default())?;
    Ok((pickled.machine, pickled.top, storages))
}

/// The old format: pickles of a magic number, a version, the system, the object and the storages'
/// keys, then each storage's length and bytes.
fn old_format(all: &[u8]) -> std::result::Result<(Machine, Id, Storages), String> {
    if !all.get(..32.min(all.len())).is_some_and(|head| head.windows(10).any(|w| w == OLD_MAGIC)) {
        return Err("it is a pickle, but not one that PyTorch writes".into());
    }
    let mut at = 0;
    let mut next = || -> std::result::Result<pickle::Pickled, String> {
        let pickled = pickle::run(all.get(at..).unwrap_or_default())?;
        at += pickled.length;
        Ok(pickled)
    };
    for _ in 0..3 {
        next()?;
    }
    let object = next()?;
    let keys = next()?;
    let sizes = storage_sizes(&object.machine);
    let mut storages = Storages::new();
    let Value::List(list) = keys.machine.get(keys.top) else {
        return Err("the list of storages is missing".into());
    };
    for key in list {
        let Value::Text(key) = keys.machine.get(*key) else { continue };
        let size = *sizes.get(key).ok_or_else(|| format!("storage {key:?} is of no known type"))?;
        let count = all.get(at..).and_then(|b| b.first_chunk::<8>()).ok_or("it ends early")?;
        let count = usize::try_from(u64::from_le_bytes(*count)).map_err(|e| e.to_string())?;
        let start = at + 8;
        let end =
            count.checked_mul(size).and_then(|n| n.checked_add(start)).ok_or("a storage is too long")?;
        if end > all.len() {
            return Err("it ends early".into());
        }
        storages.insert(key.clone(), start..end);
        at = end;
    }
    Ok((object.machine, object.top, storages))
}

/// Bytes of an element of each storage that the object names.
fn storage_sizes(machine: &Machine) -> HashMap<String, usize> {
    machine
        .values
        .iter()
        .filter_map(|value| match value {
            Value::Persistent(id) => storage_of(machine, *id).map(|(dtype, key)| (key, dtype.size())),
            _ => None,
        })
        .collect()
}

/// `("storage", torch.FloatStorage, key, device, count)` as type and key.
fn storage_of(machine: &Machine, id: Id) -> Option<(FileDtype, String)> {
    let Value::Tuple(parts) = machine.get(id) else { return None };
    let [_, kind, key, ..] = parts.as_slice() else { return None };
    let (Value::Global(kind), Value::Text(key)) = (machine.get(*kind), machine.get(*key)) else {
        return None;
    };
    let dtype = match kind.strip_prefix("torch.")? {
        "DoubleStorage" => FileDtype::F64,
        "FloatStorage" => FileDtype::F32,
        "HalfStorage" => FileDtype::F16,
        "BFloat16Storage" => FileDtype::BF16,
        "LongStorage" => FileDtype::I64,
        "IntStorage" => FileDtype::I32,
        "ShortStorage" => FileDtype::I16,
        "CharStorage" => FileDtype::I8,
        "ByteStorage" => FileDtype::U8,
        "BoolStorage" => FileDtype::Bool,
        _ => return None,
    };
    Some((dtype, key.clone()))
}

#[derive(Default)]
struct Found {
    entries: Vec<(String, Entry)>,
    metadata: HashMap<String, String>,
    visits: usize,
    /// Bytes that may still be copied out of the file: tensors may share a storage, and each that is not laid out row
    /// by row is a copy of its part.
    copies_left: usize,
    /// Bytes that names and texts may still have.
    text_left: usize,
}

impl Found {
    /// Takes so many bytes of text from what is left.
    fn take_text(&mut self, bytes: usize) -> std::result::Result<(), String> {
        self.text_left = self
            .text_left
            .checked_sub(bytes)
            .ok_or_else(|| format!("its names and texts have more than {MAX_TEXT} bytes"))?;
        Ok(())
    }
}

struct Reader<'a> {
    machine: &'a Machine,
    storages: &'a Storages,
    bytes: &'a Arc<Bytes>,
}

impl Reader<'_> {
    fn collect(
        &self,
        id: Id,
        name: String,
        depth: usize,
        found: &mut Found,
    ) -> std::result::Result<(), String> {
        // Dictionaries may hold each other many times over; a file with that many names is no model.
        found.visits += 1;
        if found.visits > MAX_VISITS {
            return Err(format!("it has more than {MAX_VISITS} names"));
        }
        match self.machine.get(id) {
            Value::Dict(items) if depth < MAX_DEPTH => {
                for (key, value) in items {
                    let key = match self.machine.get(*key) {
                        Value::Text(key) if name.len() + key.len() >= MAX_NAME => {
                            return Err(format!("a name has more than {MAX_NAME} bytes"));
                        }
                        Value::Text(key) => key.clone(),
                        Value::Int(key) => key.to_string(),
                        _ => continue,
                    };
                    let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                    found.take_text(name.len())?;
                    self.collect(*value, name, depth + 1, found)?;
                }
            }
            Value::Tensor(arguments) => {
                let entry = self
                    .tensor(arguments, &mut found.copies_left)
                    .map_err(|reason| format!("tensor {name:?}: {reason}"))?;
                found.entries.push((name, entry));
            }
            Value::Int(number) => drop(found.metadata.insert(name, number.to_string())),
            Value::Text(text) => {
                found.take_text(text.len())?;
                found.metadata.insert(name, text.clone());
            }
            _ => {}
        }
        Ok(())
    }

    /// `(storage, offset, shape, strides, …)`
    fn tensor(&self, arguments: &[Id], copies_left: &mut usize) -> std::result::Result<Entry, String> {
        let [storage, offset, shape, strides, ..] = arguments else {
            return Err("its description is too short".into());
        };
        let Value::Persistent(storage) = self.machine.get(*storage) else {
            return Err("it has no storage".into());
        };
        let (dtype, key) = storage_of(self.machine, *storage).ok_or("its storage is of no known type")?;
        let range = self.storages.get(&key).ok_or_else(|| format!("storage {key:?} is missing"))?;
        let offset = self.size(*offset)?;
        let (shape, strides) = (self.sizes(*shape)?, self.sizes(*strides)?);
        if shape.len() != strides.len() {
            return Err(format!("shape {shape:?} and strides {strides:?} do not go together"));
        }
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or("it is too large")?;
        // One past the last element it reaches.
        let reach = shape
            .iter()
            .zip(&strides)
            .try_fold(offset, |end, (&d, &s)| end.checked_add(d.saturating_sub(1).checked_mul(s)?));
        let reach = match (count, reach) {
            (0, _) => Some(0),
            (_, reach) => reach.and_then(|end| end.checked_add(1)),
        };
        let elements = range.len() / dtype.size();
        if reach.is_none_or(|reach| reach > elements) {
            return Err(format!("shape {shape:?} at {offset} is beyond its storage of {elements} elements"));
        }
        if count == 0 {
            // Wherever it claims to begin, it has no bytes.
            return Ok(Entry::from_range(self.bytes.clone(), range.start..range.start, dtype, shape));
        }
        // From here on every dimension is at least 1 and the last element lies in the storage, so neither products of
        // dimensions nor places overflow.
        if is_contiguous(&shape, &strides) {
            let start = range.start + offset * dtype.size();
            let end = start + count * dtype.size();
            return Ok(Entry::from_range(self.bytes.clone(), start..end, dtype, shape));
        }
        // Overlapping strides could ask for far more elements than there are.
        if count > elements {
            return Err(format!("{count} elements from a storage of {elements}"));
        }
        *copies_left = copies_left
            .checked_sub(count * dtype.size())
            .ok_or("the tensors that have to be copied are larger than the file")?;
        let storage = self.bytes.as_slice().get(range.clone()).unwrap_or_default();
        let bytes = gather(storage, dtype.size(), offset, &shape, &strides, count);
        Entry::from_bytes(bytes, dtype, shape).map_err(|e| e.to_string())
    }

    fn size(&self, id: Id) -> std::result::Result<usize, String> {
        match self.machine.get(id) {
            Value::Int(n) => usize::try_from(*n).map_err(|_| format!("the size {n} is negative")),
            _ => Err("a size is not a number".into()),
        }
    }

    fn sizes(&self, id: Id) -> std::result::Result<Vec<usize>, String> {
        match self.machine.get(id) {
            Value::Tuple(items) | Value::List(items) if items.len() > MAX_RANK => {
                Err(format!("it has {} dimensions", items.len()))
            }
            Value::Tuple(items) | Value::List(items) => items.iter().map(|&id| self.size(id)).collect(),
            _ => Err("its shape is not a tuple".into()),
        }
    }
}

fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == expected;
        expected *= size;
        fits
    })
}

/// The elements of a strided tensor in row-major order.
fn gather(
    bytes: &[u8],
    size: usize,
    offset: usize,
    shape: &[usize],
    strides: &[usize],
    count: usize,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(count * size);
    for index in 0..count {
        let mut rest = index;
        let mut at = offset;
        for (&dimension, &stride) in shape.iter().zip(strides).rev() {
            at += rest % dimension * stride;
            rest /= dimension;
        }
        out.extend_from_slice(bytes.get(at * size..(at + 1) * size).unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with a storage of six floats and the numbers 0 to 3 at places 7 to 10.
    fn machine(more: Vec<Value>) -> Machine {
        let text = |text: &str| Value::Text(text.into());
        let mut values = vec![
            text("storage"),
            Value::Global("torch.FloatStorage".into()),
            text("0"),
            text("cpu"),
            Value::Int(6),
            Value::Tuple(vec![0, 1, 2, 3, 4]),
            Value::Persistent(5),
        ];
        values.extend((0..4).map(Value::Int));
        values.extend(more);
        Machine { values }
    }

    fn collect(machine: &Machine, top: Id) -> std::result::Result<Vec<(String, Entry)>, String> {
        let bytes = Arc::new(Bytes::Owned(vec![0; 24]));
        let storages = Storages::from([("0".to_string(), 0..24)]);
        let mut found = Found { copies_left: 24, text_left: MAX_TEXT, ..Found::default() };
        Reader { machine, storages: &storages, bytes: &bytes }.collect(top, String::new(), 0, &mut found)?;
        Ok(found.entries)
    }

    #[test]
    fn transposed_views_of_one_storage_are_copied_no_more_than_the_file_is_long() {
        // Shape [2, 3] with strides [1, 2].
        let tensor = [
            Value::Tuple(vec![9, 10]),
            Value::Tuple(vec![8, 9]),
            Value::Tensor(vec![6, 7, 11, 12]),
            Value::Text("a".into()),
            Value::Text("b".into()),
        ];
        let with = |items| machine(tensor.iter().cloned().chain([Value::Dict(items)]).collect());
        assert_eq!(collect(&with(vec![(14, 13)]), 16).unwrap().len(), 1);
        let error = collect(&with(vec![(14, 13), (15, 13)]), 16).unwrap_err();
        assert!(error.contains("larger than the file"), "{error}");
    }

    #[test]
    fn an_empty_tensor_may_claim_any_place_and_size() {
        let machine = machine(vec![
            Value::Int(i64::MAX),
            // Shape [0, 2^63 - 1, 3], any strides.
            Value::Tuple(vec![7, 11, 10]),
            Value::Tuple(vec![11, 11, 11]),
            Value::Tensor(vec![6, 11, 12, 13]),
        ]);
        let entries = collect(&machine, 14).unwrap();
        assert!(entries[0].1.to_f32().is_empty());
        entries[0].1.release();
    }

    #[test]
    fn names_and_texts_are_bounded_however_often_they_are_recalled() {
        let long = machine(vec![Value::Text("x".repeat(MAX_NAME)), Value::Dict(vec![(11, 7)])]);
        assert!(collect(&long, 12).unwrap_err().contains("a name has more"));
        let text = Value::Text("x".repeat(1 << 20));
        let mut values = vec![text];
        values.extend((0..65).map(|i| Value::Text(format!("k{i}"))));
        values.push(Value::Dict((0..65).map(|i| (12 + i, 11)).collect()));
        assert!(collect(&machine(values), 77).unwrap_err().contains("names and texts"));
    }
}
