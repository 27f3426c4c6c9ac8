//! One node: cached, asked for lazy inputs, called, finished.

use std::sync::Arc;

use rushlight_graph::cache_key::KeyFacts;
use rushlight_graph::validate::find_declared;
use rushlight_graph::{Input, Link, NodeId, NodeSchema, PromptNode};
use rushlight_protocol::{Event, NodeMeta, NodeState};
use serde_json::Value as Json;

use super::call::{Call, Stop, guarded, start_calls};
use super::engine::DynPrompt;
use super::inputs::{self, Hidden, InputLists};
use super::merge::{self, Part};
use super::report::{Failure, blocked_error};
use super::view;
use super::walk::{Suspended, Walk};
use crate::cache::{NodeResult, UiOutput};
use crate::context::NodeContext;
use crate::node::{Fingerprint, Inputs, Node};
use crate::value::Value;

/// What became of a node's turn.
pub(super) enum Step {
    /// It has its outputs.
    Done,
    /// It comes again when what it waits for is done.
    PutBack,
    /// Its calls go on elsewhere.
    Waiting,
}

/// A node with everything that running it needs.
pub(super) struct Place {
    pub(super) node: PromptNode,
    pub(super) schema: Arc<NodeSchema>,
    pub(super) class: Arc<dyn Node>,
    pub(super) ctx: NodeContext,
}

