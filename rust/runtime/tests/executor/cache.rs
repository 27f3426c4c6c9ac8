//! What is run again and what is not.

use std::sync::Arc;

use rushlight_graph::{NodeSchema, OutputSpec};
use rushlight_protocol::Event;
use rushlight_runtime::{CachePolicy, Fingerprint, NodeError, NodeOutput, Value};
use serde_json::{Value as Json, json};

use super::support::{Bench, TestNode, any, int, node};

fn shown(value: i64) -> Json {
    json!({"1": node("Int", json!({ "value": value })), "2": node("Show", json!({"value": ["1", 0]}))})
}

#[test]
fn a_cached_output_is_in_history_and_keeps_its_origin() {
    let mut bench = Bench::new(Vec::new());
    bench.run(&shown(1));
    let renumbered =
        json!({"a": node("Int", json!({"value": 1})), "b": node("Show", json!({"value": ["a", 0]}))});
    let seen = bench.run(&renumbered);
    assert_eq!((bench.calls("Int"), bench.calls("Show")), (1, 1));
    assert_eq!(seen.outcome.outputs["b"], json!({"text": [1]}));
    assert_eq!(seen.outcome.meta["b"].node_id, "2");
    let cached = seen.events.iter().find_map(|event| match event {
        Event::ExecutionCached { nodes, .. } => Some(nodes.clone()),
        _ => None,
    });
    assert_eq!(cached.unwrap(), vec![Arc::from("a"), Arc::from("b")]);
}

#[test]
fn the_classic_cache_keeps_what_the_newest_prompt_uses() {
    let mut bench = Bench::new(Vec::new());
    for (value, calls) in [(1, 1), (1, 1), (2, 2), (1, 3)] {
        bench.run(&shown(value));
        assert_eq!(bench.calls("Int"), calls);
    }
}

#[test]
fn lru_keeps_the_last_results_and_zero_means_classic() {
    for (policy, calls) in [
        (CachePolicy::Lru(4), [1, 2, 2, 2]),
        (CachePolicy::Lru(2), [1, 2, 3, 3]),
        (CachePolicy::Lru(0), [1, 2, 3, 3]),
        (CachePolicy::Ram(1 << 20), [1, 2, 2, 2]),
        (CachePolicy::Ram(1), [1, 2, 3, 4]),
        (CachePolicy::None, [1, 2, 3, 4]),
    ] {
        let mut bench = Bench::with(policy, Vec::new());
        for (value, calls) in [1, 2, 1, 1].into_iter().zip(calls) {
            assert_eq!(bench.run(&shown(value)).shown("2"), json!([value]));
            assert_eq!(bench.calls("Int"), calls, "{policy:?}");
        }
    }
}

#[test]
fn identical_twins_run_once_and_the_second_shows_null() {
    let mut bench = Bench::new(Vec::new());
    let seen = bench.run(&json!({
        "1": node("Int", json!({"value": 1})), "2": node("Int", json!({"value": 1})),
        "3": node("Add", json!({"a": ["1", 0], "b": ["2", 0]})), "4": node("Show", json!({"value": ["3", 0]})),
    }));
    assert_eq!(bench.calls("Int"), 1);
    let twin = seen.events.iter().any(|event| {
        matches!(event, Event::Executed { node, output, .. } if matches!(node.as_ref(), "1" | "2") && output.is_null())
    });
    assert!(twin);
    assert_eq!(seen.shown("4"), json!([2]));
}

#[test]
fn fingerprints_decide_and_nan_or_a_failure_always_runs() {
    let schema = |name: &str| NodeSchema::new(name, "test").input(any("v")).output(OutputSpec::new("INT"));
    let run = |_: &_, _: &_| Ok(NodeOutput::one(Value::Int(1)));
    let file = TestNode::new(schema("File"), run)
        .changing(|inputs| Ok(Fingerprint::Value(json!(inputs.int("v")? / 10))));
    let random = TestNode::new(schema("Random"), run).changing(|_| Ok(Fingerprint::AlwaysChanged));
    let broken = TestNode::new(schema("Broken"), run).changing(|_| Err(NodeError::value("no file")));
    let mut bench = Bench::new(vec![file, random, broken]);
    for class in ["File", "Random", "Broken"] {
        let prompt =
            json!({"1": node(class, json!({"v": 1})), "2": node("Show", json!({"value": ["1", 0]}))});
        let before = bench.calls("Show");
        bench.run(&prompt);
        bench.run(&prompt);
        let again = if class == "File" { 1 } else { 2 };
        assert_eq!((bench.calls(class), bench.calls("Show") - before), (again, again), "{class}");
    }
}

