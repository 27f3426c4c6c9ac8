//! One run, from `execution_start` to its outcome.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use parking_lot::RwLock;
use rushlight_graph::{CacheKey, DynamicPrompt, ExecutionList, KeyTable, NodeId};
use rushlight_protocol::{Event, HistoryStatus, NodeMeta};
use serde_json::Value as Json;

use super::call::{Call, Stop};
use super::engine::Executor;
use super::expand::Open;
use super::inputs::InputLists;
use super::report::{self, ErrorPlace, Failure};
use super::step::{Place, Step};
use super::uses::{Uses, links};
use super::view::{Schemas, View};
use crate::cache::{CachePolicy, NodeResult};
use crate::context::{NodeIdentity, RunContext};
use crate::job::{Job, Outcome};

/// How long the run waits for an asynchronous node before it looks for an interrupt.
const ASYNC_WAIT: Duration = Duration::from_millis(5);
/// How often asynchronous nodes are looked at while others run.
const ASYNC_LOOK: Duration = Duration::from_millis(2);

/// A node that has begun and not ended.
pub(super) enum Suspended {
    /// Its calls go on elsewhere.
    Async { place: Box<Place>, calls: Vec<Call>, lists: InputLists },
    /// It waits for the nodes it expanded into.
    Expanded { place: Box<Place>, open: Open },
}

/// One run.
pub(super) struct Walk<'e> {
    pub(super) executor: &'e mut Executor,
    pub(super) job: &'e Job,
    pub(super) run: Arc<RunContext>,
    pub(super) prompt: Arc<RwLock<DynamicPrompt>>,
    pub(super) schemas: Schemas,
    pub(super) keys: KeyTable,
    pub(super) list: ExecutionList,
    /// Cached results that planning relied on.
    pub(super) found: HashMap<NodeId, Arc<NodeResult>>,
    /// Results of the nodes that were walked.
    pub(super) results: HashMap<NodeId, Arc<NodeResult>>,
    /// How long those results are held.
    pub(super) uses: Uses,
    pub(super) suspended: IndexMap<NodeId, Suspended>,
    /// Nodes that ran and ended, in that order.
    pub(super) executed: Vec<NodeId>,
    pub(super) outputs: IndexMap<String, Json>,
    pub(super) meta: IndexMap<String, NodeMeta>,
    messages: Vec<(String, Json)>,
    last_look: Instant,
}

impl<'e> Walk<'e> {
    pub(super) fn new(executor: &'e mut Executor, job: &'e Job, run: Arc<RunContext>) -> Self {
        Self {
            executor,
            job,
            run,
            prompt: Arc::new(RwLock::new(DynamicPrompt::new(job.prompt.clone()))),
            schemas: Schemas::default(),
            keys: KeyTable::new(),
            list: ExecutionList::new(),
            found: HashMap::new(),
            results: HashMap::new(),
            uses: Uses::default(),
            suspended: IndexMap::new(),
            executed: Vec::new(),
            outputs: IndexMap::new(),
            meta: IndexMap::new(),
            messages: Vec::new(),
            last_look: Instant::now(),
        }
    }

    /// Runs to the end.
    pub(super) fn finish(mut self) -> Outcome {
        self.begin();
        let terminal = match self.walk() {
            Ok(()) => {
                Event::ExecutionSuccess { prompt_id: self.job.prompt_id.clone(), timestamp: report::now_ms() }
            }
            Err((node, stop)) => self.stopped(&node, stop),
        };
        self.run.flush_progress();
        self.note(&terminal);
        let completed = matches!(terminal, Event::ExecutionSuccess { .. });
        let status_str = if completed { "success" } else { "error" };
        let status = HistoryStatus {
            status_str: status_str.into(),
            completed,
            messages: std::mem::take(&mut self.messages),
        };
        Outcome { terminal, status, outputs: self.outputs, meta: self.meta }
    }

