//! Node schemas: what a class takes and gives, and its `/object_info` form.

use std::sync::Arc;

use serde_json::{Map, Value, json};

/// Where an input stands in `INPUT_TYPES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Must be given.
    Required,
    /// May be left out.
    Optional,
    /// Filled by the server (`PROMPT`, `UNIQUE_ID`, …).
    Hidden,
}

/// The type of an input.
#[derive(Debug, Clone, PartialEq)]
pub enum InputType {
    /// A socket or widget name: `IMAGE`, `INT`, `*`, or a comma-separated set.
    Named(Arc<str>),
    /// A list of choices written as the type itself (the old combo form).
    Choices(Arc<[Value]>),
}

impl InputType {
    /// A combo of text choices.
    pub fn choices<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> Self {
        InputType::Choices(items.into_iter().map(|item| Value::from(item.as_ref())).collect())
    }

    /// The JSON in front of the options.
    pub fn to_json(&self) -> Value {
        match self {
            InputType::Named(name) => Value::from(name.as_ref()),
            InputType::Choices(items) => Value::Array(items.to_vec()),
        }
    }
}

/// One input of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// Name, as in prompts.
    pub name: Arc<str>,
    /// Required, optional or hidden.
    pub presence: Presence,
    /// Its type.
    pub ty: InputType,
    /// Options in order: `default`, `min`, `max`, `lazy`, `options`, …
    pub options: Map<String, Value>,
    /// `/object_info` shows `[TYPE]` in place of `[TYPE, {}]` (of `TYPE` for a hidden input), as upstream does for
    /// some classes.
    pub bare: bool,
}

impl InputSpec {
    /// A required input with no options.
    pub fn new(name: &str, ty: &str) -> Self {
        Self::with_type(name, InputType::Named(ty.into()))
    }

    /// A required input that is a list of choices.
    pub fn combo<S: AsRef<str>>(name: &str, choices: impl IntoIterator<Item = S>) -> Self {
        Self::with_type(name, InputType::choices(choices))
    }

    /// A hidden input.
    pub fn hidden(name: &str, ty: &str) -> Self {
        Self { presence: Presence::Hidden, ..Self::new(name, ty) }
    }

    fn with_type(name: &str, ty: InputType) -> Self {
        Self { name: name.into(), presence: Presence::Required, ty, options: Map::new(), bare: false }
    }

    /// The same, optional.
    pub fn optional(mut self) -> Self {
        self.presence = Presence::Optional;
        self
    }

    /// The same, shown as `[TYPE]`.
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// The same with one more option.
    pub fn opt(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.options.insert(key.into(), value.into());
        self
    }

    /// The same with `default`.
    pub fn default(self, value: impl Into<Value>) -> Self {
        self.opt("default", value)
    }

    /// The same with `min` and `max`.
    pub fn range(self, min: impl Into<Value>, max: impl Into<Value>) -> Self {
        self.opt("min", min).opt("max", max)
    }

    /// The same with `step`.
    pub fn step(self, step: impl Into<Value>) -> Self {
        self.opt("step", step)
    }

    /// Whether the input is computed only when the node asks for it.
    pub fn is_lazy(&self) -> bool {
        self.options.get("lazy").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether a link is given to the node as it stands, not followed (`rawLink`).
    pub fn is_raw_link(&self) -> bool {
        self.options.get("rawLink").and_then(Value::as_bool).unwrap_or(false)
    }

    /// `[TYPE, {options}]`, or `[TYPE]` when it is bare.
    pub fn config_json(&self) -> Value {
        if self.bare && self.options.is_empty() {
            return json!([self.ty.to_json()]);
        }
        self.config_pair_json()
    }

    /// `[type, {options}]`, also where `/object_info` leaves the options out: the form in validation errors.
    pub fn config_pair_json(&self) -> Value {
        json!([self.ty.to_json(), self.options])
    }
}

/// One output of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSpec {
    /// Socket type: a name, or a list of choices.
    pub ty: InputType,
    /// Label.
    pub name: Arc<str>,
    /// The node gives a list that is spread over the next node's calls.
    pub is_list: bool,
    /// Tooltip.
    pub tooltip: Option<Arc<str>>,
}

impl OutputSpec {
    /// An output whose label is its type.
    pub fn new(ty: &str) -> Self {
        Self::named(ty, ty)
    }

    /// An output with a label of its own.
    pub fn named(ty: &str, name: &str) -> Self {
        Self { ty: InputType::Named(ty.into()), name: name.into(), is_list: false, tooltip: None }
    }

    /// The same as a list output.
    pub fn list(mut self) -> Self {
        self.is_list = true;
        self
    }
}