#[test]
fn fingerprints_see_linked_inputs_as_none() {
    let schema =
        NodeSchema::new("Mean", "test").input(any("image")).input(int("n")).output(OutputSpec::new("INT"));
    let mean = TestNode::new(schema, |_, _| Ok(NodeOutput::one(Value::Int(1)))).changing(|inputs| {
        assert!(matches!(inputs.value("image")?, Value::None));
        Ok(Fingerprint::Value(json!(inputs.int("n")? as i64)))
    });
    let mut bench = Bench::new(vec![mean]);
    let prompt = json!({
        "1": node("Int", json!({"value": 1})), "2": node("Mean", json!({"image": ["1", 0], "n": 2})),
        "3": node("Show", json!({"value": ["2", 0]})),
    });
    bench.run(&prompt);
    bench.run(&prompt);
    assert_eq!(bench.calls("Mean"), 1);
}

#[test]
fn classes_that_are_not_idempotent_are_cached_by_node() {
    let mut schema = NodeSchema::new("Dice", "test").output(OutputSpec::new("INT"));
    schema.not_idempotent = true;
    let dice = TestNode::new(schema, |_, _| Ok(NodeOutput::one(Value::Int(4))));
    let mut bench = Bench::new(vec![dice]);
    let prompt = json!({
        "1": node("Dice", json!({})), "2": node("Dice", json!({})),
        "3": node("Add", json!({"a": ["1", 0], "b": ["2", 0]})), "4": node("Show", json!({"value": ["3", 0]})),
    });
    bench.run(&prompt);
    assert_eq!(bench.calls("Dice"), 2);
    bench.run(&prompt);
    assert_eq!(bench.calls("Dice"), 2);
}

#[test]
fn an_undeclared_constant_changes_the_key() {
    let mut bench = Bench::new(Vec::new());
    for (extra, calls) in [(1, 1), (1, 1), (2, 2)] {
        bench.run(&json!({"1": node("Show", json!({"value": 1, "extra": extra}))}));
        assert_eq!(bench.calls("Show"), calls);
    }
}

#[test]
fn free_forgets_outputs() {
    let mut bench = Bench::new(Vec::new());
    bench.run(&shown(1));
    bench.executor.free(true, true);
    bench.run(&shown(1));
    assert_eq!(bench.calls("Int"), 2);
}

#[test]
fn a_failed_run_keeps_what_it_had_computed() {
    let mut bench = Bench::new(Vec::new());
    let prompt = json!({
        "1": node("Int", json!({"value": 1})), "2": node("Fail", json!({"value": ["1", 0]})),
        "3": node("Show", json!({"value": ["2", 0]})),
    });
    bench.run(&prompt);
    bench.run(&prompt);
    assert_eq!((bench.calls("Int"), bench.calls("Fail")), (1, 2));
}

#[test]
fn a_small_lru_does_not_take_away_what_the_run_relies_on() {
    let pass = TestNode::new(
        NodeSchema::new("Sum3", "test")
            .input(int("a"))
            .input(int("b"))
            .input(int("c"))
            .output(OutputSpec::new("INT")),
        |_, inputs| Ok(NodeOutput::one(Value::Int(inputs.int("a")? + inputs.int("b")? + inputs.int("c")?))),
    );
    let mut bench = Bench::with(CachePolicy::Lru(1), vec![pass]);
    for last in 0..4 {
        let seen = bench.run(&json!({
            "1": node("Int", json!({"value": 1})), "2": node("Int", json!({"value": 2})),
            "3": node("Int", json!({"value": last})),
            "4": node("Sum3", json!({"a": ["1", 0], "b": ["2", 0], "c": ["3", 0]})),
            "5": node("Show", json!({"value": ["4", 0]})),
        }));
        assert_eq!(seen.shown("5"), json!([3 + last]));
    }
}
