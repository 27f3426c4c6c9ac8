//! Which engine runs which node: native first, Python when needed.
//!
//! A class may have a native implementation, a Python one, or both ([`Dual`]). Values that only one engine
//! understands (MODEL, CLIP, VAE, …) tie nodes together, so placement is decided before anything runs, for each
//! group of nodes joined by such values: native if every node of the group can be, else Python if every one can be,
//! else the prompt is refused.

use std::collections::HashSet;
use std::sync::Arc;

use indexmap::IndexMap;
use rushlight_graph::{Classes, InputSpec, InputType, LinkedOutput, NodeId, NodeSchema, Prompt};
use rushlight_protocol::{ErrorBody, NodeErrors, PromptRejected};
use serde_json::{Map, Value as Json};

use crate::class_table::ClassTable;
use crate::context::NodeContext;
use crate::error::NodeError;
use crate::host::Host;
use crate::node::{Execution, Fingerprint, Inputs, Node, NodeOutput, Validation};

/// Types whose values both engines understand; everything else ties its nodes to one engine.
const SHARED: &[&str] =
    &["IMAGE", "MASK", "LATENT", "SIGMAS", "AUDIO", "STRING", "INT", "FLOAT", "BOOLEAN", "COMBO", "*"];

/// Which implementations a node class has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engines {
    /// It runs natively.
    pub native: bool,
    /// It runs in Python.
    pub python: bool,
    /// Where both are possible, Python is wanted.
    pub prefer_python: bool,
}

impl Engines {
    /// Native only, as most classes are.
    pub const NATIVE: Self = Self { native: true, python: false, prefer_python: false };
    /// Python only.
    pub const PYTHON: Self = Self { native: false, python: true, prefer_python: true };

    /// Whether a node of a class with these runs natively.
    pub fn is_native(self, placement: &Placement, real_id: &str) -> bool {
        self.native && !(self.python && placement.is_python(real_id))
    }
}

/// The nodes of one prompt that run in Python although they have a native implementation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement(HashSet<NodeId>);

impl Placement {
    /// Whether a node runs in Python; nodes made by expansion follow the outermost one.
    pub fn is_python(&self, real_id: &str) -> bool {
        self.0.contains(real_id)
    }
}

/// A class with two implementations; the run's [`Placement`] says which one a node uses.
pub struct Dual {
    native: Arc<dyn Node>,
    python: Arc<dyn Node>,
    prefer_python: bool,
}

impl Dual {
    /// Both implementations of one class.
    pub fn new(native: Arc<dyn Node>, python: Arc<dyn Node>, prefer_python: bool) -> Self {
        Self { native, python, prefer_python }
    }

    fn of(&self, ctx: &NodeContext) -> &dyn Node {
        if ctx.run.placement.is_python(&ctx.node.real_id) {
            self.python.as_ref()
        } else {
            self.native.as_ref()
        }
    }
}

impl Node for Dual {
    /// The checkout's own description, so that clients see what they are used to; what the native class offers
    /// beside it (the checkpoint inside the program) can be chosen, too.
    fn schema(&self, host: &dyn Host) -> NodeSchema {
        let mut schema = self.python.schema(host);
        if !self.prefer_python {
            offer_choices_of(&mut schema, &self.native.schema(host));
        }
        schema
    }

    fn engines(&self) -> Engines {
        Engines { native: true, python: true, prefer_python: self.prefer_python }
    }

    fn execute(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
        self.of(ctx).execute(ctx, inputs)
    }

