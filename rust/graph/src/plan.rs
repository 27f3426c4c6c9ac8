//! In which order nodes run.
//!
//! [`ExecutionList`] holds the nodes that wanted outputs need, each with the number of nodes it still waits for.
//! Edges are added when a node is first wanted, and later when a lazy input is asked for or a node expands. Each
//! node and each edge is looked at a bounded number of times, so a run's planning is linear in the graph.
//!
//! Among nodes that wait for nothing the order is: an output or asynchronous node; one that an output node waits
//! for; one that such a node waits for; else the one that was added first. So pictures appear as early as they can.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::prompt::{Link, NodeId};

/// What planning must know of the graph and of the cache.
pub trait GraphView {
    /// Links that the node waits for: all but those of lazy and raw-link inputs.
    fn needs(&self, node: &NodeId) -> Vec<Link>;
    /// Whether prompts are run for its sake.
    fn is_output(&self, node: &NodeId) -> bool;
    /// Whether it may go on while others run.
    fn is_async(&self, node: &NodeId) -> bool;
    /// Whether its outputs are known already, so that nothing it needs is wanted for its sake.
    fn is_cached(&self, node: &NodeId) -> bool;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for others, or is ready.
    Waiting,
    /// Handed out by [`ExecutionList::next`].
    Staged,
    /// Has its outputs.
    Done,
}

#[derive(Debug)]
struct Entry {
    id: NodeId,
    state: State,
    /// Nodes it waits for that are not done.
    missing: usize,
    /// Nodes that wait for it.
    consumers: Vec<usize>,
    /// Nodes it waits for.
    sources: Vec<usize>,
    output: bool,
    asynchronous: bool,
    /// An output node waits for it.
    feeds_output: bool,
    /// A node that an output node waits for waits for it.
    feeds_feeder: bool,
}

impl Entry {
    fn rank(&self) -> u8 {
        match self {
            entry if entry.output || entry.asynchronous => 0,
            entry if entry.feeds_output => 1,
            entry if entry.feeds_feeder => 2,
            _ => 3,
        }
    }
}

/// The nodes of a run and what each waits for.
#[derive(Debug, Default)]
pub struct ExecutionList {
    entries: Vec<Entry>,
    index: HashMap<NodeId, usize>,
    edges: HashSet<(usize, usize)>,
    /// Waiting nodes that miss nothing, by rank and order of adding.
    ready: BTreeSet<(u8, usize)>,
    unfinished: usize,
}

