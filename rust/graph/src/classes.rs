//! What validation and planning ask of whoever knows the node classes.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::prompt::Input;
use crate::schema::NodeSchema;

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
}
