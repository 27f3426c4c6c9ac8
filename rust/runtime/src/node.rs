//! The [`Node`] trait, its inputs and outputs.

use std::any::Any;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use indexmap::IndexMap;
use rushlight_graph::validate::declared_inputs;
use rushlight_graph::{InputSpec, InputType, Link, LinkedOutput, NodeSchema, Prompt};
use serde_json::Map;

use crate::context::NodeContext;
use crate::error::NodeError;
use crate::host::Host;
use crate::placement::Engines;
use crate::value::{Audio, Latent, Value};

/// A node class: one schema, one way to run it. Shared by every node of the class.
pub trait Node: Send + Sync {
    /// What it takes and gives. Asked again when folders may have changed, so lists of files are fresh.
    fn schema(&self, host: &dyn Host) -> NodeSchema;

    /// Whether [`Node::schema`] may give another answer although no folder has changed (Python classes compute theirs
    /// each time). Such a class is asked again for each `/object_info` and each prompt that names it.
    fn changes_freely(&self) -> bool {
        false
    }

    /// Runs one call.
    ///
    /// # Errors
    /// [`NodeError::Interrupted`] when the run was cancelled meanwhile, else why it failed.
    fn execute(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError>;

    /// Begins one call; nodes whose work goes on elsewhere (coroutines) return [`Execution::Pending`].
    ///
    /// # Errors
    /// As [`Node::execute`].
    fn start(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<Execution, NodeError> {
        self.execute(ctx, inputs).map(Execution::Done)
    }

    /// Whether [`Node::start`] may return [`Execution::Pending`]; such nodes are begun first.
    fn is_async(&self) -> bool {
        false
    }

    /// What beside its inputs decides whether it must run again (`IS_CHANGED`). Gets its constant inputs; linked
    /// ones are [`Value::None`].
    ///
    /// # Errors
    /// A failure counts as changed.
    fn fingerprint(&self, _ctx: &NodeContext, _inputs: &Inputs) -> Result<Fingerprint, NodeError> {
        Ok(Fingerprint::Unchanged)
    }

    /// Names of lazy inputs that it needs now. Inputs not computed yet are [`Value::None`].
    ///
    /// # Errors
    /// Fails the node.
    fn check_lazy(&self, _ctx: &NodeContext, _inputs: &Inputs) -> Result<Vec<String>, NodeError> {
        Ok(Vec::new())
    }

    /// `VALIDATE_INPUTS`: `None` when the class has none. `inputs` are its constant inputs, `types` the types of
    /// its linked ones.
    fn validate(
        &self,
        _host: &dyn Host,
        _inputs: &Inputs,
        _types: &Map<String, serde_json::Value>,
    ) -> Option<Validation> {
        None
    }

    /// Whether an output may be linked to its input `spec`, where the class compares types by a rule of its own.
    fn takes(&self, _spec: &InputSpec, _output: LinkedOutput<'_>) -> Option<bool> {
        None
    }

    /// Whether its output `slot` may be linked to the input `spec` of another class, where it compares types by a rule
    /// of its own.
    fn gives(&self, _slot: usize, _spec: &InputSpec) -> Option<bool> {
        None
    }

    /// Which implementations the class has.
    fn engines(&self) -> Engines {
        Engines::NATIVE
    }

    /// Drops what the class keeps between runs that can be made again, such as loaded models.
    fn release(&self) {}
}

/// The answer of `VALIDATE_INPUTS`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Validation {
    /// Inputs whose type, range and list checks it took over.
    pub takes_over: Vec<String>,
    /// The fault, or `None` if it accepts. An empty text means "no reason given".
    pub fault: Option<String>,
}

/// A change fingerprint.
#[derive(Debug, Clone, PartialEq)]
pub enum Fingerprint {
    /// The class has none.
    Unchanged,
    /// Equal values mean unchanged.
    Value(serde_json::Value),
    /// Never equal to itself (NaN): always run.
    AlwaysChanged,
}

/// A call that has begun.
pub enum Execution {
    /// It has ended.
    Done(NodeOutput),
    /// It goes on; the receiver gets the result once.
    Pending(std::sync::mpsc::Receiver<Result<NodeOutput, NodeError>>),
}

/// What a call gives.
#[derive(Debug, Clone, Default)]
pub struct NodeOutput {
    /// One value an output; a list output gives [`Value::List`].
    pub values: Vec<Value>,
    /// UI output: key → list of items.
    pub ui: Option<Map<String, serde_json::Value>>,
    /// A graph to run in its place; then `values` is empty.
    pub expand: Option<Expansion>,
}

impl NodeOutput {
    /// Values and nothing else.
    pub fn values(values: impl Into<Vec<Value>>) -> Self {
        Self { values: values.into(), ..Self::default() }
    }

