//! The order of events: a first run, a cached one, a changed input, an error, an interrupt, a blocker.

use std::sync::Arc;

use rushlight_graph::{NodeSchema, OutputSpec};
use rushlight_protocol::{Audience, Event};
use rushlight_runtime::context::EventSink;
use rushlight_runtime::{Blocker, NodeOutput, Value};
use serde_json::{Value as Json, json};

use super::support::{Bench, TestNode, any, int, node};

fn sum(a: i64) -> Json {
    json!({
        "1": node("Int", json!({ "value": a })), "2": node("Int", json!({"value": 2})),
        "3": node("Add", json!({"a": ["1", 0], "b": ["2", 0]})), "4": node("Show", json!({"value": ["3", 0]})),
    })
}

#[test]
fn first_cached_and_changed_run() {
    let mut bench = Bench::new(Vec::new());
    insta::assert_json_snapshot!("first_run", bench.run(&sum(1)).script());
    insta::assert_json_snapshot!("cached_run", bench.run(&sum(1)).script());
    insta::assert_json_snapshot!("changed_input", bench.run(&sum(5)).script());
}

#[test]
fn failed_run() {
    let mut bench = Bench::new(Vec::new());
    let seen = bench.run(&json!({
        "1": node("Int", json!({"value": 1})), "2": node("Fail", json!({"value": ["1", 0]})),
        "3": node("Show", json!({"value": ["2", 0]})),
    }));
    insta::assert_json_snapshot!("failed_run", seen.script());
    assert_eq!(seen.outcome.status.status_str, "error");
    assert!(!seen.outcome.status.completed);
    let names: Vec<_> = seen.outcome.status.messages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["execution_start", "execution_cached", "execution_error"]);
}

/// Interrupts the run when a node begins.
struct InterruptAt(&'static str, Arc<super::support::Recorder>, rushlight_runtime::CancelToken);

impl EventSink for InterruptAt {
    fn send(&self, to: &Audience, event: Event) {
        if matches!(&event, Event::Executing { node, .. } if node.as_ref() == self.0) {
            self.2.cancel();
        }
        self.1.send(to, event);
    }
}

#[test]
fn interrupted_run() {
    let mut bench = Bench::new(Vec::new());
    let mut context = bench.context();
    context.sink = Arc::new(InterruptAt("3", bench.recorder.clone(), context.cancel.clone()));
    let seen = bench.run_in(context, &sum(1), json!({}));
    insta::assert_json_snapshot!("interrupted_run", seen.script());
    assert_eq!(bench.calls("Add"), 0);
    assert_eq!(seen.outcome.status.status_str, "error");
}

#[test]
fn blocked_run_goes_on_without_the_blocked_branch() {
    let block = TestNode::new(NodeSchema::new("Block", "test").output(OutputSpec::new("INT")), |_, _| {
        let blocker = Blocker { message: Some("not today".into()) };
        Ok(NodeOutput::one(Value::Blocker(Arc::new(blocker))))
    });
    let mut bench = Bench::new(vec![block]);
    let prompt = json!({
        "1": node("Block", json!({})), "2": node("Int", json!({"value": 2})),
        "3": node("Add", json!({"a": ["1", 0], "b": ["2", 0]})), "4": node("Show", json!({"value": ["3", 0]})),
        "5": node("Show", json!({"value": ["2", 0]})),
    });
    let seen = bench.run(&prompt);
    insta::assert_json_snapshot!("blocked_run", seen.script());
    assert_eq!((bench.calls("Add"), bench.calls("Show")), (0, 1));
    let told = |seen: &super::support::Seen| {
        seen.events.iter().filter(|event| matches!(event, Event::ExecutionError(_))).count()
    };
    assert_eq!(told(&bench.run(&prompt)), 1, "a later run tells the message again");
}

#[test]
fn progress_bars_move_between_begin_and_end() {
    let schema = NodeSchema::new("Steps", "test").input(int("n")).input(any("x").optional()).output_node();
    let steps = TestNode::new(schema, |ctx, inputs| {
        let n = u64::try_from(inputs.int("n")?).unwrap_or_default();
        for i in 1..=n {
            ctx.progress(i, n, None)?;
        }
        Ok(NodeOutput::default())
    });
    let mut bench = Bench::new(vec![steps]);
    insta::assert_json_snapshot!(
        "progress",
        bench.run(&json!({"1": node("Steps", json!({"n": 2}))})).script()
    );
}
