//! Random graphs against a tiny slow reference: lists, blockers, lazy inputs, expansion within expansion, asynchronous
//! nodes and every cache policy.
//!
//! The reference evaluates a node by evaluating what it links to, with no plan, no cache and no events. What the
//! executor shows must be the same, whatever ran before on it; no node may begin before what it needs; and what ran
//! once and has not changed does not run again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;
use rushlight_graph::{InputSpec, Link, NodeSchema, OutputSpec, Prompt};
use rushlight_protocol::Event;
use rushlight_runtime::{
    Blocker, CachePolicy, Execution, Expansion, ExpansionResult, Fingerprint, NodeError, NodeOutput, Value,
};
use serde_json::{Map, Value as Json, json};

use super::support::{Bench, Seen, TestNode, any, int, node};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Int,
    Fail,
    Add,
    Spread,
    Collect,
    BlockOdd,
    Switch,
    Expand,
    Nest,
    Later,
    Changing,
}

/// One node: what it is, which earlier nodes it links to, a constant.
#[derive(Debug, Clone, Copy)]
struct Spec {
    kind: Kind,
    a: usize,
    b: usize,
    value: i64,
    shown: bool,
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let kind = prop_oneof![
        3 => Just(Kind::Int), 1 => Just(Kind::Fail), 4 => Just(Kind::Add), 5 => Just(Kind::Spread),
        2 => Just(Kind::Collect), 2 => Just(Kind::BlockOdd), 3 => Just(Kind::Switch), 2 => Just(Kind::Expand),
        2 => Just(Kind::Nest), 2 => Just(Kind::Later), 1 => Just(Kind::Changing),
    ];
    let spec = (kind, any_index(), any_index(), 0_i64..6, any_bool())
        .prop_map(|(kind, a, b, value, shown)| Spec { kind, a, b, value, shown });
    prop::collection::vec(spec, 1..16).prop_map(repair)
}

fn any_index() -> impl Strategy<Value = usize> {
    0_usize..1000
}

fn any_bool() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.6)
}

/// Makes links point to earlier nodes that may be linked to: failing nodes only behind the side of a switch that is
/// not taken, and switches only on single values, since a lazy input that happens to be known is given all the same.
fn repair(mut specs: Vec<Spec>) -> Vec<Spec> {
    for i in 0..specs.len() {
        let single: Vec<usize> =
            (0..i).filter(|&j| matches!(specs[j].kind, Kind::Int | Kind::Switch | Kind::Changing)).collect();
        let failing: Vec<usize> = (0..i).filter(|&j| specs[j].kind == Kind::Fail).collect();
        let sound: Vec<usize> = (0..i).filter(|&j| specs[j].kind != Kind::Fail).collect();
        let mut spec = specs[i];
        match spec.kind {
            Kind::Int | Kind::Fail | Kind::Changing => {}
            Kind::Switch if single.is_empty() => spec.kind = Kind::Int,
            Kind::Switch => {
                spec.a = single[spec.a % single.len()];
                spec.b = if failing.is_empty() {
                    single[spec.b % single.len()]
                } else {
                    failing[spec.b % failing.len()]
                };
            }
            _ if sound.is_empty() => spec.kind = Kind::Int,
            _ => {
                spec.a = sound[spec.a % sound.len()];
                spec.b = sound[spec.b % sound.len()];
            }
        }
        spec.shown &= spec.kind != Kind::Fail;
        specs[i] = spec;
    }
    specs
}