    /// One value.
    pub fn one(value: Value) -> Self {
        Self::values([value])
    }

    /// The same with a UI output.
    pub fn with_ui(mut self, key: &str, items: impl Into<serde_json::Value>) -> Self {
        self.ui.get_or_insert_with(Map::new).insert(key.into(), items.into());
        self
    }
}

/// A graph that a node puts in its own place.
#[derive(Debug, Clone)]
pub struct Expansion {
    /// The new nodes; ids are already prefixed as the node chose them.
    pub graph: Prompt,
    /// Each output of the node: a value, or an output of a new node.
    pub results: Vec<ExpansionResult>,
}

/// One output of an expanded node.
#[derive(Debug, Clone)]
pub enum ExpansionResult {
    /// Known already.
    Value(Value),
    /// Comes from a node of the expansion.
    Link(Link),
}

/// The inputs of one call, by name, with typed access.
#[derive(Debug, Clone, Default)]
pub struct Inputs(IndexMap<Arc<str>, Value>);

impl Inputs {
    /// No inputs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an input.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: Value) {
        self.0.insert(name.into(), value);
    }

    /// The input, if it was given.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Every input in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Value)> {
        self.0.iter()
    }

    /// The input, or an error that names it.
    ///
    /// # Errors
    /// `TypeError` when it is missing.
    pub fn value(&self, name: &str) -> Result<&Value, NodeError> {
        self.get(name).ok_or_else(|| NodeError::new("TypeError", format!("missing input '{name}'")))
    }

    fn wrong(name: &str, expected: &str, got: &Value) -> NodeError {
        NodeError::new("TypeError", format!("input '{name}' must be {expected}, got {}", got.kind()))
    }

    /// An INT; floats are cut towards zero as Python's `int()` does.
    ///
    /// # Errors
    /// `TypeError` for another type or a missing input; so for all typed getters.
    pub fn int(&self, name: &str) -> Result<i128, NodeError> {
        match self.value(name)? {
            Value::Int(i) => Ok(*i),
            Value::Bool(b) => Ok(i128::from(*b)),
            Value::Float(f) if f.is_finite() => Ok(*f as i128),
            other => Err(Self::wrong(name, "INT", other)),
        }
    }

    /// An INT that is a size or a count.
    ///
    /// # Errors
    /// Also `ValueError` when it is negative or beyond `usize`.
    pub fn size(&self, name: &str) -> Result<usize, NodeError> {
        let value = self.int(name)?;
        usize::try_from(value)
            .map_err(|_| NodeError::value(format!("input '{name}' is out of range: {value}")))
    }

    /// A FLOAT (an INT counts).
    ///
    /// # Errors
    /// See [`Inputs::int`].
    pub fn float(&self, name: &str) -> Result<f64, NodeError> {
        match self.value(name)? {
            Value::Float(f) => Ok(*f),
            Value::Int(i) => Ok(*i as f64),
            Value::Bool(b) => Ok(f64::from(u8::from(*b))),
            other => Err(Self::wrong(name, "FLOAT", other)),
        }
    }

    /// A BOOLEAN.
    ///
    /// # Errors
    /// See [`Inputs::int`].
    pub fn bool(&self, name: &str) -> Result<bool, NodeError> {
        match self.value(name)? {
            Value::Bool(b) => Ok(*b),
            Value::Int(i) => Ok(*i != 0),
            other => Err(Self::wrong(name, "BOOLEAN", other)),
        }
    }

    /// A STRING or a combo's choice.
    ///
    /// # Errors
    /// See [`Inputs::int`].
    pub fn str(&self, name: &str) -> Result<&str, NodeError> {
        match self.value(name)? {
            Value::String(s) => Ok(s),
            other => Err(Self::wrong(name, "STRING", other)),
        }
    }

    /// An IMAGE `[B, H, W, C]`.
    ///
    /// # Errors
    /// See [`Inputs::int`].
    pub fn image(&self, name: &str) -> Result<&Tensor, NodeError> {
        match self.value(name)? {
            Value::Image(tensor) => Ok(tensor),
            other => Err(Self::wrong(name, "IMAGE", other)),
        }
    }

    /// A MASK `[B, H, W]`.
    ///
    /// # Errors
    /// See [`Inputs::int`].
    pub fn mask(&self, name: &str) -> Result<&Tensor, NodeError> {
        match self.value(name)? {
            Value::Mask(tensor) => Ok(tensor),
            other => Err(Self::wrong(name, "MASK", other)),
        }
    }

    /// SIGMAS `[N]`.
    ///
    /// # Errors
    /// See [`Inputs::int`].
    pub fn sigmas(&self, name: &str) -> Result<&Tensor, NodeError> {
        match self.value(name)? {
            Value::Sigmas(tensor) => Ok(tensor),
            other => Err(Self::wrong(name, "SIGMAS", other)),
        }
    }

    /// A LATENT.
    ///
    /// # Errors
    /// See [`Inputs::int`].
    pub fn latent(&self, name: &str) -> Result<&Arc<Latent>, NodeError> {
        match self.value(name)? {
            Value::Latent(latent) => Ok(latent),
            other => Err(Self::wrong(name, "LATENT", other)),
        }
    }

    /// AUDIO.
    ///
    /// # Errors
    /// See [`Inputs::int`].
    pub fn audio(&self, name: &str) -> Result<&Arc<Audio>, NodeError> {
        match self.value(name)? {
            Value::Audio(audio) => Ok(audio),
            other => Err(Self::wrong(name, "AUDIO", other)),
        }
    }

    /// An object of a Rust type, such as a model; `kind` is its socket type, for the message.
    ///
    /// # Errors
    /// See [`Inputs::int`].
    pub fn object<T: Any + Send + Sync>(&self, name: &str, kind: &str) -> Result<&T, NodeError> {
        let value = self.value(name)?;
        match value {
            Value::Object(object) => object.get().ok_or_else(|| Self::wrong(name, kind, value)),
            other => Err(Self::wrong(name, kind, other)),
        }
    }

    /// The inputs as a native node takes them: values of another engine in their native form, for the types that the
    /// schema wants.
    ///
    /// # Errors
    /// Names the input whose value the native engine does not understand.
    pub fn to_native(self, schema: &NodeSchema, device: &Device) -> Result<Self, NodeError> {
        if !self.0.values().any(Value::is_foreign) {
            return Ok(self);
        }
        // Inputs that a user adds as needed are named by the schema whatever the constants are.
        let declared = declared_inputs(schema, |_| None);
        let wanted = |name: &str| {
            let spec = declared.iter().map(AsRef::as_ref).find(|spec| spec.name.as_ref() == name);
            match spec.or_else(|| schema.find_input(name)).map(|spec| &spec.ty) {
                Some(InputType::Named(ty)) => ty.clone(),
                Some(InputType::Choices(_)) => "COMBO".into(),
                None => "*".into(),
            }
        };
        let inputs = self.0.into_iter().map(|(name, value)| {
            let made = value.to_native(&wanted(&name), device).map_err(|error| error.of_input(&name))?;
            Ok((name, made))
        });
        inputs.collect::<Result<_, NodeError>>().map(Self)
    }

    /// The input unless it is missing or [`Value::None`].
    pub fn present(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|value| !matches!(value, Value::None))
    }
}