    fn start(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<Execution, NodeError> {
        self.of(ctx).start(ctx, inputs)
    }

    fn is_async(&self) -> bool {
        self.native.is_async() || self.python.is_async()
    }

    fn fingerprint(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<Fingerprint, NodeError> {
        let own = self.of(ctx).fingerprint(ctx, inputs)?;
        if !ctx.run.placement.is_python(&ctx.node.real_id) {
            return Ok(own);
        }
        // Values of one engine must never come out of the cache for the other.
        Ok(match own {
            Fingerprint::Unchanged => Fingerprint::Value(Json::from("python")),
            Fingerprint::Value(value) => Fingerprint::Value(serde_json::json!(["python", value])),
            Fingerprint::AlwaysChanged => Fingerprint::AlwaysChanged,
        })
    }

    fn check_lazy(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<Vec<String>, NodeError> {
        self.of(ctx).check_lazy(ctx, inputs)
    }

    fn validate(&self, host: &dyn Host, inputs: &Inputs, types: &Map<String, Json>) -> Option<Validation> {
        self.native.validate(host, inputs, types)
    }

    fn takes(&self, spec: &InputSpec, output: LinkedOutput<'_>) -> Option<bool> {
        self.python.takes(spec, output)
    }

    fn gives(&self, slot: usize, spec: &InputSpec) -> Option<bool> {
        self.python.gives(slot, spec)
    }

    fn release(&self) {
        self.native.release();
        self.python.release();
    }
}

/// Appends the choices of `other`'s lists that `schema`'s lists of the same names lack.
fn offer_choices_of(schema: &mut NodeSchema, other: &NodeSchema) {
    for input in &mut schema.inputs {
        let offered = other.find_input(&input.name).map(|input| &input.ty);
        let (InputType::Choices(choices), Some(InputType::Choices(offered))) = (&input.ty, offered) else {
            continue;
        };
        let missing: Vec<Json> = offered.iter().filter(|item| !choices.contains(item)).cloned().collect();
        if missing.is_empty() {
            continue;
        }
        let shown = schema.extra.get_mut("input").and_then(|groups| groups.as_object_mut());
        let mut shown = shown.into_iter().flat_map(|groups| groups.values_mut());
        let shown = shown.find_map(|group| group.get_mut(input.name.as_ref())?.get_mut(0)?.as_array_mut());
        if let Some(shown) = shown {
            shown.extend(missing.iter().cloned());
        }
        input.ty = InputType::Choices(choices.iter().cloned().chain(missing).collect());
    }
}

/// Decides where each node of a validated prompt runs.
///
/// # Errors
/// `engines_cannot_meet`, naming a node that only runs natively and one that only runs in Python, joined by values
/// that one engine understands.
pub fn place(prompt: &Prompt, classes: &ClassTable) -> Result<Placement, PromptRejected> {
    let engines_of = |class: &str| classes.node(class).map_or(Engines::NATIVE, |node| node.engines());
    let nodes: IndexMap<&NodeId, Engines> =
        prompt.nodes.iter().map(|(id, node)| (id, engines_of(&node.class_type))).collect();
    // Without a class of both kinds nothing can be chosen: native values pass through Python as opaque handles.
    if !nodes.values().any(|engines| engines.native && engines.python) {
        return Ok(Placement::default());
    }
    let mut groups = Groups::new(nodes.len());
    for (place, (_, node)) in prompt.nodes.iter().enumerate() {
        let schema = classes.schema(&node.class_type);
        for (name, input) in &node.inputs {
            let Some(link) = input.as_link() else { continue };
            let Some((source, _, _)) = nodes.get_full(&link.node) else { continue };
            let gives = prompt.nodes.get(&link.node).and_then(|node| classes.schema(&node.class_type));
            let given = gives.and_then(|schema| {
                let slot = link.index(schema.outputs.len())?;
                schema.outputs.get(slot).map(|output| output.ty.clone())
            });
            let taken =
                schema.as_ref().and_then(|schema| schema.find_input(name).map(|input| input.ty.clone()));
            if given.as_ref().is_some_and(ties) || taken.as_ref().is_some_and(ties) {
                groups.join(place, source);
            }
        }
    }
    let mut placement = Placement::default();
    for members in groups.members() {
        let engines: Vec<(&NodeId, Engines)> = members
            .iter()
            .filter_map(|&place| nodes.get_index(place).map(|(id, engines)| (*id, *engines)))
            .collect();
        let all_native = engines.iter().all(|(_, engines)| engines.native);
        let all_python = engines.iter().all(|(_, engines)| engines.python);
        let wants_python = engines.iter().any(|(_, engines)| engines.prefer_python);
        if all_python && (!all_native || wants_python) {
            placement.0.extend(engines.iter().map(|(id, _)| (*id).clone()));
        } else if !all_native {
            let native = engines.iter().find(|(_, engines)| !engines.python).map(|(id, _)| *id);
            let python = engines.iter().find(|(_, engines)| !engines.native).map(|(id, _)| *id);
            if let (Some(native), Some(python)) = (native, python) {
                return Err(cannot_meet(prompt, native, python));
            }
        }
    }
    Ok(placement)
}

fn ties(ty: &InputType) -> bool {
    match ty {
        InputType::Choices(_) => false,
        InputType::Named(names) => names.split(',').any(|name| !SHARED.contains(&name.trim())),
    }
}

fn cannot_meet(prompt: &Prompt, native: &NodeId, python: &NodeId) -> PromptRejected {
    let class = |id: &NodeId| prompt.nodes.get(id).map_or("", |node| &node.class_type).to_owned();
    let details = format!(
        "node '{native}' ({}) only runs natively and node '{python}' ({}) only runs in Python, but they are joined by \
         values that one engine understands",
        class(native),
        class(python),
    );
    let error = ErrorBody::new(
        "engines_cannot_meet",
        "Two nodes cannot work on each other's values",
        details.clone(),
    );
    let mut node_errors = IndexMap::new();
    for id in [native, python] {
        let fault = ErrorBody::new(
            "engines_cannot_meet",
            "Node runs on another engine than a node it is joined to",
            "",
        );
        node_errors.insert(
            id.to_string(),
            NodeErrors {
                errors: vec![ErrorBody { details: details.clone(), ..fault }],
                dependent_outputs: Vec::new(),
                class_type: class(id),
            },
        );
    }
    PromptRejected { error, node_errors }
}

/// Disjoint sets over node places.
struct Groups(Vec<usize>);

impl Groups {
    fn new(len: usize) -> Self {
        Self((0..len).collect())
    }

    fn root(&mut self, mut place: usize) -> usize {
        while let Some(&parent) = self.0.get(place) {
            if parent == place {
                break;
            }
            let above = self.0.get(parent).copied().unwrap_or(parent);
            if let Some(entry) = self.0.get_mut(place) {
                *entry = above;
            }
            place = above;
        }
        place
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if let Some(entry) = self.0.get_mut(a) {
            *entry = b;
        }
    }

    fn members(&mut self) -> Vec<Vec<usize>> {
        let mut groups: IndexMap<usize, Vec<usize>> = IndexMap::new();
        for place in 0..self.0.len() {
            groups.entry(self.root(place)).or_default().push(place);
        }
        groups.into_values().collect()
    }
}