/// Everything that clients and validation know of a node class.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSchema {
    /// Class name, as in prompts.
    pub name: Arc<str>,
    /// Name for people.
    pub display_name: Arc<str>,
    /// Menu path.
    pub category: Arc<str>,
    /// What it does.
    pub description: Arc<str>,
    /// The Python module that upstream has it in; frontends group by it.
    pub python_module: Arc<str>,
    /// Inputs in order.
    pub inputs: Vec<InputSpec>,
    /// Outputs in order.
    pub outputs: Vec<OutputSpec>,
    /// The prompt is run for its sake.
    pub output_node: bool,
    /// It gets whole lists once in place of one call an index.
    pub input_is_list: bool,
    /// Its result may differ from run to run for equal inputs, so the node id is part of its cache key.
    pub not_idempotent: bool,
    /// Unknown inputs are accepted and passed on (`**kwargs`, flexible optional inputs).
    pub accepts_any_input: bool,
    /// Further `/object_info` keys in order (`deprecated`, `experimental`, `api_node`, `output_tooltips`,
    /// `output_matchtypes`, …) exactly as they are sent.
    pub extra: Map<String, Value>,
}

impl NodeSchema {
    /// A schema with no inputs or outputs. `display_name` starts as `name`.
    pub fn new(name: &str, category: &str) -> Self {
        Self {
            name: name.into(),
            display_name: name.into(),
            category: category.into(),
            description: "".into(),
            python_module: "nodes".into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            output_node: false,
            input_is_list: false,
            not_idempotent: false,
            accepts_any_input: false,
            extra: Map::new(),
        }
    }

    /// Sets the name for people.
    pub fn display(mut self, name: &str) -> Self {
        self.display_name = name.into();
        self
    }

    /// Sets the description.
    pub fn describe(mut self, text: &str) -> Self {
        self.description = text.into();
        self
    }

    /// Sets upstream's module.
    pub fn module(mut self, module: &str) -> Self {
        self.python_module = module.into();
        self
    }

    /// Adds an input.
    pub fn input(mut self, input: InputSpec) -> Self {
        self.inputs.push(input);
        self
    }

    /// Adds an output.
    pub fn output(mut self, output: OutputSpec) -> Self {
        self.outputs.push(output);
        self
    }

    /// Marks it as an output node.
    pub fn output_node(mut self) -> Self {
        self.output_node = true;
        self
    }

    /// Adds an `/object_info` key.
    pub fn extra(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.into(), value.into());
        self
    }

    /// The input of that name, of any presence.
    pub fn find_input(&self, name: &str) -> Option<&InputSpec> {
        self.inputs.iter().find(|input| input.name.as_ref() == name)
    }

    /// Whether a hidden input of this kind (`UNIQUE_ID`, `PROMPT`, …) is asked for.
    pub fn wants_hidden(&self, kind: &str) -> bool {
        self.inputs.iter().any(|input| {
            input.presence == Presence::Hidden
                && matches!(&input.ty, InputType::Named(name) if name.as_ref() == kind)
        })
    }

    /// The class's entry in `/object_info`.
    pub fn to_object_info(&self) -> Value {
        let mut groups = Map::new();
        let mut order = Map::new();
        let kinds = [
            (Presence::Required, "required"),
            (Presence::Optional, "optional"),
            (Presence::Hidden, "hidden"),
        ];
        for (presence, key) in kinds {
            let members: Vec<_> = self.inputs.iter().filter(|input| input.presence == presence).collect();
            if members.is_empty() && presence != Presence::Required {
                continue;
            }
            let entries: Map<String, Value> = members
                .iter()
                .map(|input| {
                    let config = match presence {
                        Presence::Hidden if input.bare => json!([input.ty.to_json()]),
                        Presence::Hidden => input.ty.to_json(),
                        _ => input.config_json(),
                    };
                    (input.name.to_string(), config)
                })
                .collect();
            groups.insert(key.into(), Value::Object(entries));
            order.insert(key.into(), members.iter().map(|input| input.name.to_string()).collect());
        }
        let mut info = Map::new();
        info.insert("input".into(), Value::Object(groups));
        info.insert("input_order".into(), Value::Object(order));
        info.insert("is_input_list".into(), self.input_is_list.into());
        info.insert("output".into(), self.outputs.iter().map(|output| output.ty.to_json()).collect());
        info.insert("output_is_list".into(), self.outputs.iter().map(|output| output.is_list).collect());
        info.insert(
            "output_name".into(),
            self.outputs.iter().map(|output| output.name.to_string()).collect(),
        );
        info.insert("name".into(), self.name.as_ref().into());
        info.insert("display_name".into(), self.display_name.as_ref().into());
        info.insert("description".into(), self.description.as_ref().into());
        info.insert("python_module".into(), self.python_module.as_ref().into());
        info.insert("category".into(), self.category.as_ref().into());
        info.insert("output_node".into(), self.output_node.into());
        info.extend(self.extra.clone());
        // Servers before this field existed leave it out; a class of theirs says so.
        if info.get("is_input_list").is_some_and(Value::is_null) {
            info.shift_remove("is_input_list");
        }
        Value::Object(info)
    }
}
