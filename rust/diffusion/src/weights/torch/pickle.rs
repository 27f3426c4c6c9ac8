//! Pickle's stack machine (protocols 0 to 5, as far as `torch.save` uses them) over data only.
//!
//! Values live in one list and refer to each other by index, so that nesting, however deep, costs no
//! stack when a file is read or let go.

use std::collections::HashMap;

/// A value of the machine; `Id`s are indexes into [`Machine::values`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A name of something in Python, as data.
    Global(String),
    /// What `persistent_id` stands for: PyTorch's storages.
    Persistent(Id),
    /// `torch._utils._rebuild_tensor…` with its arguments.
    Tensor(Vec<Id>),
    /// The result of any other call, or bytes and numbers that we have no use for.
    Opaque,
}

/// Index of a value.
pub(super) type Id = usize;

/// The machine after a run.
pub(super) struct Machine {
    pub(super) values: Vec<Value>,
}

impl Machine {
    /// A value; unknown indexes are opaque.
    pub(super) fn get(&self, id: Id) -> &Value {
        self.values.get(id).unwrap_or(&Value::Opaque)
    }
}

/// A pickle that was read: the machine, the value on top, and the number of bytes it took.
pub(super) struct Pickled {
    pub(super) machine: Machine,
    pub(super) top: Id,
    pub(super) length: usize,
}

/// Most values a pickle may make. A checkpoint makes some tens for each tensor.
const MAX_VALUES: usize = 4 << 20;

/// Most arguments of a call that makes a tensor.
const MAX_ARGUMENTS: usize = 16;