    fn begin(&mut self) {
        let prompt_id = self.job.prompt_id.clone();
        let start = Event::ExecutionStart { prompt_id: prompt_id.clone(), timestamp: report::now_ms() };
        self.note(&start);
        if let Some(follower) = &self.run.follower {
            follower.run_begins(&self.run);
        }
        self.run.emit(start);

        let ids: Vec<NodeId> = self.job.prompt.nodes.keys().cloned().collect();
        self.executor.retain_slots(self.job);
        if !self.run.cancel.is_cancelled() {
            self.compute_keys(ids.iter().cloned());
        }
        let used: HashSet<CacheKey> = ids.iter().filter_map(|id| self.keys.get(id)).collect();
        self.executor.cache.begin_run(&used, |id| self.job.prompt.nodes.contains_key(id));
        let nodes: Vec<NodeId> = ids.into_iter().filter(|id| self.find_cached(id).is_some()).collect();
        let cached = Event::ExecutionCached { nodes, prompt_id, timestamp: report::now_ms() };
        self.note(&cached);
        self.run.emit(cached);
    }

    /// Walks every node that the wanted outputs need.
    ///
    /// # Errors
    /// The node that ended the run, and why.
    fn walk(&mut self) -> Result<(), (NodeId, Stop)> {
        if self.may_let_go() {
            self.uses = Uses::count(&self.job.prompt, &self.job.outputs);
        }
        for output in &self.job.outputs {
            self.plan(|list, view| list.add(output, view));
        }
        loop {
            while let Some(id) = self.list.next() {
                if self.run.cancel.is_cancelled() {
                    return Err((id, Stop::Interrupted));
                }
                let step = self.step(&id).map_err(|stop| (id.clone(), stop))?;
                self.settle(&id, step);
                if self.last_look.elapsed() >= ASYNC_LOOK {
                    self.look_at_async(Duration::ZERO)?;
                }
            }
            let pending = self.suspended.iter().find(|(_, node)| matches!(node, Suspended::Async { .. }));
            if let Some((id, _)) = pending {
                if self.run.cancel.is_cancelled() {
                    return Err((id.clone(), Stop::Interrupted));
                }
                self.look_at_async(ASYNC_WAIT)?;
            } else if self.list.is_done() {
                return Ok(());
            } else {
                return Err(self.cycle());
            }
        }
    }

    /// The plan is stuck. Cycles of submitted nodes are found by validation, so the blame is on a node that expanded
    /// into one where there is such a node.
    fn cycle(&self) -> (NodeId, Stop) {
        let cycle = self.list.cycle();
        let shown: Vec<NodeId> = cycle.iter().map(|id| self.prompt.read().display_id(id)).collect();
        let expanded = cycle.iter().zip(&shown).find(|(id, shown)| id != shown).map(|(_, shown)| shown);
        let blamed = expanded.or(cycle.first()).cloned().unwrap_or_else(|| "".into());
        let message = format!("Dependency cycle detected: {}", cycle.join(" waits for "));
        (blamed, Failure::new("DependencyCycleError", message).into())
    }

    /// Takes results of asynchronous nodes that have ended; waits at most `wait` for the first one.
    fn look_at_async(&mut self, mut wait: Duration) -> Result<(), (NodeId, Stop)> {
        self.last_look = Instant::now();
        let is_async =
            |(id, node): (&NodeId, &Suspended)| matches!(node, Suspended::Async { .. }).then(|| id.clone());
        let ids: Vec<NodeId> = self.suspended.iter().filter_map(is_async).collect();
        for id in ids {
            let Some(Suspended::Async { calls, lists, .. }) = self.suspended.get_mut(&id) else { continue };
            let done = super::call::poll_calls(calls, lists, std::mem::take(&mut wait));
            if !done.map_err(|stop| (id.clone(), stop))? {
                continue;
            }
            if let Some(Suspended::Async { place, calls, lists }) = self.suspended.shift_remove(&id) {
                let step = self.end_calls(*place, calls, &lists).map_err(|stop| (id.clone(), stop))?;
                self.settle(&id, step);
            }
        }
        Ok(())
    }

