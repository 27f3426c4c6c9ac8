//! Classes with their schemas at hand.
//!
//! Validation and `/object_info` ask for schemas far more often than they change, so each is made once and kept
//! until the folders that its lists come from may have changed.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use parking_lot::Mutex;
use rushlight_graph::{Classes, CustomValidation, Input, InputSpec, LinkedOutput, NodeSchema};
use serde_json::Map;

use crate::host::Host;
use crate::node::{Inputs, Node};
use crate::registry::Registry;
use crate::value::Value;

/// The registry, the host, and the schemas that they gave. Shared by the server and every executor.
pub struct ClassTable {
    registry: Registry,
    host: Arc<dyn Host>,
    /// Schemas made since the last refresh; `None` for a class whose schema could not be made.
    schemas: Mutex<HashMap<Arc<str>, Option<Arc<NodeSchema>>>>,
    generation: AtomicU64,
    /// [`Host::generation`] when the schemas were made.
    host_generation: AtomicU64,
    /// When the host was last looked at.
    looked: Mutex<Instant>,
}

impl ClassTable {
    /// A table of a registry's classes.
    pub fn new(registry: Registry, host: Arc<dyn Host>) -> Self {
        let host_generation = AtomicU64::new(host.generation());
        Self {
            registry,
            host,
            schemas: Mutex::new(HashMap::new()),
            generation: AtomicU64::new(0),
            host_generation,
            looked: Mutex::new(Instant::now()),
        }
    }

    /// The class's implementation.
    pub fn node(&self, class: &str) -> Option<&Arc<dyn Node>> {
        self.registry.get(class)
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Files and models that schemas list.
    pub fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// Forgets the schemas, so that lists of files are read again.
    pub fn refresh(&self) {
        self.schemas.lock().clear();
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets the schemas of those classes that may change at any time ([`Node::changes_freely`]): of all of them, or
    /// of the `named` ones. Returns whether there were any.
    pub fn refresh_free(&self, named: Option<&mut dyn Iterator<Item = &str>>) -> bool {
        let mut schemas = self.schemas.lock();
        let mut any = false;
        let mut forget = |name: &str, node: &Arc<dyn Node>| {
            if node.changes_freely() {
                schemas.remove(name);
                any = true;
            }
        };
        match named {
            Some(names) => {
                for name in names {
                    if let Some(node) = self.registry.get(name) {
                        forget(name, node);
                    }
                }
            }
            None => self.registry.iter().for_each(|(name, node)| forget(name, node)),
        }
        any
    }

    /// Changes whenever schemas may have changed: what was derived from them (such as `/object_info`) holds as long
    /// as this stays equal.
    pub fn generation(&self) -> u64 {
        self.follow_host();
        self.generation.load(Ordering::Acquire)
    }

    /// Every schema in the order of registration; classes whose schema cannot be made are left out.
    pub fn schemas(&self) -> impl Iterator<Item = Arc<NodeSchema>> + '_ {
        self.registry.iter().filter_map(|(name, _)| self.schema(name))
    }

    /// Forgets the schemas if the folders that their lists come from have changed. Whether they have. Asked once a
    /// prompt, not once a schema: the host looks at every folder to tell.
    pub fn follow_host(&self) -> bool {
        // Noted before looking: what changes meanwhile is seen the next time.
        *self.looked.lock() = Instant::now();
        let now = self.host.generation();
        let changed = self.host_generation.swap(now, Ordering::AcqRel) != now;
        if changed {
            self.refresh();
        }
        changed
    }

    /// As [`ClassTable::follow_host`], unless the host was looked at within `age`. For whoever looks again before it
    /// refuses anything: what is stale then costs nobody a prompt.
    pub fn follow_host_within(&self, age: Duration) {
        let looked = *self.looked.lock();
        if looked.elapsed() >= age {
            self.follow_host();
        }
    }
}

impl Classes for ClassTable {
    fn schema(&self, class: &str) -> Option<Arc<NodeSchema>> {
        let (name, node) = self.registry.get_key_value(class)?;
        if let Some(known) = self.schemas.lock().get(class) {
            return known.clone();
        }
        // Made outside the lock: it may read folders or call Python.
        let made = catch_unwind(AssertUnwindSafe(|| node.schema(self.host.as_ref()))).ok().map(Arc::new);
        if made.is_none() {
            tracing::error!(class = %name, "the node class has no schema: it panicked while describing itself");
        }
        self.schemas.lock().insert(name.clone(), made.clone());
        made
    }

    fn custom_validation(
        &self,
        class: &str,
        constants: &IndexMap<Arc<str>, Input>,
        types: &Map<String, serde_json::Value>,
    ) -> Option<CustomValidation> {
        let node = self.registry.get(class)?;
        let mut inputs = Inputs::new();
        for (name, input) in constants {
            if let Some(value) = Value::from_constant(input) {
                inputs.insert(name.clone(), value);
            }
        }
        let call = || node.validate(self.host.as_ref(), &inputs, types);
        let answer = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
            let fault = "the node panicked while it checked its inputs".to_owned();
            Some(crate::node::Validation { takes_over: Vec::new(), fault: Some(fault) })
        })?;
        Some(CustomValidation { takes_over: answer.takes_over, fault: answer.fault })
    }

    fn types_match(&self, output: LinkedOutput<'_>, class: &str, spec: &InputSpec) -> Option<bool> {
        let own = self.registry.get(class).and_then(|node| node.takes(spec, output));
        own.or_else(|| self.registry.get(output.class)?.gives(output.slot, spec))
    }
}
