//! Class name → node.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::node::Node;

/// Every class that prompts may name, in the order `/object_info` lists them.
#[derive(Clone, Default)]
pub struct Registry {
    classes: IndexMap<Arc<str>, Arc<dyn Node>>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a class.
    pub fn register(&mut self, name: &str, node: Arc<dyn Node>) {
        self.classes.insert(name.into(), node);
    }

    /// The class of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Node>> {
        self.classes.get(name)
    }

    /// The class of that name, with the shared name.
    pub fn get_key_value(&self, name: &str) -> Option<(&Arc<str>, &Arc<dyn Node>)> {
        self.classes.get_key_value(name)
    }

    /// Every class in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<dyn Node>)> {
        self.classes.iter()
    }
}
