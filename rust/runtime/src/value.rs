//! What flows along links.

use std::any::Any;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::error::NodeError;

/// A latent and what travels with it.
#[derive(Debug, Clone)]
pub struct Latent {
    /// `[B, C, H, W]`, or `[B, C, T, H, W]` for video models.
    pub samples: Tensor,
    /// Where to change the latent, `[B, 1, H, W]` or `[B, H, W]` in any resolution; 1 = change.
    pub noise_mask: Option<Tensor>,
    /// Which draw of the noise generator each picture takes.
    pub batch_index: Option<Vec<usize>>,
    /// Further keys (`downscale_ratio_spacial`, `type`, …), kept for whoever knows them.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Latent {
    /// A latent with nothing beside its samples.
    pub fn new(samples: Tensor) -> Self {
        Self { samples, noise_mask: None, batch_index: None, extra: serde_json::Map::new() }
    }
}

/// Sound.
#[derive(Debug, Clone)]
pub struct Audio {
    /// `[B, C, T]`, f32.
    pub waveform: Tensor,
    /// Samples a second.
    pub sample_rate: u32,
}

/// A value that stops its consumers from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Told to the client where the blocker first arrives; silent if `None`.
    pub message: Option<String>,
}

/// A value of another engine that native nodes may be able to use.
pub trait Foreign: Any + Send + Sync {
    /// The native value for an input of type `wanted`, made anew each time: the other engine may have changed its own
    /// meanwhile. `None` where native nodes have to take it as it is.
    ///
    /// # Errors
    /// Says what of it the native engine does not understand.
    fn to_native(&self, wanted: &str, device: &Device) -> Result<Option<Value>, NodeError>;
}

type AsForeign = fn(&(dyn Any + Send + Sync)) -> Option<&dyn Foreign>;

/// A shared object that only nodes of one family understand (a model, a sampler, a Python object).
#[derive(Clone)]
pub struct Object {
    kind: Arc<str>,
    inner: Arc<dyn Any + Send + Sync>,
    /// For values of another engine.
    foreign: Option<AsForeign>,
}

impl Object {
    /// Wraps a value; `kind` is its socket type, such as `MODEL`.
    pub fn new<T: Any + Send + Sync>(kind: &str, value: T) -> Self {
        Self { kind: kind.into(), inner: Arc::new(value), foreign: None }
    }

    /// Wraps a value of another engine.
    pub fn foreign<T: Foreign>(kind: &str, value: T) -> Self {
        let foreign: AsForeign = |inner| inner.downcast_ref::<T>().map(|value| value as &dyn Foreign);
        Self { foreign: Some(foreign), ..Self::new(kind, value) }
    }

    /// The value as one of another engine, if it is.
    pub fn as_foreign(&self) -> Option<&dyn Foreign> {
        self.foreign.and_then(|foreign| foreign(self.inner.as_ref()))
    }

    /// The socket type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The value, if it is a `T`.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.inner.downcast_ref()
    }

    /// The shared value, if it is a `T`.
    pub fn share<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.inner.clone().downcast().ok()
    }

    /// Whether both are the same object.
    pub fn same(&self, other: &Object) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{}>", self.kind)
    }
}

/// One value on a link. Cloning is cheap.
#[derive(Debug, Clone)]
pub enum Value {
    /// Python's `None`, and a lazy input that is not computed yet.
    None,
    /// BOOLEAN.
    Bool(bool),
    /// INT; wide enough for 64-bit seeds of either sign.
    Int(i128),
    /// FLOAT.
    Float(f64),
    /// STRING and combo choices.
    String(Arc<str>),
    /// Any other JSON.
    Json(Arc<serde_json::Value>),
    /// IMAGE: f32 `[B, H, W, C]`, 0..1.
    Image(Tensor),
    /// MASK: f32 `[B, H, W]`, 0..1.
    Mask(Tensor),
    /// SIGMAS: f32 `[N]`.
    Sigmas(Tensor),
    /// LATENT.
    Latent(Arc<Latent>),
    /// AUDIO.
    Audio(Arc<Audio>),
    /// A list given to an `INPUT_IS_LIST` node or by an `OUTPUT_IS_LIST` output.
    List(Arc<Vec<Value>>),
    /// Everything else.
    Object(Object),
    /// Stops consumers.
    Blocker(Arc<Blocker>),
}

impl Value {
    /// Wraps an object; see [`Object::new`].
    pub fn object<T: Any + Send + Sync>(kind: &str, value: T) -> Self {
        Value::Object(Object::new(kind, value))
    }

    /// Wraps a latent.
    pub fn latent(latent: Latent) -> Self {
        Value::Latent(Arc::new(latent))
    }

    /// Whether it is, or holds, a value of another engine.
    pub fn is_foreign(&self) -> bool {
        match self {
            Value::Object(object) => object.foreign.is_some(),
            Value::List(items) => items.iter().any(Value::is_foreign),
            _ => false,
        }
    }

    /// The value as native nodes take it on an input of type `wanted`: values of another engine in their native form
    /// where they have one.
    ///
    /// # Errors
    /// Those of [`Foreign::to_native`].
    pub fn to_native(&self, wanted: &str, device: &Device) -> Result<Self, NodeError> {
        match self {
            Value::Object(object) => {
                let made =
                    object.as_foreign().map(|foreign| foreign.to_native(wanted, device)).transpose()?;
                Ok(made.flatten().unwrap_or_else(|| self.clone()))
            }
            Value::List(items) if self.is_foreign() => {
                let items = items.iter().map(|item| item.to_native(wanted, device));
                Ok(Value::List(Arc::new(items.collect::<Result<_, _>>()?)))
            }
            other => Ok(other.clone()),
        }
    }

    /// A short name of what it is, for messages.
    pub fn kind(&self) -> &str {
        match self {
            Value::None => "NoneType",
            Value::Bool(_) => "BOOLEAN",
            Value::Int(_) => "INT",
            Value::Float(_) => "FLOAT",
            Value::String(_) => "STRING",
            Value::Json(_) => "JSON",
            Value::Image(_) => "IMAGE",
            Value::Mask(_) => "MASK",
            Value::Sigmas(_) => "SIGMAS",
            Value::Latent(_) => "LATENT",
            Value::Audio(_) => "AUDIO",
            Value::List(_) => "list",
            Value::Object(object) => object.kind(),
            Value::Blocker(_) => "ExecutionBlocker",
        }
    }
}

impl Value {
    /// The value of a constant input; `None` for a link.
    pub fn from_constant(input: &rushlight_graph::Input) -> Option<Self> {
        match input {
            rushlight_graph::Input::Constant(json) => Some(json.clone().into()),
            rushlight_graph::Input::NonFinite(float) => Some(Value::Float(*float)),
            rushlight_graph::Input::Link(_) => None,
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::None,
            Json::Bool(b) => Value::Bool(b),
            Json::String(s) => Value::String(s.into()),
            Json::Number(n) => {
                if let Some(i) = n.as_i64() {
                    Value::Int(i.into())
                } else if let Some(u) = n.as_u64() {
                    Value::Int(u.into())
                } else {
                    Value::Float(n.as_f64().unwrap_or(f64::NAN))
                }
            }
            other => Value::Json(Arc::new(other)),
        }
    }
}
