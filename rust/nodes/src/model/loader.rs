//! Classes that load files, or use loaded ones: they share one [`Residency`].

use std::sync::Arc;

use rushlight_runtime::Node;

use super::residency::Residency;
use crate::prelude::*;
use crate::settings::Settings;

type LoadFn = fn(&Residency, &NodeContext, &Inputs) -> Result<NodeOutput, NodeError>;

struct Loader {
    residency: Arc<Residency>,
    schema: fn(&dyn Host) -> NodeSchema,
    run: LoadFn,
}

impl Node for Loader {
    fn schema(&self, host: &dyn Host) -> NodeSchema {
        (self.schema)(host)
    }

    fn execute(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
        (self.run)(&self.residency, ctx, inputs)
    }

    fn release(&self) {
        self.residency.release();
    }
}

/// Registers loaders of one residency.
pub(crate) struct Loaders<'a> {
    registry: &'a mut Registry,
    residency: Arc<Residency>,
}

impl<'a> Loaders<'a> {
    /// Loaders that load as `settings` say.
    pub(crate) fn new(registry: &'a mut Registry, settings: &Settings) -> Self {
        Self { registry, residency: Arc::new(Residency::new(settings)) }
    }

    /// Registers a class.
    pub(crate) fn add(&mut self, name: &str, schema: fn(&dyn Host) -> NodeSchema, run: LoadFn) {
        self.registry.register(name, Arc::new(Loader { residency: self.residency.clone(), schema, run }));
    }
}
