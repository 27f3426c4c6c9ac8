//! What validation and planning ask of whoever knows the node classes.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::prompt::Input;
use crate::schema::{InputSpec, InputType, NodeSchema};

/// An output that an input is linked to.
#[derive(Debug, Clone, Copy)]
pub struct LinkedOutput<'a> {
    /// Class of the node that has it.
    pub class: &'a str,
    /// Which of its outputs.
    pub slot: usize,
    /// Its type.
    pub ty: &'a InputType,
}

/// The answer of a class's own validation (`VALIDATE_INPUTS`, `validate_inputs`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CustomValidation {
    /// Names of its parameters: inputs whose range and list checks it took over; the name `input_types` stands for
    /// the type checks of linked inputs.
    pub takes_over: Vec<String>,
    /// The fault, or `None` if it accepts. An empty text means that no reason was given.
    pub fault: Option<String>,
}

/// The node classes that prompts may name.
pub trait Classes {
    /// The class's schema, or `None` if there is no such class.
    fn schema(&self, class: &str) -> Option<Arc<NodeSchema>>;

    /// Runs the class's own validation, if it has one.
    ///
    /// `constants` are the node's constant inputs, converted; `types` maps each linked input to the type of the
    /// output that it is linked to.
    fn custom_validation(
        &self,
        _class: &str,
        _constants: &IndexMap<Arc<str>, Input>,
        _types: &Map<String, Value>,
    ) -> Option<CustomValidation> {
        None
    }

    /// Whether `output` may be linked to the input `spec` of a class, where one of both compares types by a rule of
    /// its own (Python types with operators). `None`: as their texts say.
    fn types_match(&self, _output: LinkedOutput<'_>, _class: &str, _spec: &InputSpec) -> Option<bool> {
        None
    }
}
