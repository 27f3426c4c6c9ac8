//! From each wanted output through its links, each node once, with an explicit stack.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;
use rushlight_protocol::{InputError, NodeErrors};
use serde_json::Value;

use super::errors;
use super::node::Surroundings;
use super::prompt::Schemas;
use crate::classes::Classes;
use crate::prompt::{Input, NodeId, Prompt};

/// Entries of all `dependent_outputs` together. Many broken nodes under many outputs would else make an answer that
/// grows with the square of the request.
const MAX_DEPENDENT_ENTRIES: usize = 200_000;
/// Nodes whose faults are listed; nobody reads more, and each repeats its class's options.
const MAX_FAULTY_NODES: usize = 10_000;
/// Lines of `details`.
const MAX_DETAIL_LINES: usize = 10_000;

#[derive(Default)]
struct Verdict {
    /// Whether it and all its ancestors passed.
    valid: bool,
    errors: Vec<InputError>,
    links: Vec<NodeId>,
    /// Part of the path from the output that is being walked: meeting it again is a cycle.
    on_path: bool,
    /// A link leads back to a node on the path.
    in_cycle: bool,
}

struct Frame {
    id: NodeId,
    links: std::vec::IntoIter<(NodeId, Arc<str>)>,
}

/// The walk's memory.
pub(super) struct Walk<'a> {
    around: Surroundings<'a>,
    verdicts: HashMap<NodeId, Verdict>,
    converted: Vec<(NodeId, Arc<str>, Input)>,
    in_cycle: Option<(NodeId, NodeId)>,
}

/// What the walk says of the outputs.
pub(super) struct Report {
    pub(super) good: Vec<NodeId>,
    pub(super) node_errors: IndexMap<String, NodeErrors>,
    /// One line an error of an output itself.
    pub(super) details: String,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        prompt: &'a Prompt,
        json: &'a Value,
        classes: &'a dyn Classes,
        schemas: &'a Schemas,
    ) -> Self {
        let around = Surroundings { prompt, json, classes, schemas };
        Self { around, verdicts: HashMap::new(), converted: Vec::new(), in_cycle: None }
    }

    /// Checks an output and everything it depends on.
    pub(super) fn visit(&mut self, output: &NodeId) {
        let mut path: Vec<Frame> = self.enter(output, None).into_iter().collect();
        while let Some(frame) = path.last_mut() {
            let Some((source, input)) = frame.links.next() else {
                let id = frame.id.clone();
                path.pop();
                self.leave(&id);
                continue;
            };
            let id = frame.id.clone();
            match self.verdicts.get(&source) {
                Some(verdict) if verdict.on_path => {
                    if let Some(verdict) = self.verdicts.get_mut(&id) {
                        verdict.in_cycle = true;
                    }
                    self.in_cycle.get_or_insert((id, source));
                }
                Some(_) => {}
                None => path.extend(self.enter(&source, Some((&id, &input)))),
            }
        }
    }

    /// Checks one node's own inputs; `reached_by` is the consumer and its input. Returns its frame, or `None` when its links are not to be followed.
    fn enter(&mut self, id: &NodeId, reached_by: Option<(&NodeId, &str)>) -> Option<Frame> {
        if self.verdicts.contains_key(id) {
            return None;
        }
        match self.around.check(id) {
            Ok(checked) => {
                let links = checked.links.iter().map(|(source, _)| source.clone()).collect();
                let verdict = Verdict { errors: checked.errors, links, on_path: true, ..Verdict::default() };
                self.verdicts.insert(id.clone(), verdict);
                let converted = checked.converted.into_iter();
                self.converted.extend(converted.map(|(name, input)| (id.clone(), name, input)));
                Some(Frame { id: id.clone(), links: checked.links.into_iter() })
            }
            Err(exception) => {
                let error = match reached_by {
                    Some((consumer, input)) => errors::exception_during_inner_validation(
                        &exception,
                        &self.around.via(consumer, input),
                    ),
                    None => errors::exception_during_validation(&exception),
                };
                self.verdicts.insert(id.clone(), Verdict { errors: vec![error], ..Verdict::default() });
                None
            }
        }
    }

    /// Everything the node depends on is known.
    fn leave(&mut self, id: &NodeId) {
        let Some(verdict) = self.verdicts.get(id) else { return };
        let is_valid = |source: &NodeId| self.verdicts.get(source).is_some_and(|verdict| verdict.valid);
        let valid = verdict.errors.is_empty() && !verdict.in_cycle && verdict.links.iter().all(is_valid);
        if let Some(verdict) = self.verdicts.get_mut(id) {
            verdict.valid = valid;
            verdict.on_path = false;
        }
    }

    /// Sorts outputs into those that can run and the faults of the others.
    pub(super) fn report(&self, outputs: &[NodeId]) -> Report {
        let mut report = Report { good: Vec::new(), node_errors: IndexMap::new(), details: String::new() };
        let mut lines = Vec::new();
        let mut budget = MAX_DEPENDENT_ENTRIES;
        for output in outputs {
            match self.verdicts.get(output) {
                Some(verdict) if verdict.valid => report.good.push(output.clone()),
                Some(verdict) => {
                    lines.extend(
                        verdict.errors.iter().map(|error| format!("{}: {}", error.message, error.details)),
                    );
                    self.blame(output, &mut report.node_errors, &mut budget);
                }
                None => {}
            }
        }
        if lines.is_empty()
            && report.node_errors.is_empty()
            && let Some((from, to)) = &self.in_cycle
        {
            lines.push(format!("Dependency cycle: node {from} depends on node {to}, which depends on it"));
        }
        lines.truncate(MAX_DETAIL_LINES);
        report.details = lines.join("\n");
        report
    }

    /// Lists every fault that `output` depends on.
    fn blame(&self, output: &NodeId, node_errors: &mut IndexMap<String, NodeErrors>, budget: &mut usize) {
        let mut seen = HashSet::from([output]);
        let mut stack = vec![output];
        while let Some(id) = stack.pop() {
            let Some(verdict) = self.verdicts.get(id).filter(|verdict| !verdict.valid) else { continue };
            *budget = budget.saturating_sub(1);
            let is_listed = || node_errors.len() < MAX_FAULTY_NODES || node_errors.contains_key(id.as_ref());
            if !verdict.errors.is_empty() && is_listed() {
                let listed = node_errors.entry(id.to_string()).or_insert_with(|| self.errors_of(id, verdict));
                if *budget > 0 {
                    listed.dependent_outputs.push(output.to_string());
                }
            }
            if *budget > 0 {
                stack.extend(verdict.links.iter().filter(|link| seen.insert(*link)));
            }
        }
    }

    fn errors_of(&self, id: &NodeId, verdict: &Verdict) -> NodeErrors {
        let class_type = self.around.prompt.nodes.get(id).map(|node| node.class_type.to_string());
        NodeErrors {
            errors: verdict.errors.clone(),
            dependent_outputs: Vec::new(),
            class_type: class_type.unwrap_or_default(),
        }
    }

    /// The converted constants of every node that was reached.
    pub(super) fn into_converted(self) -> Vec<(NodeId, Arc<str>, Input)> {
        self.converted
    }
}