/// Runs one pickle from the start of `bytes`.
pub(super) fn run(bytes: &[u8]) -> Result<Pickled, String> {
    let mut run =
        Run { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    let top = run.run()?;
    Ok(Pickled { machine: Machine { values: run.values }, top, length: run.at })
}

struct Run<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Run<'_> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let [opcode] = self.take::<1>()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => drop(self.take::<1>()?),
                0x95 => drop(self.take::<8>()?),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                b'K' => {
                    let [n] = self.take::<1>()?;
                    self.push(Value::Int(i64::from(n)))?;
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.take()?);
                    self.push(Value::Int(i64::from(n)))?;
                }
                b'J' => {
                    let n = i32::from_le_bytes(self.take()?);
                    self.push(Value::Int(i64::from(n)))?;
                }
                0x8a => {
                    let [length] = self.take::<1>()?;
                    let digits = self.slice(usize::from(length))?;
                    let value = long(digits);
                    self.push(value)?;
                }
                0x8b => {
                    let length = self.length4()?;
                    self.slice(length)?;
                    self.push(Value::Opaque)?;
                }
                b'G' => {
                    let n = f64::from_be_bytes(self.take()?);
                    self.push(Value::Float(n))?;
                }
                b'I' | b'L' | b'F' => {
                    let line = self.line()?;
                    let text = line.trim_end_matches('L');
                    let value = match text {
                        "00" if opcode == b'I' => Value::Bool(false),
                        "01" if opcode == b'I' => Value::Bool(true),
                        _ => text
                            .parse()
                            .map(Value::Int)
                            .or_else(|_| text.parse().map(Value::Float))
                            .unwrap_or(Value::Opaque),
                    };
                    self.push(value)?;
                }
                b'X' | b'T' | b'B' => {
                    let length = self.length4()?;
                    self.text(length, opcode != b'B')?;
                }
                0x8c | b'U' | b'C' => {
                    let [length] = self.take::<1>()?;
                    self.text(usize::from(length), opcode != b'C')?;
                }
                0x8d | 0x8e | 0x96 => {
                    let length = u64::from_le_bytes(self.take()?);
                    let length = usize::try_from(length).map_err(|e| e.to_string())?;
                    self.text(length, opcode == 0x8d)?;
                }
                b'S' | b'V' => {
                    let line = self.line()?;
                    let text = line.trim_matches(['\'', '"']).to_string();
                    self.push(Value::Text(text))?;
                }
                b')' => self.push(Value::Tuple(Vec::new()))?,
                b't' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Tuple(items))?;
                }
                0x85..=0x87 => {
                    let count = usize::from(opcode - 0x84);
                    let from = self.stack.len().checked_sub(count).ok_or("the stack is empty")?;
                    let items = self.stack.split_off(from);
                    self.push(Value::Tuple(items))?;
                }
                b']' | 0x8f => self.push(Value::List(Vec::new()))?,
                b'l' | 0x91 => {
                    let items = self.pop_mark()?;
                    self.push(Value::List(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' | 0x90 => {
                    let items = self.pop_mark()?;
                    self.append(items)?;
                }
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b'd' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Dict(pairs(&items)))?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set_items(vec![(key, value)])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set_items(pairs(&items))?;
                }
                b'q' => {
                    let [key] = self.take::<1>()?;
                    self.put(u64::from(key))?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.take()?);
                    self.put(u64::from(key))?;
                }
                b'p' => {
                    let key = self.line()?.parse().map_err(|_| "a memo key is not a number")?;
                    self.put(key)?;
                }
                0x94 => self.put(self.memo.len() as u64)?,
                b'h' => {
                    let [key] = self.take::<1>()?;
                    self.recall(u64::from(key))?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.take()?);
                    self.recall(u64::from(key))?;
                }
                b'g' => {
                    let key = self.line()?.parse().map_err(|_| "a memo key is not a number")?;
                    self.recall(key)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Value::Global(format!("{module}.{name}")))?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let value = match (self.values.get(module), self.values.get(name)) {
                        (Some(Value::Text(module)), Some(Value::Text(name))) => {
                            Value::Global(format!("{module}.{name}"))
                        }
                        _ => Value::Opaque,
                    };
                    self.push(value)?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.push(Value::Persistent(id))?;
                }
                b'R' | 0x81 => {
                    let arguments = self.pop()?;
                    let function = self.pop()?;
                    let value = self.call(function, arguments);
                    self.push(value)?;
                }
                0x92 => {
                    self.pop()?;
                    self.pop()?;
                    self.pop()?;
                    self.push(Value::Opaque)?;
                }
                b'i' | b'o' => {
                    if opcode == b'i' {
                        self.line()?;
                        self.line()?;
                    }
                    self.pop_mark()?;
                    self.push(Value::Opaque)?;
                }
                // State of an object: attributes we have no use for.
                b'b' => drop(self.pop()?),
                other => return Err(format!("it has the unknown instruction {other:#04x}")),
            }
        }
    }

    /// What a call stands for, when it is one of the few that make tensors and dictionaries.
    fn call(&self, function: Id, arguments: Id) -> Value {
        let (Some(Value::Global(name)), Some(Value::Tuple(arguments))) =
            (self.values.get(function), self.values.get(arguments))
        else {
            return Value::Opaque;
        };
        // Each call makes a copy, so only of what is as short as such arguments are.
        if arguments.len() > MAX_ARGUMENTS {
            return Value::Opaque;
        }
        match name.as_str() {
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => {
                Value::Tensor(arguments.clone())
            }
            // A parameter is its tensor with a flag.
            "torch._utils._rebuild_parameter" => {
                match arguments.first().and_then(|&id| self.values.get(id)) {
                    Some(Value::Tensor(arguments)) => Value::Tensor(arguments.clone()),
                    _ => Value::Opaque,
                }
            }
            "collections.OrderedDict" | "collections.defaultdict" | "__builtin__.dict" | "builtins.dict" => {
                Value::Dict(Vec::new())
            }
            _ => Value::Opaque,
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        self.at += N;
        bytes.copied().ok_or_else(|| "it ends early".to_string())
    }

    fn slice(&mut self, length: usize) -> Result<&[u8], String> {
        let end = self.at.checked_add(length).ok_or("it ends early")?;
        let bytes = self.bytes.get(self.at..end).ok_or("it ends early")?;
        self.at = end;
        Ok(bytes)
    }

    fn length4(&mut self) -> Result<usize, String> {
        Ok(u32::from_le_bytes(self.take()?) as usize)
    }

    /// A string (or bytes, of which nothing is kept).
    fn text(&mut self, length: usize, keep: bool) -> Result<(), String> {
        let bytes = self.slice(length)?;
        let value =
            if keep { Value::Text(String::from_utf8_lossy(bytes).into_owned()) } else { Value::Opaque };
        self.push(value)
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&b| b == b'\n').ok_or("a line never ends")?;
        let line = String::from_utf8_lossy(rest.get(..length).unwrap_or_default()).into_owned();
        self.at += length + 1;
        Ok(line)
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("it makes more than {MAX_VALUES} values"));
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(|| "the stack is empty".to_string())
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".to_string())
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        if mark > self.stack.len() {
            return Err("the stack is below its mark".into());
        }
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let top = self.top()?;
        if let Some(Value::List(list)) = self.values.get_mut(top) {
            list.extend(items);
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<(Id, Id)>) -> Result<(), String> {
        let top = self.top()?;
        if let Some(Value::Dict(dict)) = self.values.get_mut(top) {
            dict.extend(items);
        }
        Ok(())
    }

    fn put(&mut self, key: u64) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<(), String> {
        let id = *self.memo.get(&key).ok_or("it recalls what was never stored")?;
        self.stack.push(id);
        Ok(())
    }
}

fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    let (pairs, _) = items.as_chunks::<2>();
    pairs.iter().map(|[key, value]| (*key, *value)).collect()
}

/// A little-endian two's-complement number; opaque when it needs more than 64 bits.
fn long(digits: &[u8]) -> Value {
    let Some(last) = digits.last() else { return Value::Int(0) };
    let mut bytes = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
    match bytes.get_mut(..digits.len()) {
        Some(low) => {
            low.copy_from_slice(digits);
            Value::Int(i64::from_le_bytes(bytes))
        }
        None => Value::Opaque,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_a_system_function_is_an_opaque_value() {
        // pickle.dumps of an object whose __reduce__ is (os.system, ("touch /tmp/x",)).
        let bytes = b"cposix\nsystem\n(S'touch /tmp/x'\ntR.";
        let pickled = run(bytes).unwrap();
        assert_eq!(pickled.machine.get(pickled.top), &Value::Opaque);
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let mut bytes = vec![b']'; 500_000];
        bytes.extend(vec![b'a'; 499_999]);
        bytes.push(b'.');
        assert!(run(&bytes).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_machine_panic(bytes: Vec<u8>) {
            let _ = run(&bytes);
        }
    }
}