    fn settle(&mut self, id: &NodeId, step: Step) {
        match step {
            Step::Done => {
                self.list.complete(id);
                self.let_go(id);
            }
            Step::PutBack => self.list.put_back(id),
            Step::Waiting => {}
        }
    }

    /// A node has ended: results that it was the last to need are let go.
    fn let_go(&mut self, id: &NodeId) {
        let prompt = self.prompt.read();
        for link in prompt.get(id).into_iter().flat_map(links) {
            if self.uses.release(link) {
                self.results.remove(&link.node);
                self.found.remove(&link.node);
            }
        }
    }

    /// Whether results may be let go: the cache does not keep them, and no node can ask for a node's result later by
    /// an id that it came to know.
    fn may_let_go(&self) -> bool {
        let sees_ids = |class: &Arc<str>| {
            let schema = self.schemas.get(&self.executor.classes, class);
            schema.is_some_and(|schema| {
                schema.wants_hidden("DYNPROMPT") || schema.inputs.iter().any(|input| input.is_raw_link())
            })
        };
        self.executor.cache.policy() != CachePolicy::Classic
            && !self.job.prompt.nodes.values().any(|node| sees_ids(&node.class_type))
    }

    /// Changes the plan with a view of the run.
    pub(super) fn plan(&mut self, change: impl FnOnce(&mut ExecutionList, &View<'_>)) {
        let prompt = self.prompt.read();
        let view = View {
            prompt: &prompt,
            classes: &self.executor.classes,
            schemas: &self.schemas,
            keys: &self.keys,
            cache: RefCell::new(&mut self.executor.cache),
            found: RefCell::new(&mut self.found),
        };
        change(&mut self.list, &view);
    }

    /// The result of a node, from this run or from an earlier one.
    pub(super) fn find_cached(&mut self, id: &str) -> Option<Arc<NodeResult>> {
        if let Some(result) = self.found.get(id) {
            return Some(result.clone());
        }
        self.executor.cache.get(&self.keys.get(id)?)
    }

    /// The node's ids and class.
    pub(super) fn identity(&self, id: &NodeId) -> NodeIdentity {
        let prompt = self.prompt.read();
        NodeIdentity {
            node_id: id.clone(),
            display_id: prompt.display_id(id),
            parent_id: prompt.parent_id(id),
            real_id: prompt.real_id(id),
            class_type: prompt.get(id).map_or_else(|| "".into(), |node| node.class_type.clone()),
        }
    }

    /// Where an error stands.
    pub(super) fn error_place(&self, node: &NodeIdentity) -> ErrorPlace {
        let keeps_outputs = self.executor.cache.policy() != CachePolicy::None;
        ErrorPlace {
            prompt_id: self.job.prompt_id.clone(),
            node_id: node.node_id.clone(),
            node_type: node.class_type.clone(),
            executed: self.executed.clone(),
            current_outputs: if keeps_outputs {
                self.job.prompt.nodes.keys().cloned().collect()
            } else {
                Vec::new()
            },
        }
    }

    fn stopped(&mut self, id: &NodeId, stop: Stop) -> Event {
        if self.suspended.values().any(|node| matches!(node, Suspended::Async { .. })) {
            // Nodes that still go on elsewhere find out at their next check.
            self.run.cancel.cancel();
        }
        let node = self.identity(id);
        match stop {
            Stop::Interrupted => Event::ExecutionInterrupted {
                prompt_id: self.job.prompt_id.clone(),
                node_id: node.node_id,
                node_type: node.class_type,
                executed: std::mem::take(&mut self.executed),
                timestamp: report::now_ms(),
            },
            Stop::Failed(failure) => {
                let mut error = report::execution_error(self.error_place(&node), &failure);
                self.job.secrets.redact(&mut error);
                Event::ExecutionError(Arc::new(error))
            }
        }
    }

    /// Keeps an event for the history's messages.
    fn note(&mut self, event: &Event) {
        if let Some(name) = event.name() {
            self.messages.push((name.to_owned(), event.data()));
        }
    }
}
