//! [`Define`]: a node made of plain functions.

use rushlight_graph::NodeSchema;
use rushlight_runtime::{
    Fingerprint, Host, Inputs, Node, NodeContext, NodeError, NodeOutput, Registry, Validation,
};
use serde_json::{Map, Value};
use std::sync::Arc;

type SchemaFn = fn(&dyn Host) -> NodeSchema;
type RunFn = fn(&NodeContext, &Inputs) -> Result<NodeOutput, NodeError>;
type FingerprintFn = fn(&NodeContext, &Inputs) -> Result<Fingerprint, NodeError>;
type LazyFn = fn(&NodeContext, &Inputs) -> Result<Vec<String>, NodeError>;
type ValidateFn = fn(&dyn Host, &Inputs, &Map<String, Value>) -> Validation;

/// A node class without state: a schema, a function, and the hooks that few classes have.
pub(crate) struct Define {
    schema: SchemaFn,
    run: RunFn,
    fingerprint: Option<FingerprintFn>,
    lazy: Option<LazyFn>,
    validate: Option<ValidateFn>,
}

impl Define {
    /// A class with no hooks.
    pub(crate) fn new(schema: SchemaFn, run: RunFn) -> Self {
        Self { schema, run, fingerprint: None, lazy: None, validate: None }
    }

    /// With a change fingerprint.
    pub(crate) fn fingerprint(mut self, hook: FingerprintFn) -> Self {
        self.fingerprint = Some(hook);
        self
    }

    /// With a function that names the lazy inputs it needs.
    pub(crate) fn lazy(mut self, hook: LazyFn) -> Self {
        self.lazy = Some(hook);
        self
    }

    /// With a validation of its own.
    pub(crate) fn validate(mut self, hook: ValidateFn) -> Self {
        self.validate = Some(hook);
        self
    }
}

impl Node for Define {
    fn schema(&self, host: &dyn Host) -> NodeSchema {
        (self.schema)(host)
    }

    fn execute(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
        (self.run)(ctx, inputs)
    }

    fn fingerprint(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<Fingerprint, NodeError> {
        self.fingerprint.map_or(Ok(Fingerprint::Unchanged), |hook| hook(ctx, inputs))
    }

    fn check_lazy(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<Vec<String>, NodeError> {
        self.lazy.map_or(Ok(Vec::new()), |hook| hook(ctx, inputs))
    }

    fn validate(&self, host: &dyn Host, inputs: &Inputs, types: &Map<String, Value>) -> Option<Validation> {
        self.validate.map(|hook| hook(host, inputs, types))
    }
}

/// Registers a class with no hooks.
pub(crate) fn add(registry: &mut Registry, name: &str, schema: SchemaFn, run: RunFn) {
    registry.register(name, Arc::new(Define::new(schema, run)));
}

/// Registers a class that saves files: a `filename_prefix` that leads out of the output folder is refused before the
/// prompt is queued.
pub(crate) fn add_saving(registry: &mut Registry, name: &str, schema: SchemaFn, run: RunFn) {
    registry.register(name, Arc::new(Define::new(schema, run).validate(prefix_allowed)));
}

fn prefix_allowed(host: &dyn Host, inputs: &Inputs, _: &Map<String, Value>) -> Validation {
    let fault = match inputs.str("filename_prefix") {
        Ok(prefix) => host.check_prefix(prefix).err().map(|refused| refused.to_string()),
        // A linked one is only known when it runs, and is refused there.
        Err(_) => None,
    };
    Validation { takes_over: vec!["filename_prefix".into()], fault }
}