fn prompt(specs: &[Spec]) -> Json {
    let mut nodes = Map::new();
    for (i, spec) in specs.iter().enumerate() {
        let link = |j: usize| json!([j.to_string(), 0]);
        let made = match spec.kind {
            Kind::Int => node("Int", json!({ "value": spec.value })),
            Kind::Fail => node("Fail", json!({ "value": spec.value })),
            Kind::Add => node("Add", json!({ "a": link(spec.a), "b": link(spec.b) })),
            Kind::Spread => node("Spread", json!({ "a": link(spec.a), "n": spec.value })),
            Kind::Collect => node("Collect", json!({ "a": link(spec.a), "n": spec.value })),
            Kind::BlockOdd => node("BlockOdd", json!({ "a": link(spec.a) })),
            Kind::Expand => node("Expand", json!({ "a": link(spec.a), "n": spec.value })),
            Kind::Nest => node("Nest", json!({ "a": link(spec.a), "n": spec.value })),
            Kind::Later => node("Later", json!({ "a": link(spec.a), "n": spec.value })),
            Kind::Changing => node("Changing", json!({ "n": spec.value })),
            Kind::Switch => {
                let (on_true, on_false) =
                    if spec.value % 2 == 0 { (spec.a, spec.b) } else { (spec.b, spec.a) };
                let on = spec.value % 2 == 0;
                node("Switch", json!({ "on": on, "on_true": link(on_true), "on_false": link(on_false) }))
            }
        };
        nodes.insert(i.to_string(), made);
        if spec.shown {
            nodes.insert(format!("show{i}"), node("Show", json!({ "value": link(i) })));
        }
    }
    nodes.insert("end".into(), node("Show", json!({"value": -1})));
    Json::Object(nodes)
}

/// The reference: values of a node's output, `None` for a blocker.
fn evaluate(specs: &[Spec], i: usize) -> Vec<Option<i64>> {
    let spec = &specs[i];
    let over = |list: Vec<Option<i64>>, f: &dyn Fn(i64) -> Vec<Option<i64>>| -> Vec<Option<i64>> {
        list.into_iter().flat_map(|value| value.map_or(vec![None], f)).collect()
    };
    match spec.kind {
        Kind::Int | Kind::Changing => vec![Some(spec.value)],
        Kind::Fail => unreachable!("failing nodes are never needed"),
        Kind::Add => {
            let (a, b) = (evaluate(specs, spec.a), evaluate(specs, spec.b));
            let (Some(last_a), Some(last_b)) = (a.last(), b.last()) else { return Vec::new() };
            let at = |i: usize| (*a.get(i).unwrap_or(last_a), *b.get(i).unwrap_or(last_b));
            let sum = |(a, b): (Option<i64>, Option<i64>)| Some(a?.wrapping_add(b?));
            (0..a.len().max(b.len())).map(|i| sum(at(i))).collect()
        }
        Kind::Spread => {
            over(evaluate(specs, spec.a), &|v| (0..(v + spec.value).rem_euclid(4)).map(Some).collect())
        }
        Kind::Collect => {
            let values: Option<Vec<i64>> = evaluate(specs, spec.a).into_iter().collect();
            vec![values.map(|values| values.iter().sum::<i64>() + 10 * values.len() as i64 + spec.value)]
        }
        Kind::BlockOdd => over(evaluate(specs, spec.a), &|v| vec![(v % 2 == 0).then_some(v)]),
        Kind::Expand | Kind::Later => over(evaluate(specs, spec.a), &|v| vec![Some(v + spec.value)]),
        Kind::Nest => over(evaluate(specs, spec.a), &|v| vec![Some(v + 2 * spec.value)]),
        Kind::Switch => evaluate(specs, spec.a),
    }
}

fn sum_of(value: &Value) -> i64 {
    match value {
        Value::List(items) => items.iter().map(sum_of).sum::<i64>() + 10 * items.len() as i64,
        Value::Int(i) => *i as i64,
        _ => 0,
    }
}

