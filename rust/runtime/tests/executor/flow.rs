//! Lazy inputs, expansion, asynchronous nodes.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rushlight_graph::{InputSpec, Link, NodeSchema, OutputSpec, Prompt};
use rushlight_protocol::Event;
use rushlight_runtime::{CachePolicy, Execution, Expansion, ExpansionResult, NodeError, NodeOutput, Value};
use serde_json::{Value as Json, json};

use super::support::{Bench, TestNode, any, int, node, to_json};

fn schema(name: &str) -> NodeSchema {
    NodeSchema::new(name, "test")
}

/// Picks `on_true` or `on_false`, and asks for that one only.
fn switch() -> TestNode {
    let lazy = |name: &str| any(name).opt("lazy", true);
    let schema = schema("Switch")
        .input(InputSpec::new("on", "BOOLEAN"))
        .input(lazy("on_true"))
        .input(lazy("on_false"))
        .output(OutputSpec::new("*"));
    let picked = |inputs: &rushlight_runtime::Inputs| match inputs.bool("on") {
        Ok(true) => "on_true",
        _ => "on_false",
    };
    TestNode::new(schema, move |_, inputs| Ok(NodeOutput::one(inputs.value(picked(inputs))?.clone())))
        .asking(move |inputs| vec![picked(inputs).to_owned()])
}

fn switched(on: bool) -> Json {
    json!({
        "t": node("Int", json!({"value": 1})), "f": node("Fail", json!({"value": 0})),
        "s": node("Switch", json!({"on": on, "on_true": ["t", 0], "on_false": ["f", 0]})),
        "o": node("Show", json!({"value": ["s", 0]})),
    })
}

#[test]
fn only_the_lazy_input_that_is_asked_for_is_computed() {
    let mut bench = Bench::new(vec![switch()]);
    let seen = bench.run(&switched(true));
    assert_eq!(seen.shown("o"), json!([1]));
    assert_eq!(bench.calls("Fail"), 0);
    assert_eq!(seen.order(), ["s", "t", "s", "o"]);
    assert!(!bench.run(&switched(false)).outcome.is_success());
}

#[test]
fn lazy_inputs_may_be_asked_for_one_after_the_other() {
    let lazy = |name: &str| int(name).opt("lazy", true);
    let class = TestNode::new(
        schema("Both").input(lazy("a")).input(lazy("b")).output(OutputSpec::new("INT")),
        |_, inputs| Ok(NodeOutput::one(Value::Int(inputs.int("a")? + inputs.int("b")?))),
    )
    .asking(|inputs| match (inputs.present("a"), inputs.present("b")) {
        (None, _) => vec!["a".into()],
        (_, None) => vec!["b".into()],
        _ => Vec::new(),
    });
    let mut bench = Bench::new(vec![class]);
    let seen = bench.run(&json!({
        "1": node("Int", json!({"value": 1})), "2": node("Int", json!({"value": 2})),
        "3": node("Both", json!({"a": ["1", 0], "b": ["2", 0]})), "4": node("Show", json!({"value": ["3", 0]})),
    }));
    assert_eq!(seen.shown("4"), json!([3]));
    assert_eq!(seen.order(), ["3", "1", "3", "2", "3", "4"]);
}

#[test]
fn a_cycle_of_lazy_inputs_is_an_error() {
    let class = TestNode::new(
        schema("Loop").input(any("x").opt("lazy", true)).output(OutputSpec::new("*")),
        |_, inputs| Ok(NodeOutput::one(inputs.value("x")?.clone())),
    )
    .asking(|_| vec!["x".into()]);
    let mut bench = Bench::new(vec![class]);
    // The second link is undeclared, so validation does not see the cycle.
    let seen = bench.run(&json!({
        "1": node("Loop", json!({"x": ["2", 0]})), "2": node("Int", json!({"value": 1, "back": ["1", 0]})),
        "3": node("Show", json!({"value": ["1", 0]})),
    }));
    assert!(matches!(seen.outcome.terminal, Event::ExecutionError(_)));
}

