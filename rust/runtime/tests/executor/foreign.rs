//! Values of another engine on their way to native nodes, and hidden values that nodes share.

use candle_core::Device;
use rushlight_graph::{InputSpec, NodeSchema, OutputSpec};
use rushlight_protocol::Event;
use rushlight_runtime::{Foreign, NodeError, NodeOutput, Object, Value};
use serde_json::json;

use super::support::{Bench, TestNode, node, to_json};

/// Becomes a text, or nothing that native nodes know.
struct Text(&'static str);

impl Foreign for Text {
    fn to_native(&self, wanted: &str, _device: &Device) -> Result<Option<Value>, NodeError> {
        match (wanted, self.0) {
            ("STRING", "") => Err(NodeError::value("it is empty")),
            ("STRING", text) => Ok(Some(Value::String(text.into()))),
            _ => Ok(None),
        }
    }
}

fn schema(name: &str) -> NodeSchema {
    NodeSchema::new(name, "test")
}

fn gives(name: &str, text: &'static str) -> TestNode {
    TestNode::new(schema(name).output(OutputSpec::new("*")), move |_, _| {
        Ok(NodeOutput::one(Value::Object(Object::foreign("*", Text(text)))))
    })
}

fn takes(name: &str, ty: &str) -> TestNode {
    TestNode::new(schema(name).input(InputSpec::new("text", ty)).output_node(), |_, inputs| {
        Ok(NodeOutput::default().with_ui("text", json!([to_json(inputs.value("text")?)])))
    })
}

#[test]
fn values_of_another_engine_become_native_ones_where_a_native_node_takes_them() {
    let mut bench = Bench::new(vec![gives("Give", "hello"), takes("Take", "STRING"), takes("Keep", "*")]);
    let seen = bench.run(&json!({
        "1": node("Give", json!({})), "2": node("Take", json!({"text": ["1", 0]})),
        "3": node("Keep", json!({"text": ["1", 0]})),
    }));
    assert_eq!(seen.shown("2"), json!(["hello"]));
    assert_eq!(seen.shown("3"), json!(["*"]), "an input of any type gets the value as it is");
}

#[test]
fn what_the_native_engine_does_not_understand_fails_the_node_that_takes_it() {
    let mut bench = Bench::new(vec![gives("Give", ""), takes("Take", "STRING")]);
    let seen =
        bench.run(&json!({"1": node("Give", json!({})), "2": node("Take", json!({"text": ["1", 0]}))}));
    let Event::ExecutionError(error) = &seen.outcome.terminal else { panic!("{:?}", seen.outcome.terminal) };
    assert_eq!((error.node_id.as_ref(), error.node_type.as_ref()), ("2", "Take"));
    assert_eq!(error.exception_message, "input 'text': it is empty\n");
}

#[test]
fn what_a_node_shares_in_the_place_of_a_hidden_value_is_seen_by_those_after_it_in_the_run() {
    let class = |name: &str| {
        schema(name)
            .input(InputSpec::new("after", "*").optional())
            .input(InputSpec::hidden("info", "EXTRA_PNGINFO"))
            .output(OutputSpec::new("*"))
            .output_node()
    };
    let write = TestNode::new(class("Write"), |ctx, _| {
        ctx.run.share("EXTRA_PNGINFO", json!({"written": true}).into());
        ctx.run.share("EXTRA_PNGINFO", json!({"too late": true}).into());
        Ok(NodeOutput::one(Value::None))
    });
    let read = TestNode::new(class("Read"), |_, inputs| {
        let output = NodeOutput::one(Value::None);
        Ok(output.with_ui("text", json!([to_json(inputs.value("info")?)])))
    });
    let mut bench = Bench::new(vec![write, read]);
    let extra = json!({"extra_pnginfo": {"workflow": 1}});
    let context = bench.context();
    let prompt = json!({"1": node("Write", json!({})), "2": node("Read", json!({"after": ["1", 0]}))});
    assert_eq!(bench.run_in(context, &prompt, extra.clone()).shown("2"), json!([{"written": true}]));
    let context = bench.context();
    let seen = bench.run_in(context, &json!({"2": node("Read", json!({}))}), extra);
    assert_eq!(seen.shown("2"), json!([{"workflow": 1}]), "another run has its own");
}