fn classes() -> Vec<TestNode> {
    let schema = |name: &str| NodeSchema::new(name, "test");
    let out = || OutputSpec::new("INT");
    let lazy = |name: &str| any(name).opt("lazy", true);
    let picked = |inputs: &rushlight_runtime::Inputs| match inputs.bool("on") {
        Ok(true) => "on_true",
        _ => "on_false",
    };
    let switch = schema("Switch")
        .input(InputSpec::new("on", "BOOLEAN"))
        .input(lazy("on_true"))
        .input(lazy("on_false"));
    let mut collect = schema("Collect").input(int("a")).input(int("n")).output(out());
    collect.input_is_list = true;
    vec![
        TestNode::new(schema("Spread").input(int("a")).input(int("n")).output(out().list()), |_, inputs| {
            let items = (0..(inputs.int("a")? + inputs.int("n")?).rem_euclid(4)).map(Value::Int).collect();
            Ok(NodeOutput::one(Value::List(Arc::new(items))))
        }),
        TestNode::new(collect, |_, inputs| {
            let n = sum_of(inputs.value("n")?) - 10;
            Ok(NodeOutput::one(Value::Int((sum_of(inputs.value("a")?) + n).into())))
        }),
        TestNode::new(schema("BlockOdd").input(int("a")).output(out()), |_, inputs| {
            let value = inputs.int("a")?;
            let message = (value == 1).then(|| "one".to_owned());
            let blocker = Value::Blocker(Arc::new(Blocker { message }));
            Ok(NodeOutput::one(if value % 2 == 0 { Value::Int(value) } else { blocker }))
        }),
        TestNode::new(switch.output(OutputSpec::new("*")), move |_, inputs| {
            Ok(NodeOutput::one(inputs.value(picked(inputs))?.clone()))
        })
        .asking(move |inputs| vec![picked(inputs).to_owned()]),
        TestNode::new(schema("Changing").input(int("n")).output(out()), |_, inputs| {
            Ok(NodeOutput::one(inputs.value("n")?.clone()))
        })
        .changing(|_| Ok(Fingerprint::AlwaysChanged)),
        TestNode::new(schema("Expand").input(int("a")).input(int("n")).output(out()), |ctx, inputs| {
            let (a, n) = (inputs.int("a")? as i64, inputs.int("n")? as i64);
            if a % 3 == 0 {
                return Ok(NodeOutput::one(Value::Int((a + n).into())));
            }
            let id = format!("{}.{}", ctx.node.node_id, ctx.list_index.unwrap_or(0));
            let graph = json!({
                format!("{id}.n"): node("Int", json!({ "value": n })),
                format!("{id}.sum"): node("Add", json!({ "a": a, "b": [format!("{id}.n"), 0] })),
            });
            let graph = Prompt::from_json(&graph).map_err(|error| NodeError::value(error.to_string()))?;
            let link = Link { node: format!("{id}.sum").into(), slot: -1 };
            let expand = Some(Expansion { graph, results: vec![ExpansionResult::Link(link)] });
            Ok(NodeOutput { expand, ..NodeOutput::default() })
        }),
        // Expands into two nodes of which each may expand itself.
        TestNode::new(schema("Nest").input(int("a")).input(int("n")).output(out()), |ctx, inputs| {
            let (a, n) = (inputs.int("a")? as i64, inputs.int("n")? as i64);
            let id = format!("{}.{}", ctx.node.node_id, ctx.list_index.unwrap_or(0));
            let graph = json!({
                format!("{id}.x"): node("Expand", json!({ "a": a, "n": n })),
                format!("{id}.y"): node("Expand", json!({ "a": [format!("{id}.x"), 0], "n": n })),
            });
            let graph = Prompt::from_json(&graph).map_err(|error| NodeError::value(error.to_string()))?;
            let link = Link { node: format!("{id}.y").into(), slot: 0 };
            let expand = Some(Expansion { graph, results: vec![ExpansionResult::Link(link)] });
            Ok(NodeOutput { expand, ..NodeOutput::default() })
        }),
        TestNode::new(schema("Later").input(int("a")).input(int("n")).output(out()), |_, _| {
            Ok(NodeOutput::default())
        })
        .starting(|_, inputs| {
            let sum = Value::Int(inputs.int("a")? + inputs.int("n")?);
            let (send, receive) = std::sync::mpsc::channel();
            // The run may have ended without waiting.
            std::thread::spawn(move || drop(send.send(Ok(NodeOutput::one(sum)))));
            Ok(Execution::Pending(receive))
        }),
    ]
}