/// Expands into a chain of `depth` nodes of its own class, each adding one.
fn nest() -> TestNode {
    TestNode::new(
        schema("Nest").input(int("depth")).input(int("value")).output(OutputSpec::new("INT")),
        |ctx, inputs| {
            let (depth, value) = (inputs.int("depth")? as i64, inputs.int("value")? as i64);
            if depth == 0 {
                return Ok(NodeOutput::one(Value::Int(value.into())));
            }
            let id = &ctx.node.node_id;
            let graph = json!({
                format!("{id}.add"): node("Add", json!({"a": value, "b": 1})),
                format!("{id}.nest"): node("Nest", json!({"depth": depth - 1, "value": [format!("{id}.add"), 0]})),
                format!("{id}.show"): node("Show", json!({"value": [format!("{id}.add"), 0]})),
            });
            let link = Link { node: format!("{id}.nest").into(), slot: 0 };
            let expand = Expansion {
                graph: Prompt::from_json(&graph).map_err(|error| NodeError::value(error.to_string()))?,
                results: vec![ExpansionResult::Link(link)],
            };
            Ok(NodeOutput { expand: Some(expand), ..NodeOutput::default() })
        },
    )
}

fn nested(depth: i64, value: i64) -> Json {
    json!({"1": node("Nest", json!({"depth": depth, "value": value})), "2": node("Show", json!({"value": ["1", 0]}))})
}

#[test]
fn expansions_nest_and_their_nodes_know_where_they_belong() {
    let mut bench = Bench::new(vec![nest()]);
    let seen = bench.run(&nested(2, 10));
    assert!(seen.outcome.is_success(), "{:?}", seen.outcome.terminal);
    assert_eq!(seen.shown("2"), json!([12]));
    assert_eq!(seen.shown("1.show"), json!([11]));
    assert_eq!(seen.shown("1.nest.show"), json!([12]));
    let meta = &seen.outcome.meta["1.nest.show"];
    assert_eq!(
        (meta.parent_node.as_deref(), meta.real_node_id.as_str(), meta.display_node.as_str()),
        (Some("1.nest"), "1", "1")
    );
    insta::assert_json_snapshot!("expansion", seen.script());
}

#[test]
fn an_expansion_is_not_made_again_while_it_is_cached() {
    let mut bench = Bench::new(vec![nest()]);
    bench.run(&nested(3, 1));
    let calls = bench.calls("Nest");
    let seen = bench.run(&nested(3, 1));
    assert_eq!(bench.calls("Nest"), calls);
    assert_eq!(seen.shown("2"), json!([4]));
}

#[test]
fn an_expansion_deeper_than_any_stack_runs() {
    let mut bench = Bench::new(vec![nest()]);
    let seen = bench.run(&nested(300, 0));
    assert_eq!(seen.shown("2"), json!([300]));
}

#[test]
fn an_expansion_into_taken_ids_or_unknown_classes_is_an_error_of_its_node() {
    for graph in [json!({"2": node("Int", json!({"value": 1}))}), json!({"1.x": node("Nothing", json!({}))})]
    {
        let class = TestNode::new(schema("Bad").output(OutputSpec::new("INT")), move |_, _| {
            let graph = Prompt::from_json(&graph).map_err(|error| NodeError::value(error.to_string()))?;
            Ok(NodeOutput { expand: Some(Expansion { graph, results: Vec::new() }), ..NodeOutput::default() })
        });
        let mut bench = Bench::new(vec![class]);
        let seen =
            bench.run(&json!({"1": node("Bad", json!({})), "2": node("Show", json!({"value": ["1", 0]}))}));
        let Event::ExecutionError(error) = &seen.outcome.terminal else {
            panic!("{:?}", seen.outcome.terminal)
        };
        assert_eq!(error.node_id.as_ref(), "1");
    }
}

#[test]
fn a_cycle_within_an_expansion_is_blamed_on_the_node_that_expanded() {
    let class = TestNode::new(schema("Knot").output(OutputSpec::new("INT")), |_, _| {
        let graph = json!({
            "1.a": node("Add", json!({"a": ["1.b", 0], "b": 1})), "1.b": node("Add", json!({"a": ["1.a", 0], "b": 1})),
        });
        let graph = Prompt::from_json(&graph).map_err(|error| NodeError::value(error.to_string()))?;
        let results = vec![ExpansionResult::Link(Link { node: "1.a".into(), slot: 0 })];
        Ok(NodeOutput { expand: Some(Expansion { graph, results }), ..NodeOutput::default() })
    });
    let mut bench = Bench::new(vec![class]);
    let seen =
        bench.run(&json!({"1": node("Knot", json!({})), "2": node("Show", json!({"value": ["1", 0]}))}));
    let Event::ExecutionError(error) = &seen.outcome.terminal else { panic!("{:?}", seen.outcome.terminal) };
    assert_eq!((error.node_id.as_ref(), error.node_type.as_ref()), ("1", "Knot"));
}

