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

/// Reads all tensors of a file. Names of nested dictionaries are joined with dots, and the level that
/// training programs put around the weights (`state_dict`, `params_ema`, `params`) is left out.
pub(in crate::weights) fn read(bytes: Bytes, origin: &str) -> Result<StateDict> {
    let bad = |reason: String| Error::Format { what: origin.to_string(), reason };
    let bytes = Arc::new(bytes);
    let all = bytes.as_slice();
    let (machine, top, storages) =
        if all.starts_with(b"PK") { archive(all) } else { old_format(all) }.map_err(bad)?;
    let reader = Reader { machine: &machine, storages: &storages, bytes: &bytes };
    let mut found = Found::default();
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
                        Value::Text(key) => key.clone(),
                        Value::Int(key) => key.to_string(),
                        _ => continue,
                    };
                    let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                    self.collect(*value, name, depth + 1, found)?;
                }
            }
            Value::Tensor(arguments) => {
                let entry = self.tensor(arguments).map_err(|reason| format!("tensor {name:?}: {reason}"))?;
                found.entries.push((name, entry));
            }
            Value::Int(number) => drop(found.metadata.insert(name, number.to_string())),
            Value::Text(text) => drop(found.metadata.insert(name, text.clone())),
            _ => {}
        }
        Ok(())
    }

    /// `(storage, offset, shape, strides, …)`
    fn tensor(&self, arguments: &[Id]) -> std::result::Result<Entry, String> {
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
        if shape.len() != strides.len() || shape.len() > 8 {
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
        if is_contiguous(&shape, &strides) || count == 0 {
            let start = range.start + offset * dtype.size();
            let end = start + count * dtype.size();
            return Ok(Entry::from_range(self.bytes.clone(), start..end, dtype, shape));
        }
        // Overlapping strides could ask for far more elements than there are.
        if count > elements {
            return Err(format!("{count} elements from a storage of {elements}"));
        }
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
