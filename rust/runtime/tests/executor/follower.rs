//! Who hears of a run beside its clients.

use std::sync::Arc;

use parking_lot::Mutex;
use rushlight_graph::NodeSchema;
use rushlight_protocol::{Event, NodeProgress};
use rushlight_runtime::follower::{Preview, RunFollower};
use rushlight_runtime::{NodeContext, NodeError, NodeOutput, RunContext};
use serde_json::json;

use super::support::{Bench, Seen, TestNode, any, int, node};

/// Writes down what it hears; takes bars over when told to, and ends the node at a step.
#[derive(Default)]
struct Listening {
    heard: Mutex<Vec<String>>,
    takes_bars: bool,
    ends_at: Option<u64>,
}

impl RunFollower for Listening {
    fn run_begins(&self, run: &Arc<RunContext>) {
        self.heard.lock().push(format!("run {}", run.prompt_id));
    }

    fn node_begins(&self, node: &NodeContext) {
        self.heard.lock().push(format!("turn {}", node.node.node_id));
    }

    fn moves_bar(&self, node: &NodeContext, bar: (u64, u64), _: Preview<'_>) -> Result<bool, NodeError> {
        if self.ends_at == Some(bar.0) {
            return Err(NodeError::Interrupted);
        }
        if self.takes_bars {
            // What a hook of a pack that calls the one before it comes to.
            node.progress_numbers(bar.0.into(), bar.1.into(), None);
        }
        Ok(self.takes_bars)
    }

    fn progressed(&self, progress: &NodeProgress, moved: bool, _: Preview<'_>) {
        let how = if moved { " moved" } else { "" };
        let told =
            format!("{} {:?} {}/{}{how}", progress.node_id, progress.state, progress.value, progress.max);
        self.heard.lock().push(told);
    }
}

fn run(listening: Listening) -> (Vec<String>, Seen) {
    let schema = NodeSchema::new("Steps", "test").input(int("n")).input(any("x").optional()).output_node();
    let steps = TestNode::new(schema, |ctx, inputs| {
        let n = u64::try_from(inputs.int("n")?).unwrap_or_default();
        for i in 1..=n {
            ctx.progress(i, n, None)?;
        }
        Ok(NodeOutput::default())
    });
    let mut bench = Bench::new(vec![steps]);
    let listening = Arc::new(listening);
    let mut context = bench.context();
    context.follower = Some(listening.clone());
    let seen = bench.run_in(context, &json!({"1": node("Steps", json!({"n": 2}))}), json!({}));
    (std::mem::take(&mut *listening.heard.lock()), seen)
}

fn bars(seen: &Seen) -> usize {
    seen.events.iter().filter(|event| matches!(event, Event::Progress { .. })).count()
}

#[test]
fn a_follower_hears_of_the_run_each_turn_and_each_step() {
    let (heard, seen) = run(Listening::default());
    let expected = [
        "run p1",
        "turn 1",
        "1 Running 0.0/1.0",
        "1 Running 1/2 moved",
        "1 Running 2/2 moved",
        "1 Finished 2/2",
    ];
    assert_eq!(heard, expected);
    assert_eq!(bars(&seen), 2);
}

#[test]
fn a_bar_that_a_follower_has_told_is_not_told_again() {
    let (heard, seen) = run(Listening { takes_bars: true, ..Listening::default() });
    assert_eq!(bars(&seen), 2);
    assert_eq!(heard.iter().filter(|line| line.ends_with("moved")).count(), 2);
}

#[test]
fn a_follower_may_end_a_node_at_its_next_step() {
    let (_, seen) = run(Listening { ends_at: Some(2), ..Listening::default() });
    assert!(matches!(seen.outcome.terminal, Event::ExecutionInterrupted { .. }));
    assert_eq!(bars(&seen), 1);
}