/// Sleeps on a thread of its own.
fn sleep() -> TestNode {
    let class = schema("Sleep").input(int("ms")).input(int("value")).output(OutputSpec::new("INT"));
    TestNode::new(class, |_, _| Ok(NodeOutput::default())).starting(|ctx, inputs| {
        let (send, receive) = channel();
        let ms = u64::try_from(inputs.int("ms")?).unwrap_or_default();
        let (value, ctx) = (inputs.value("value")?.clone(), ctx.clone());
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(ms));
            let result = ctx.check().and_then(|()| match to_json(&value) {
                Json::Number(number) if number.as_i64() == Some(13) => Err(NodeError::value("unlucky")),
                _ => Ok(NodeOutput::one(value)),
            });
            // The run may have ended without waiting.
            let _ = send.send(result);
        });
        Ok(Execution::Pending(receive))
    })
}

#[test]
fn asynchronous_nodes_run_together_with_others() {
    let mut bench = Bench::with(CachePolicy::None, vec![sleep()]);
    let begun = Instant::now();
    let seen = bench.run(&json!({
        "a": node("Sleep", json!({"ms": 600, "value": 1})), "b": node("Sleep", json!({"ms": 600, "value": 2})),
        "c": node("Sleep", json!({"ms": 600, "value": 3})), "i": node("Int", json!({"value": 4})),
        "s": node("Add", json!({"a": ["a", 0], "b": ["b", 0]})), "t": node("Add", json!({"a": ["c", 0], "b": ["i", 0]})),
        "u": node("Add", json!({"a": ["s", 0], "b": ["t", 0]})), "o": node("Show", json!({"value": ["u", 0]})),
    }));
    assert_eq!(seen.shown("o"), json!([10]));
    assert!(begun.elapsed() < Duration::from_millis(1_700), "{:?}", begun.elapsed());
}

#[test]
fn an_asynchronous_failure_ends_the_run() {
    let mut bench = Bench::new(vec![sleep()]);
    let seen = bench.run(&json!({
        "a": node("Sleep", json!({"ms": 10, "value": 13})), "o": node("Show", json!({"value": ["a", 0]})),
    }));
    let Event::ExecutionError(error) = &seen.outcome.terminal else { panic!("{:?}", seen.outcome.terminal) };
    assert_eq!((error.node_id.as_ref(), error.exception_type.as_str()), ("a", "ValueError"));
}

#[test]
fn an_interrupt_does_not_wait_for_asynchronous_nodes() {
    let mut bench = Bench::new(vec![sleep()]);
    let context = bench.context();
    let cancel = context.cancel.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        cancel.cancel();
    });
    let begun = Instant::now();
    let prompt = json!({
        "a": node("Sleep", json!({"ms": 5000, "value": 1})), "o": node("Show", json!({"value": ["a", 0]})),
    });
    let seen = bench.run_in(context, &prompt, json!({}));
    assert!(
        matches!(&seen.outcome.terminal, Event::ExecutionInterrupted { node_id, .. } if node_id.as_ref() == "a")
    );
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_list_of_asynchronous_calls_is_one_output() {
    let mut bench = Bench::new(vec![sleep()]);
    let seen = bench.run(&json!({
        "r": node("Range", json!({"count": 5})), "a": node("Sleep", json!({"ms": 100, "value": ["r", 0]})),
        "o": node("Show", json!({"value": ["a", 0]})),
    }));
    assert_eq!(seen.shown("o"), json!([0, 1, 2, 3, 4]));
}

#[test]
fn the_prompt_is_shared_not_copied() {
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let store = seen.clone();
    let class = TestNode::new(
        schema("Peek").input(InputSpec::hidden("prompt", "PROMPT")).input(int("n")).output_node(),
        move |_, inputs| {
            if let Value::Json(json) = inputs.value("prompt")? {
                store.lock().push(Arc::as_ptr(json) as usize);
            }
            Ok(NodeOutput::default())
        },
    );
    let mut bench = Bench::new(vec![class]);
    bench.run(&json!({"1": node("Peek", json!({"n": 1})), "2": node("Peek", json!({"n": 2}))}));
    let seen = seen.lock();
    assert_eq!((seen.len(), seen[0]), (2, seen[1]));
}
