//! Graphs that nodes put in their own place.

use rushlight_graph::{Classes, Link, NodeId};
use serde_json::Value as Json;

use super::call::{Call, Stop};
use super::inputs::InputLists;
use super::merge::{self, Part};
use super::report::{Failure, describe_inputs};
use super::step::{Place, Step};
use super::walk::{Suspended, Walk};
use crate::node::{Expansion, ExpansionResult};

/// An expanded node's results, some of which are still links, and its UI output.
pub(super) struct Open {
    calls: Vec<Vec<ExpansionResult>>,
    ui: Option<Json>,
    blocked: bool,
}

impl Walk<'_> {
    /// At least one call of a node gave a graph: adds its nodes and waits for them.
    pub(super) fn begin_expansion(
        &mut self,
        place: Place,
        calls: Vec<Call>,
        lists: &InputLists,
    ) -> Result<Step, Stop> {
        let id = place.ctx.node.node_id.clone();
        self.executor.cache.note_expansion(place.ctx.node.real_id.clone());
        let mut open = Open { calls: Vec::with_capacity(calls.len()), ui: None, blocked: false };
        let mut uis = Vec::new();
        let mut added = Vec::new();
        for call in calls {
            match call {
                Call::Done(output) => {
                    uis.extend(output.ui);
                    open.calls.push(match output.expand {
                        Some(Expansion { graph, results }) => {
                            let ids = self.add_nodes(&id, graph);
                            added.extend(
                                ids.map_err(|failure| Failure { inputs: describe_inputs(lists), ..failure })?,
                            );
                            result_links(&results).for_each(|link| self.uses.add(link));
                            results
                        }
                        None => output.values.into_iter().map(ExpansionResult::Value).collect(),
                    });
                }
                Call::Blocked(message) => {
                    open.blocked = true;
                    self.tell_blocked(&place, message);
                    let values =
                        merge::blocked_parts(&place.schema).into_iter().filter_map(|part| match part {
                            Part::Value(value) => Some(ExpansionResult::Value(value)),
                            Part::Values(_) => None,
                        });
                    open.calls.push(values.collect());
                }
                // Calls are only ended when none is pending.
                Call::Pending(_) => {}
            }
        }
        open.ui = merge::merge_ui(uis);
        self.compute_keys(added.iter().cloned());
        let links = open.calls.iter().flat_map(|results| result_links(results));
        let links: Vec<NodeId> = links.map(|link| link.node.clone()).collect();
        self.plan(|list, view| {
            use rushlight_graph::GraphView;
            for node in added.iter().filter(|node| view.is_output(node)) {
                list.add(node, view);
            }
            for source in links.iter().filter(|source| view.prompt.get(source).is_some()) {
                list.add_edge(source, &id, view);
            }
        });
        self.suspended.insert(id, Suspended::Expanded { place: Box::new(place), open });
        Ok(Step::PutBack)
    }

    /// Adds an expansion's nodes under `parent`.
    fn add_nodes(&mut self, parent: &NodeId, graph: rushlight_graph::Prompt) -> Result<Vec<NodeId>, Failure> {
        let mut added = Vec::with_capacity(graph.nodes.len());
        for (id, node) in graph.nodes {
            if self.executor.classes.schema(&node.class_type).is_none() {
                let message =
                    format!("the expansion of node '{parent}' names an unknown class '{}'", node.class_type);
                return Err(Failure::new("KeyError", message));
            }
            self.uses.add_node(&node);
            if !self.prompt.write().add(id.clone(), node, parent) {
                let message =
                    format!("the expansion of node '{parent}' has a node '{id}', which exists already");
                return Err(Failure::new("DuplicateNodeError", message));
            }
            added.push(id);
        }
        Ok(added)
    }

    /// Results of an expansion's nodes that only its node needed are let go.
    fn release_results(&mut self, results: &[ExpansionResult]) {
        for link in result_links(results) {
            if self.uses.release(link) {
                self.results.remove(&link.node);
                self.found.remove(&link.node);
            }
        }
    }

    /// The nodes that a node expanded into are done: its outputs are theirs.
    pub(super) fn end_expansion(&mut self, place: Place, open: Open) -> Result<Step, Stop> {
        let mut calls = Vec::with_capacity(open.calls.len());
        for results in &open.calls {
            let mut parts = Vec::with_capacity(results.len());
            for result in results {
                parts.push(match result {
                    ExpansionResult::Value(value) => Part::Value(value.clone()),
                    ExpansionResult::Link(link) => Part::Values(self.resolve(link)?.unwrap_or_default()),
                });
            }
            calls.push(parts);
        }
        open.calls.iter().for_each(|results| self.release_results(results));
        self.finish_node(&place, calls, open.ui, open.blocked);
        Ok(Step::Done)
    }
}

/// The results that come from nodes of the expansion.
fn result_links(results: &[ExpansionResult]) -> impl Iterator<Item = &Link> {
    results.iter().filter_map(|result| match result {
        ExpansionResult::Link(link) => Some(link),
        ExpansionResult::Value(_) => None,
    })
}