impl ExecutionList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wants a node, and with it everything it needs that is neither cached nor wanted already. A cached node that
    /// others need is not walked: its outputs are known. One that is wanted itself is, so that its picture is shown.
    pub fn add(&mut self, node: &NodeId, view: &impl GraphView) {
        let mut stack = vec![node.clone()];
        let mut links = Vec::new();
        while let Some(id) = stack.pop() {
            if self.index.contains_key(&id) {
                continue;
            }
            let number = self.insert(&id, view);
            if view.is_cached(&id) {
                continue;
            }
            for link in view.needs(&id) {
                if !self.index.contains_key(&link.node) && view.is_cached(&link.node) {
                    continue;
                }
                links.push((link.node.clone(), number));
                stack.push(link.node);
            }
        }
        for (source, consumer) in links {
            if let Some(source) = self.index.get(&source).copied() {
                self.connect(source, consumer);
            }
        }
    }

    /// Makes `consumer` wait for `source`, which is wanted from now on unless its outputs are known.
    pub fn add_edge(&mut self, source: &NodeId, consumer: &NodeId, view: &impl GraphView) {
        if !self.index.contains_key(source) && view.is_cached(source) {
            return;
        }
        self.add(source, view);
        if let (Some(&source), Some(&consumer)) = (self.index.get(source), self.index.get(consumer)) {
            self.connect(source, consumer);
        }
    }

    /// Hands out the next node that waits for nothing; it must be given back by [`ExecutionList::complete`] or
    /// [`ExecutionList::put_back`].
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<NodeId> {
        let (_, number) = self.ready.pop_first()?;
        let entry = self.entries.get_mut(number)?;
        entry.state = State::Staged;
        Some(entry.id.clone())
    }

    /// Takes a staged node back; it comes again when what it waits for is done.
    pub fn put_back(&mut self, node: &NodeId) {
        let Some(&number) = self.index.get(node) else { return };
        if let Some(entry) = self.entries.get_mut(number).filter(|entry| entry.state == State::Staged) {
            entry.state = State::Waiting;
            self.make_ready(number);
        }
    }

    /// The node has its outputs: those that waited only for it are ready.
    pub fn complete(&mut self, node: &NodeId) {
        let Some(&number) = self.index.get(node) else { return };
        let Some(entry) = self.entries.get_mut(number).filter(|entry| entry.state != State::Done) else {
            return;
        };
        entry.state = State::Done;
        self.ready.remove(&(entry.rank(), number));
        self.unfinished -= 1;
        for consumer in self.entries.get(number).map(|entry| entry.consumers.clone()).unwrap_or_default() {
            if let Some(entry) = self.entries.get_mut(consumer) {
                entry.missing = entry.missing.saturating_sub(1);
            }
            self.make_ready(consumer);
        }
    }

    /// Whether every wanted node is done.
    pub fn is_done(&self) -> bool {
        self.unfinished == 0
    }

    /// Whether the node was completed in this run.
    pub fn is_complete(&self, node: &str) -> bool {
        let entry = self.index.get(node).and_then(|&number| self.entries.get(number));
        entry.is_some_and(|entry| entry.state == State::Done)
    }

    /// The nodes of a cycle, when some wait, none is ready and none is staged; each waits for the next one.
    pub fn cycle(&self) -> Vec<NodeId> {
        let waits =
            |number: &usize| self.entries.get(*number).is_some_and(|entry| entry.state == State::Waiting);
        let Some(mut number) = (0..self.entries.len()).find(waits) else { return Vec::new() };
        let mut path: Vec<usize> = Vec::new();
        let mut places = HashMap::new();
        // A waiting node waits for a waiting one, so the path must come back to itself.
        loop {
            if let Some(&place) = places.get(&number) {
                let cycle = path.get(place..).unwrap_or_default();
                return cycle
                    .iter()
                    .filter_map(|&number| self.entries.get(number))
                    .map(|entry| entry.id.clone())
                    .collect();
            }
            places.insert(number, path.len());
            path.push(number);
            let Some(next) =
                self.entries.get(number).and_then(|entry| entry.sources.iter().copied().find(waits))
            else {
                return Vec::new();
            };
            number = next;
        }
    }

    fn insert(&mut self, id: &NodeId, view: &impl GraphView) -> usize {
        let number = self.entries.len();
        self.entries.push(Entry {
            id: id.clone(),
            state: State::Waiting,
            missing: 0,
            consumers: Vec::new(),
            sources: Vec::new(),
            output: view.is_output(id),
            asynchronous: view.is_async(id),
            feeds_output: false,
            feeds_feeder: false,
        });
        self.index.insert(id.clone(), number);
        self.unfinished += 1;
        self.make_ready(number);
        number
    }

    fn make_ready(&mut self, number: usize) {
        if let Some(entry) = self.entries.get(number)
            && entry.state == State::Waiting
            && entry.missing == 0
        {
            self.ready.insert((entry.rank(), number));
        }
    }

    fn connect(&mut self, source: usize, consumer: usize) {
        if self.is_entry_done(source) || !self.edges.insert((source, consumer)) {
            return;
        }
        let Some(entry) = self.entries.get_mut(consumer) else { return };
        self.ready.remove(&(entry.rank(), consumer));
        entry.missing += 1;
        entry.sources.push(source);
        let (output, feeds_output) = (entry.output, entry.feeds_output);
        if let Some(entry) = self.entries.get_mut(source) {
            entry.consumers.push(consumer);
        }
        if output && self.mark(source, |entry| &mut entry.feeds_output) {
            for feeder in self.entries.get(source).map(|entry| entry.sources.clone()).unwrap_or_default() {
                self.mark(feeder, |entry| &mut entry.feeds_feeder);
            }
        }
        if feeds_output {
            self.mark(source, |entry| &mut entry.feeds_feeder);
        }
    }

    fn is_entry_done(&self, number: usize) -> bool {
        self.entries.get(number).is_none_or(|entry| entry.state == State::Done)
    }

    /// Sets a flag of an entry and moves it among the ready ones if its rank changed. Returns whether it was unset.
    fn mark(&mut self, number: usize, flag: impl Fn(&mut Entry) -> &mut bool) -> bool {
        let Some(entry) = self.entries.get_mut(number) else { return false };
        if *flag(entry) {
            return false;
        }
        let was_ready = self.ready.remove(&(entry.rank(), number));
        *flag(entry) = true;
        if was_ready {
            self.ready.insert((entry.rank(), number));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A graph written as `node: sources`; names that begin with `out` are outputs, with `async` asynchronous.
    #[derive(Default)]
    struct Picture {
        sources: HashMap<NodeId, Vec<NodeId>>,
        cached: HashSet<NodeId>,
    }

    impl GraphView for Picture {
        fn needs(&self, node: &NodeId) -> Vec<Link> {
            let sources = self.sources.get(node).cloned().unwrap_or_default();
            sources.into_iter().map(|node| Link { node, slot: 0 }).collect()
        }
        fn is_output(&self, node: &NodeId) -> bool {
            node.starts_with("out")
        }
        fn is_async(&self, node: &NodeId) -> bool {
            node.starts_with("async")
        }
        fn is_cached(&self, node: &NodeId) -> bool {
            self.cached.contains(node)
        }
    }

    fn picture(edges: &[(&str, &[&str])]) -> Picture {
        let sources = edges.iter().map(|(node, sources)| {
            (NodeId::from(*node), sources.iter().map(|source| NodeId::from(*source)).collect())
        });
        Picture { sources: sources.collect(), ..Picture::default() }
    }

    fn run(list: &mut ExecutionList) -> Vec<String> {
        let mut order = Vec::new();
        while let Some(node) = list.next() {
            order.push(node.to_string());
            list.complete(&node);
        }
        order
    }

    fn order(picture: &Picture, outputs: &[&str]) -> Vec<String> {
        let mut list = ExecutionList::new();
        outputs.iter().for_each(|output| list.add(&NodeId::from(*output), picture));
        let order = run(&mut list);
        assert!(list.is_done());
        order
    }

    #[test]
    fn outputs_and_asynchronous_nodes_come_first_then_what_is_close_to_outputs() {
        let graph = picture(&[
            ("out", &["far", "near", "async"]),
            ("near", &["nearer"]),
            ("far", &["farther"]),
            ("farther", &["farthest"]),
        ]);
        assert_eq!(order(&graph, &["out"]), ["async", "nearer", "near", "farthest", "farther", "far", "out"]);
    }

    #[test]
    fn a_cached_node_is_walked_only_when_it_is_wanted_itself() {
        let mut graph = picture(&[("out", &["a"]), ("a", &["b"]), ("b", &["c"])]);
        graph.cached.insert("b".into());
        assert_eq!(order(&graph, &["out"]), ["a", "out"]);
        assert_eq!(order(&graph, &["out", "b"]), ["a", "out", "b"]);
        graph.cached.insert("out".into());
        assert_eq!(order(&graph, &["out"]), ["out"]);
    }

    #[test]
    fn a_cycle_is_stuck_not_endless() {
        let graph = picture(&[("out", &["a"]), ("a", &["b"]), ("b", &["a"])]);
        let mut list = ExecutionList::new();
        list.add(&"out".into(), &graph);
        assert!(run(&mut list).is_empty());
        assert!(!list.is_done());
        let cycle = list.cycle();
        assert_eq!(cycle.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_node_that_is_put_back_waits_for_its_new_source() {
        let graph = picture(&[("out", &["lazy"]), ("source", &["deep"])]);
        let mut list = ExecutionList::new();
        list.add(&"out".into(), &graph);
        let lazy = list.next();
        assert_eq!(lazy.as_deref(), Some("lazy"));
        list.add_edge(&"source".into(), &"lazy".into(), &graph);
        list.put_back(&"lazy".into());
        assert_eq!(run(&mut list), ["deep", "source", "lazy", "out"]);
    }

    #[test]
    fn planning_a_long_chain_and_a_wide_fan_is_quick() {
        let mut graph = Picture::default();
        let name = |i: usize| NodeId::from(i.to_string());
        for i in 1..100_000 {
            graph.sources.insert(name(i), vec![name(i - 1)]);
        }
        graph.sources.insert("out".into(), (0..50_000).map(name).collect());
        let begun = std::time::Instant::now();
        assert_eq!(order(&graph, &["out"]).len(), 50_001);
        // Generous: this is about squares, not about machines.
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