/// What must hold of any run's events.
fn check_events(seen: &Seen) {
    let mut ended: HashSet<String> = HashSet::new();
    for event in &seen.events {
        match event {
            Event::Executing { node, .. } => {
                assert!(!ended.contains(node.as_ref()), "node {node} began again after it had ended");
            }
            Event::ProgressState { nodes, .. } => {
                let finished =
                    nodes.values().filter(|node| node.state == rushlight_protocol::NodeState::Finished);
                ended.extend(finished.map(|node| node.node_id.to_string()));
            }
            _ => {}
        }
    }
}

/// Nodes that began did so after those that they link to, as far as those began too. A lazy input is asked for by a
/// node that has begun.
fn check_order(seen: &Seen, specs: &[Spec]) {
    let order = seen.order();
    let place = |id: &str| order.iter().position(|begun| begun == id);
    let mut links: Vec<(String, usize)> =
        (0..specs.len()).filter(|&i| specs[i].shown).map(|i| (format!("show{i}"), i)).collect();
    for (i, spec) in specs.iter().enumerate() {
        match spec.kind {
            Kind::Int | Kind::Fail | Kind::Changing | Kind::Switch => {}
            Kind::Add => links.extend([(i.to_string(), spec.a), (i.to_string(), spec.b)]),
            _ => links.push((i.to_string(), spec.a)),
        }
    }
    for (consumer, source) in links {
        if let (Some(consumer_at), Some(source_at)) = (place(&consumer), place(&source.to_string())) {
            assert!(source_at < consumer_at, "{consumer} began before {source} in {order:?} of {specs:?}");
        }
    }
}

fn agree(bench: &mut Bench, specs: &[Spec]) {
    let seen = bench.run(&prompt(specs));
    assert!(seen.outcome.is_success(), "{:?}", seen.outcome.terminal);
    check_events(&seen);
    check_order(&seen, specs);
    let mut shown: HashMap<String, Json> = HashMap::new();
    for (i, _) in specs.iter().enumerate().filter(|(_, spec)| spec.shown) {
        let values: Vec<i64> = evaluate(specs, i).into_iter().flatten().collect();
        shown.insert(format!("show{i}"), json!(values));
    }
    for (id, values) in shown {
        let got = seen.outcome.outputs.get(&id).map_or_else(|| json!([]), |ui| ui["text"].clone());
        assert_eq!(got, values, "{id} of {specs:?}");
    }
}

/// Calls of all classes.
fn calls(bench: &Bench) -> usize {
    bench.calls.keys().map(|class| bench.calls(class)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_policy_shows_what_the_reference_says(
        specs in specs(),
        changes in prop::collection::vec((any_index(), 0_i64..6), 0..4),
    ) {
        for policy in [CachePolicy::Classic, CachePolicy::Lru(3), CachePolicy::Ram(600), CachePolicy::None] {
            let mut bench = Bench::with(policy, classes());
            let mut specs = specs.clone();
            agree(&mut bench, &specs);
            for &(index, value) in &changes {
                let index = index % specs.len();
                let parity_kept = value - value % 2 + specs[index].value % 2;
                specs[index].value = if specs[index].kind == Kind::Switch { parity_kept } else { value };
                agree(&mut bench, &specs);
                let before = calls(&bench);
                agree(&mut bench, &specs);
                // What a blocker stopped runs again, to tell its message again.
                let again = |spec: &Spec| matches!(spec.kind, Kind::Changing | Kind::BlockOdd);
                let steady = !specs.iter().any(again);
                if policy == CachePolicy::Classic && steady {
                    prop_assert_eq!(calls(&bench), before, "a node ran again in {:?}", specs);
                }
            }
        }
    }
}
