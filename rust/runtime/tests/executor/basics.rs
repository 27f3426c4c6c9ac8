//! Order, lists, errors, hidden inputs, node state.

use std::sync::Arc;

use rushlight_graph::{InputSpec, NodeSchema, OutputSpec};
use rushlight_protocol::Event;
use rushlight_runtime::{DynPrompt, NodeError, NodeOutput, Object, Value};
use serde_json::{Value as Json, json};

use super::support::{Bench, Seen, TestNode, any, int, node, to_json};

fn schema(name: &str) -> NodeSchema {
    NodeSchema::new(name, "test")
}

fn error(seen: &Seen) -> &rushlight_protocol::event::ExecutionError {
    match &seen.outcome.terminal {
        Event::ExecutionError(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_nodes_run_in_order_and_show_their_output() {
    let mut bench = Bench::new(Vec::new());
    let seen = bench.run(&json!({
        "2": node("Show", json!({"value": ["1", 0]})), "1": node("Int", json!({"value": "7"})),
    }));
    assert!(seen.outcome.is_success(), "{:?}", seen.outcome.terminal);
    assert_eq!(seen.order(), ["1", "2"]);
    assert_eq!(seen.outcome.outputs["2"], json!({"text": [7]}));
    assert_eq!(seen.outcome.meta["2"].real_node_id, "2");
}

#[test]
fn nodes_close_to_outputs_run_first() {
    let mut bench = Bench::new(Vec::new());
    // Two branches: a long one for output `z`, a short one for output `a`.
    let seen = bench.run(&json!({
        "i": node("Int", json!({"value": 1})), "j": node("Int", json!({"value": 2})),
        "l1": node("Add", json!({"a": ["i", 0], "b": ["i", 0]})),
        "l2": node("Add", json!({"a": ["l1", 0], "b": ["l1", 0]})),
        "l3": node("Add", json!({"a": ["l2", 0], "b": ["l2", 0]})),
        "z": node("Show", json!({"value": ["l3", 0]})), "a": node("Show", json!({"value": ["j", 0]})),
    }));
    // j feeds an output directly, so it and its output come before the long branch.
    assert_eq!(seen.order(), ["j", "a", "i", "l1", "l2", "l3", "z"]);
}

#[test]
fn unreachable_nodes_never_run() {
    let mut bench = Bench::new(Vec::new());
    let seen = bench.run(&json!({
        "1": node("Int", json!({"value": 1})), "2": node("Show", json!({"value": ["1", 0]})),
        "3": node("Fail", json!({"value": ["1", 0]})), "4": {"class_type": "Add", "inputs": null},
    }));
    assert!(seen.outcome.is_success());
    assert_eq!(bench.calls("Fail"), 0);
}

#[test]
fn lists_run_a_node_once_an_index_and_shorter_ones_repeat_their_last() {
    let mut bench = Bench::new(Vec::new());
    let seen = bench.run(&json!({
        "r": node("Range", json!({"count": 3})), "q": node("Range", json!({"count": 2})),
        "s": node("Add", json!({"a": ["r", 0], "b": ["q", 0]})), "o": node("Show", json!({"value": ["s", 0]})),
    }));
    assert_eq!(seen.shown("o"), json!([0, 2, 3]));
    assert_eq!(bench.calls("Add"), 3);
}

#[test]
fn a_run_over_an_empty_list_gives_empty_outputs() {
    let mut bench = Bench::new(Vec::new());
    let seen = bench.run(&json!({
        "r": node("Range", json!({"count": 0})), "s": node("Add", json!({"a": ["r", 0], "b": 1})),
        "o": node("Show", json!({"value": ["s", 0]})),
    }));
    assert!(seen.outcome.is_success());
    assert_eq!((bench.calls("Add"), bench.calls("Show")), (0, 0));
}

#[test]
fn a_class_that_takes_lists_is_called_once_with_all() {
    let mut schema = schema("Collect").input(any("values")).output(OutputSpec::new("LIST"));
    schema.input_is_list = true;
    let collect = TestNode::new(schema, |ctx, inputs| {
        assert_eq!(ctx.list_index, None);
        Ok(NodeOutput::one(Value::Json(Arc::new(json!([to_json(inputs.value("values")?)])))))
    });
    let mut bench = Bench::new(vec![collect]);
    let seen = bench.run(&json!({
        "r": node("Range", json!({"count": 3})), "c": node("Collect", json!({"values": ["r", 0]})),
        "o": node("Show", json!({"value": ["c", 0]})),
    }));
    assert_eq!(seen.shown("o"), json!([[[0, 1, 2]]]));
    assert_eq!(bench.calls("Collect"), 1);
}

#[test]
fn errors_carry_inputs_and_what_was_done() {
    let picky = TestNode::new(schema("Picky").input(int("n")).input(any("x")).output_node(), |_, _| {
        Err(NodeError::new("torch.OutOfMemoryError", "Allocation on device"))
    });
    let object = TestNode::new(schema("Model").output(OutputSpec::new("MODEL")), |_, _| {
        Ok(NodeOutput::one(Value::Object(Object::new("MODEL", 1_u8))))
    });
    let mut bench = Bench::new(vec![picky, object]);
    let seen = bench.run(&json!({
        "1": node("Model", json!({})), "2": node("Picky", json!({"n": 5, "x": ["1", 0]})),
    }));
    let error = error(&seen);
    assert_eq!((error.node_id.as_ref(), error.node_type.as_ref()), ("2", "Picky"));
    assert_eq!(error.current_inputs["n"], [json!(5)]);
    assert_eq!(error.current_inputs["x"], [json!("<MODEL>")]);
    assert_eq!(error.executed, vec![Arc::from("1")]);
    assert_eq!(error.current_outputs, vec![Arc::from("1"), Arc::from("2")]);
    assert!(error.exception_message.starts_with("Allocation on device\n"));
    assert!(error.exception_message.ends_with('\n') && error.exception_message.contains("--lowvram"));
}

#[test]
fn a_panic_is_an_error_of_its_node_and_the_next_run_is_fine() {
    let bomb = TestNode::new(schema("Bomb").input(int("n")).output_node(), |_, inputs| {
        assert!(inputs.int("n")? == 0, "boom");
        Ok(NodeOutput::default())
    });
    let mut bench = Bench::new(vec![bomb]);
    for _ in 0..3 {
        let seen = bench.run(&json!({"1": node("Bomb", json!({"n": 1}))}));
        assert!(error(&seen).exception_message.contains("boom"));
        assert!(bench.run(&json!({"1": node("Bomb", json!({"n": 0}))})).outcome.is_success());
    }
}

#[test]
fn hidden_inputs_are_filled_by_the_server_and_unknown_ones_by_the_prompt() {
    let schema = schema("Hidden")
        .input(InputSpec::hidden("id", "UNIQUE_ID"))
        .input(InputSpec::hidden("prompt", "PROMPT"))
        .input(InputSpec::hidden("info", "EXTRA_PNGINFO"))
        .input(InputSpec::hidden("dyn", "DYNPROMPT"))
        .input(InputSpec::hidden("token", "AUTH_TOKEN_COMFY_ORG"))
        .input(InputSpec::hidden("key", "API_KEY_COMFY_ORG"))
        .input(InputSpec::hidden("mine", "MY_KIND"))
        .output_node();
    let hidden = TestNode::new(schema, |_, inputs| {
        let dynamic = inputs.object::<DynPrompt>("dyn", "DYNPROMPT")?;
        assert!(dynamic.0.read().get("7").is_some());
        let seen: Vec<Json> =
            ["id", "info", "token", "key", "mine"].map(|name| to_json(inputs.get(name).unwrap())).into();
        assert_eq!(to_json(inputs.value("prompt")?)["7"]["class_type"], json!("Hidden"));
        Ok(NodeOutput::default().with_ui("text", seen))
    });
    let mut bench = Bench::new(vec![hidden]);
    let context = bench.context();
    let prompt = json!({"7": node("Hidden", json!({"mine": "m", "undeclared": 1}))});
    let extra = json!({"extra_pnginfo": {"workflow": 1}, "auth_token_comfy_org": "t"});
    let seen = bench.run_in(context, &prompt, extra);
    assert_eq!(seen.shown("7"), json!(["7", {"workflow": 1}, "t", null, "m"]));
}

#[test]
fn undeclared_links_are_passed_and_undeclared_constants_are_not() {
    let names = TestNode::new(schema("Names").output_node(), |_, inputs| {
        let names: Vec<_> = inputs.iter().map(|(name, _)| name.to_string()).collect();
        Ok(NodeOutput::default().with_ui("text", names))
    });
    let mut bench = Bench::new(vec![names]);
    let seen = bench.run(&json!({
        "1": node("Int", json!({"value": 1})), "2": node("Names", json!({"link": ["1", 0], "constant": 1})),
    }));
    assert_eq!(seen.shown("2"), json!(["link"]));
    let seen = bench.run(&json!({"2": node("Names", json!({"link": ["99", 0]}))}));
    assert!(error(&seen).exception_message.contains("99"), "a link to nothing is an error of its node");
}

#[test]
fn raw_links_are_given_as_they_stand() {
    let raw = InputSpec::new("link", "*").opt("rawLink", true);
    let node_class = TestNode::new(schema("Raw").input(raw).output_node(), |_, inputs| {
        Ok(NodeOutput::default().with_ui("text", json!([to_json(inputs.value("link")?)])))
    });
    let mut bench = Bench::new(vec![node_class]);
    let seen = bench.run(&json!({
        "1": node("Int", json!({"value": 1})), "2": node("Raw", json!({"link": ["1", 0]})),
    }));
    assert_eq!(seen.shown("2"), json!([["1", 0]]));
    assert_eq!(bench.calls("Int"), 0);
}

#[test]
fn state_lives_as_long_as_prompts_use_the_node() {
    let counter = TestNode::new(schema("Counter").input(int("n")).output_node(), |ctx, _| {
        let mut state = ctx.state.lock();
        let count = state.take().and_then(|state| state.downcast::<i64>().ok()).map_or(1, |count| *count + 1);
        *state = Some(Box::new(count));
        Ok(NodeOutput::default().with_ui("text", json!([count])))
    });
    let mut bench = Bench::new(vec![counter]);
    let prompt = |id: &str, n: i64| json!({ id: node("Counter", json!({ "n": n })) });
    assert_eq!(bench.run(&prompt("1", 0)).shown("1"), json!([1]));
    assert_eq!(bench.run(&prompt("1", 1)).shown("1"), json!([2]));
    assert_eq!(bench.run(&prompt("2", 2)).shown("2"), json!([1]));
    assert_eq!(
        bench.run(&prompt("1", 3)).shown("1"),
        json!([1]),
        "a prompt without the node dropped its state"
    );
}

#[test]
fn ui_outputs_of_all_calls_are_joined_and_texts_fall_into_letters() {
    let ui = TestNode::new(schema("Ui").input(int("n")).output_node(), |_, inputs| {
        Ok(NodeOutput::default().with_ui("items", json!([inputs.int("n")? as i64])).with_ui("text", "ab"))
    });
    let mut bench = Bench::new(vec![ui]);
    let seen =
        bench.run(&json!({"r": node("Range", json!({"count": 2})), "u": node("Ui", json!({"n": ["r", 0]}))}));
    assert_eq!(seen.outcome.outputs["u"], json!({"items": [0, 1], "text": ["a", "b", "a", "b"]}));
}

#[test]
fn a_cycle_behind_undeclared_links_is_an_error_not_a_hang() {
    let mut bench = Bench::new(Vec::new());
    let seen = bench.run(&json!({"1": node("Show", json!({"value": 1, "extra": ["1", 0]}))}));
    assert!(error(&seen).exception_message.contains("cycle detected: 1"));
}

#[test]
fn chains_of_thousands_of_nodes_run() {
    let mut bench = Bench::new(Vec::new());
    let mut prompt = json!({"0": node("Int", json!({"value": 1}))});
    for i in 1..2_000 {
        prompt[i.to_string()] = node("Add", json!({"a": [(i - 1).to_string(), 0], "b": 1}));
    }
    prompt["show"] = node("Show", json!({"value": ["1999", 0]}));
    let seen = bench.run(&prompt);
    assert_eq!(seen.shown("show"), json!([2000]));
    let states: Vec<_> =
        seen.events.iter().filter(|event| matches!(event, Event::ProgressState { .. })).collect();
    assert!(states.len() < 1_000, "progress is told at intervals: {}", states.len());
    let Some(Event::ProgressState { nodes, .. }) = states.last() else { panic!("no progress") };
    assert!(
        nodes.len() == 2_001
            && nodes.values().all(|node| node.state == rushlight_protocol::NodeState::Finished)
    );
}
