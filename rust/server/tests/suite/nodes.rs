//! Node classes that tests run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rushlight_graph::{InputSpec, NodeSchema, OutputSpec};
use rushlight_protocol::ImageFormat;
use rushlight_runtime::{Host, Inputs, Node, NodeContext, NodeError, NodeOutput, Registry, Value};
use serde_json::json;

type Run = fn(&NodeContext, &Inputs) -> Result<NodeOutput, NodeError>;

struct TestNode(NodeSchema, Run);

impl Node for TestNode {
    fn schema(&self, _host: &dyn Host) -> NodeSchema {
        self.0.clone()
    }

    fn execute(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
        (self.1)(ctx, inputs)
    }
}

fn int(name: &str) -> InputSpec {
    InputSpec::new(name, "INT").default(0).range(0, 1_000_000)
}

/// Every test class.
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    let mut add = |schema: NodeSchema, run: Run| {
        let name = schema.name.clone();
        registry.register(&name, Arc::new(TestNode(schema, run)));
    };
    add(
        NodeSchema::new("TestNumber", "test").input(int("value")).output(OutputSpec::new("INT")),
        |_, inputs| Ok(NodeOutput::one(Value::Int(inputs.int("value")?))),
    );
    add(NodeSchema::new("TestShow", "test").input(int("value")).output_node(), |_, inputs| {
        let value = inputs.int("value")?.to_string();
        Ok(NodeOutput::default().with_ui("text", json!([value])))
    });
    add(
        NodeSchema::new("TestSleep", "test").input(int("ms")).input(int("seed").optional()).output_node(),
        |ctx, inputs| {
            let until = Instant::now() + Duration::from_millis(inputs.int("ms")? as u64);
            while Instant::now() < until {
                ctx.check()?;
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(NodeOutput::default())
        },
    );
    add(
        NodeSchema::new("TestSteps", "test").input(int("steps")).input(int("seed").optional()).output_node(),
        |ctx, inputs| {
            let steps = inputs.int("steps")? as u64;
            for step in 1..=steps {
                let preview = Some((ImageFormat::Jpeg, Bytes::from_static(b"\xff\xd8preview")));
                ctx.progress(step, steps, preview)?;
            }
            ctx.progress_text("done");
            Ok(NodeOutput::default()
                .with_ui("images", json!([{"filename": "a.png", "subfolder": "", "type": "output"}])))
        },
    );
    add(NodeSchema::new("TestFail", "test").input(int("seed").optional()).output_node(), |_, _| {
        Err(NodeError::value("it failed"))
    });
    add(NodeSchema::new("TestPanic", "test").input(int("seed").optional()).output_node(), |_, _| {
        panic!("it panicked")
    });
    add(
        NodeSchema::new("TestToken", "test")
            .input(InputSpec::hidden("token", "AUTH_TOKEN_COMFY_ORG"))
            .output_node(),
        |_, inputs| Err(NodeError::value(format!("no access for {}", inputs.str("token")?))),
    );
    registry
}

/// A prompt of one node.
pub fn one(class: &str, inputs: serde_json::Value) -> serde_json::Value {
    json!({ "1": { "class_type": class, "inputs": inputs } })
}
