//! Whatever JSON comes as a prompt, validation answers: no panic, no endless walk, and what it accepts it can read
//! back.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;
use rushlight_graph::validate::revive;
use rushlight_graph::{Classes, InputSpec, NodeSchema, OutputSpec, Prompt, validate};
use serde_json::{Map, Value, json};

struct FewClasses;

impl Classes for FewClasses {
    fn schema(&self, class: &str) -> Option<Arc<NodeSchema>> {
        let schema = NodeSchema::new(class, "test");
        let grow = json!({"input": {"required": {"v": ["INT", {}]}}, "prefix": "v", "max": 3});
        let modes =
            json!([{"key": "a", "inputs": {"required": {"x": ["FLOAT", {"min": 0.0}]}}}, {"key": 1}, 5]);
        Some(Arc::new(match class {
            "A" => schema
                .input(InputSpec::new("a", "INT").range(0, 10))
                .input(InputSpec::new("b", "FLOAT").range(0.0, 1.0).optional())
                .input(InputSpec::new("c", "STRING").optional())
                .input(InputSpec::new("d", "BOOLEAN").optional())
                .output(OutputSpec::new("INT"))
                .output_node(),
            "B" => schema
                .input(InputSpec::new("a", "INT,FLOAT").optional())
                .input(InputSpec::combo("b", ["x", "y"]).optional())
                .input(InputSpec::new("c", "COMFY_AUTOGROW_V3").opt("template", grow).optional())
                .input(InputSpec::new("d", "COMFY_DYNAMICCOMBO_V3").opt("options", modes).optional())
                .output(OutputSpec::new("INT"))
                .output(OutputSpec::new("FLOAT")),
            _ => return None,
        }))
    }
}

/// JSON of any shape.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[a-d1-4]",
        "[0-9_. +-]{0,6}",
        "\\PC{0,8}",
        Just("nan".to_owned()),
        Just("-inf".to_owned()),
        Just("__value__".to_owned()),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("(__value__|[a-d])", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// An input that is more often than not sensible.
fn any_input() -> impl Strategy<Value = Value> {
    let link = ("[1-5]", -3_i64..3).prop_map(|(node, slot)| json!([node, slot]));
    prop_oneof![3 => link, 2 => (-2_i64..12).prop_map(Value::from), 2 => any_json()]
}

fn any_prompt() -> impl Strategy<Value = Value> {
    let inputs = prop::collection::vec(("(a|b|c|d|e|c[.]v0|d[.]x)", any_input()), 0..5)
        .prop_map(|pairs| Value::Object(pairs.into_iter().collect()));
    let inputs = prop_oneof![9 => inputs, 1 => any_json()];
    let class = prop_oneof![5 => Just(json!("A")), 5 => Just(json!("B")), 1 => any_json()];
    let node = (class, inputs).prop_map(|(class, inputs)| json!({ "class_type": class, "inputs": inputs }));
    let node = prop_oneof![19 => node, 1 => any_json()];
    prop::collection::vec(("[1-5]", node), 0..6)
        .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn validation_answers(prompt in prop_oneof![9 => any_prompt(), 1 => any_json()]) {
        match validate(&prompt, &FewClasses, None) {
            Ok(valid) => {
                prop_assert!(!valid.outputs.is_empty());
                // What is queued reads back as what was checked, and passes again.
                let revived = revive(&valid.json, &FewClasses).unwrap();
                prop_assert_eq!(format!("{:?}", revived.nodes.keys()), format!("{:?}", valid.prompt.nodes.keys()));
                let again = validate(&valid.json, &FewClasses, None).unwrap();
                prop_assert_eq!(again.outputs, valid.outputs);
                prop_assert_eq!(format!("{:?}", again.prompt), format!("{:?}", valid.prompt));
            }
            Err(rejected) => {
                prop_assert!(!rejected.error.kind.is_empty());
                serde_json::to_string(&rejected).unwrap();
            }
        }
        let _ = Prompt::from_json(&prompt);
    }
}