impl Walk<'_> {
    /// Gives a node its turn.
    pub(super) fn step(&mut self, id: &NodeId) -> Result<Step, Stop> {
        if let Some(Suspended::Expanded { place, open }) = self.suspended.shift_remove(id) {
            return self.end_expansion(*place, open);
        }
        if let Some(result) = self.find_cached(id) {
            self.pass_cached(id, result);
            return Ok(Step::Done);
        }
        let place = self.place(id)?;
        place.ctx.begin();
        self.run.emit(Event::Executing {
            node: id.clone(),
            display_node: place.ctx.node.display_id.clone(),
            prompt_id: self.job.prompt_id.clone(),
        });
        let lists = self.collect(&place)?;
        let wanted = self.ask_lazy(&place, &lists)?;
        if !wanted.is_empty() {
            self.plan(|list, view| wanted.iter().for_each(|link| list.add_edge(&link.node, id, view)));
            return Ok(Step::PutBack);
        }
        let calls = start_calls(place.class.as_ref(), &place.ctx, &place.schema, &lists)?;
        if calls.iter().any(|call| matches!(call, Call::Pending(_))) {
            self.suspended.insert(id.clone(), Suspended::Async { place: Box::new(place), calls, lists });
            return Ok(Step::Waiting);
        }
        self.end_calls(place, calls, &lists)
    }

    /// Passes a node whose outputs are known.
    fn pass_cached(&mut self, id: &NodeId, result: Arc<NodeResult>) {
        let node = self.identity(id);
        self.run.emit(Event::Executed {
            node: id.clone(),
            display_node: node.display_id.clone(),
            output: result.ui.as_ref().map_or_else(|| Arc::new(Json::Null), |ui| ui.output.clone()),
            prompt_id: self.job.prompt_id.clone(),
        });
        if let Some(ui) = &result.ui {
            self.remember(id, ui);
        }
        self.run.report(&node, NodeState::Finished, None);
        self.results.insert(id.clone(), result);
    }

    fn place(&mut self, id: &NodeId) -> Result<Place, Stop> {
        let node = self.prompt.read().get(id).cloned();
        let node = node.ok_or_else(|| Failure::new("KeyError", format!("there is no node '{id}'")))?;
        let class = self.executor.classes.node(&node.class_type).cloned();
        let schema = self.schemas.get(&self.executor.classes, &node.class_type);
        let (Some(class), Some(schema)) = (class, schema) else {
            let message = format!("node '{id}': there is no node class '{}'", node.class_type);
            return Err(Failure::new("KeyError", message).into());
        };
        let ctx = self.context(id);
        Ok(Place { node, schema, class, ctx })
    }

    fn context(&mut self, id: &NodeId) -> NodeContext {
        let node = Arc::new(self.identity(id));
        let state = self.executor.slot(id, &node.class_type, node.real_id.clone());
        NodeContext { run: self.run.clone(), node, list_index: None, state }
    }

    fn collect(&mut self, place: &Place) -> Result<InputLists, Stop> {
        let hidden = Hidden {
            job: self.job,
            run: self.run.clone(),
            node_id: &place.ctx.node.node_id,
            dynamic_prompt: Value::object("DYNPROMPT", DynPrompt(self.prompt.clone())),
        };
        Ok(inputs::collect(&place.node, &place.schema, &hidden, |link| self.resolve(link))?)
    }

    /// The values at the other end of a link; `None` while they are not computed.
    pub(super) fn resolve(&mut self, link: &Link) -> Result<Option<Arc<Vec<Value>>>, Failure> {
        if self.prompt.read().get(&link.node).is_none() {
            return Err(Failure::new(
                "KeyError",
                format!("a link leads to node '{}', which does not exist", link.node),
            ));
        }
        let result = match self.results.get(&link.node) {
            Some(result) => Some(result.clone()),
            None => self.find_cached(&link.node),
        };
        if result.is_none() && self.list.is_complete(&link.node) {
            return Err(Failure::new(
                "RuntimeError",
                format!("the outputs of node '{}' were let go", link.node),
            ));
        }
        let Some(result) = result else { return Ok(None) };
        let slot = link.index(result.slots.len()).and_then(|index| result.slots.get(index));
        let slot = slot.ok_or_else(|| {
            let (node, slot, count) = (&link.node, link.slot, result.slots.len());
            Failure::new(
                "IndexError",
                format!("node '{node}' gave {count} outputs, a link asks for output {slot}"),
            )
        })?;
        Ok(Some(slot.clone()))
    }

    /// Lazy links that the node wants and that are not computed yet.
    fn ask_lazy(&mut self, place: &Place, lists: &InputLists) -> Result<Vec<Link>, Stop> {
        let mut open: Vec<(&str, &Link)> = Vec::new();
        for (name, input) in &place.node.inputs {
            if let Input::Link(link) = input
                && find_declared(&place.schema, &place.node, name)
                    .is_some_and(|spec| spec.is_lazy() && !spec.is_raw_link())
                && self.resolve(link)?.is_none()
            {
                open.push((name, link));
            }
        }
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let mut wanted = Vec::new();
        for index in 0..inputs::call_count(&place.schema, lists) {
            let inputs = inputs::slice(&place.schema, lists, index);
            if inputs::find_blocker(&inputs).is_some() {
                continue;
            }
            let ctx = NodeContext {
                list_index: (!place.schema.input_is_list).then_some(index),
                ..place.ctx.clone()
            };
            let names = guarded(|| place.class.check_lazy(&ctx, &inputs));
            let names = names.map_err(|error| Stop::from_error(error, lists))?;
            wanted.extend(names);
        }
        let asked = |name: &str| wanted.iter().any(|wanted| wanted == name);
        Ok(open.into_iter().filter(|(name, _)| asked(name)).map(|(_, link)| link.clone()).collect())
    }

    /// All calls of a node have ended.
    pub(super) fn end_calls(
        &mut self,
        place: Place,
        calls: Vec<Call>,
        lists: &InputLists,
    ) -> Result<Step, Stop> {
        if calls.iter().any(|call| matches!(call, Call::Done(output) if output.expand.is_some())) {
            return self.begin_expansion(place, calls, lists);
        }
        let mut parts = Vec::with_capacity(calls.len());
        let mut ui = Vec::new();
        let mut blocked = false;
        for call in calls {
            match call {
                Call::Done(output) => {
                    parts.push(output.values.into_iter().map(Part::Value).collect());
                    ui.extend(output.ui);
                }
                Call::Blocked(message) => {
                    blocked = true;
                    self.tell_blocked(&place, message);
                    parts.push(merge::blocked_parts(&place.schema));
                }
                // Calls are only ended when none is pending.
                Call::Pending(_) => {}
            }
        }
        let ui = merge::merge_ui(ui);
        self.finish_node(&place, parts, ui, blocked);
        Ok(Step::Done)
    }

    /// Tells the client of a blocker where it first arrives; the run goes on.
    pub(super) fn tell_blocked(&self, place: &Place, message: Option<String>) {
        if let Some(message) = message {
            let mut error = blocked_error(self.error_place(&place.ctx.node), &message);
            self.job.secrets.redact(&mut error);
            self.run.emit(Event::ExecutionError(Arc::new(error)));
        }
    }

    /// The node has its outputs: told, remembered, cached.
    ///
    /// The outputs of a blocked node are not kept for other runs: they would hide the blocker's message from the
    /// next one.
    pub(super) fn finish_node(
        &mut self,
        place: &Place,
        parts: Vec<Vec<Part>>,
        ui: Option<Json>,
        blocked: bool,
    ) {
        let node = &place.ctx.node;
        let meta = NodeMeta {
            node_id: node.node_id.to_string(),
            display_node: node.display_id.to_string(),
            parent_node: node.parent_id.as_ref().map(ToString::to_string),
            real_node_id: node.real_id.to_string(),
        };
        let ui = ui.map(|output| UiOutput { output: Arc::new(output), meta });
        if let Some(ui) = &ui {
            self.remember(&node.node_id, ui);
            self.run.emit(Event::Executed {
                node: node.node_id.clone(),
                display_node: node.display_id.clone(),
                output: ui.output.clone(),
                prompt_id: self.job.prompt_id.clone(),
            });
        }
        self.run.report(node, NodeState::Finished, None);
        self.executed.push(node.node_id.clone());
        let result = Arc::new(NodeResult { slots: merge::merge_slots(&place.schema, parts), ui });
        if let Some(key) = self.keys.get(&node.node_id).filter(|_| !blocked) {
            let root = node.parent_id.as_ref().map(|_| node.real_id.clone());
            self.executor.cache.put(key, result.clone(), root);
        }
        self.results.insert(node.node_id.clone(), result);
    }

    fn remember(&mut self, id: &NodeId, ui: &UiOutput) {
        self.outputs.insert(id.to_string(), ui.output.as_ref().clone());
        self.meta.insert(id.to_string(), ui.meta.clone());
    }

    /// Computes the cache keys of nodes and of all they depend on.
    pub(super) fn compute_keys(&mut self, ids: impl IntoIterator<Item = NodeId>) {
        let prompt = self.prompt.clone();
        let prompt = prompt.read();
        let mut keys = std::mem::take(&mut self.keys);
        keys.extend(&prompt, ids, |id, node| self.key_facts(id, node));
        self.keys = keys;
    }

    fn key_facts(&mut self, id: &NodeId, node: &PromptNode) -> KeyFacts {
        let changed = KeyFacts { always_changed: true, ..KeyFacts::default() };
        let class = self.executor.classes.node(&node.class_type).cloned();
        let schema = self.schemas.get(&self.executor.classes, &node.class_type);
        let (Some(class), Some(schema)) = (class, schema) else { return changed };
        let mut inputs = Inputs::new();
        for (name, input) in &node.inputs {
            if schema.accepts_any_input
                || input.as_link().is_some()
                || find_declared(&schema, node, name).is_some()
            {
                inputs.insert(name.clone(), Value::from_constant(input).unwrap_or(Value::None));
            }
        }
        let ctx = self.context(id);
        let facts = view::schema_facts(&schema);
        match guarded(|| class.fingerprint(&ctx, &inputs)) {
            Ok(Fingerprint::Unchanged) => facts,
            Ok(Fingerprint::Value(value)) => KeyFacts { fingerprint: Some(value), ..facts },
            Ok(Fingerprint::AlwaysChanged) => changed,
            Err(error) => {
                tracing::warn!(node = %id, class = %node.class_type, %error, "a failed fingerprint counts as changed");
                changed
            }
        }
    }
}
