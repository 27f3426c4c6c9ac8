//! What planning and cache keys ask of the run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rushlight_graph::cache_key::KeyFacts;
use rushlight_graph::validate::find_declared;
use rushlight_graph::{Classes, DynamicPrompt, GraphView, KeyTable, Link, NodeId, NodeSchema, PromptNode};

use crate::cache::{NodeResult, OutputCache};
use crate::class_table::ClassTable;

/// Schemas as they were when the run first met each class: a refresh of folders does not change a run under way.
#[derive(Default)]
pub(super) struct Schemas(RefCell<HashMap<Arc<str>, Option<Arc<NodeSchema>>>>);

impl Schemas {
    pub(super) fn get(&self, classes: &ClassTable, class: &Arc<str>) -> Option<Arc<NodeSchema>> {
        if let Some(known) = self.0.borrow().get(class) {
            return known.clone();
        }
        let schema = classes.schema(class);
        self.0.borrow_mut().insert(class.clone(), schema.clone());
        schema
    }
}

/// The run as planning sees it.
pub(super) struct View<'a> {
    pub(super) prompt: &'a DynamicPrompt,
    pub(super) classes: &'a ClassTable,
    pub(super) schemas: &'a Schemas,
    pub(super) keys: &'a KeyTable,
    pub(super) cache: RefCell<&'a mut OutputCache>,
    /// Cached results that planning relied on, held so that no eviction takes them away before they are walked.
    pub(super) found: RefCell<&'a mut HashMap<NodeId, Arc<NodeResult>>>,
}

impl View<'_> {
    fn schema(&self, node: &PromptNode) -> Option<Arc<NodeSchema>> {
        self.schemas.get(self.classes, &node.class_type)
    }
}

impl GraphView for View<'_> {
    fn needs(&self, id: &NodeId) -> Vec<Link> {
        let Some(node) = self.prompt.get(id) else { return Vec::new() };
        let schema = self.schema(node);
        let waits = |name: &str| {
            let spec = schema.as_ref().and_then(|schema| find_declared(schema, node, name));
            spec.is_none_or(|spec| !spec.is_lazy() && !spec.is_raw_link())
        };
        let links = node.inputs.iter().filter_map(|(name, input)| Some((name, input.as_link()?)));
        links
            .filter(|(name, link)| waits(name) && self.prompt.get(&link.node).is_some())
            .map(|(_, link)| link.clone())
            .collect()
    }

    fn is_output(&self, id: &NodeId) -> bool {
        let schema = self.prompt.get(id).and_then(|node| self.schema(node));
        schema.is_some_and(|schema| schema.output_node)
    }

    fn is_async(&self, id: &NodeId) -> bool {
        let node = self.prompt.get(id).and_then(|node| self.classes.node(&node.class_type));
        node.is_some_and(|node| node.is_async())
    }

    fn is_cached(&self, id: &NodeId) -> bool {
        if self.found.borrow().contains_key(id) {
            return true;
        }
        let result = self.keys.get(id).and_then(|key| self.cache.borrow_mut().get(&key));
        result.is_some_and(|result| {
            self.found.borrow_mut().insert(id.clone(), result);
            true
        })
    }
}

/// Key facts that come from the schema alone.
pub(super) fn schema_facts(schema: &NodeSchema) -> KeyFacts {
    KeyFacts {
        uses_id: schema.not_idempotent || schema.wants_hidden("UNIQUE_ID"),
        sees_links: schema.inputs.iter().any(|input| input.is_raw_link()),
        ..KeyFacts::default()
    }
}
