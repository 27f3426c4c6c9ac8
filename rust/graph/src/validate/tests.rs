//! Validation from outside: prompts in, wire forms out (snapshots), and the corners that Python sets.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use rushlight_protocol::PromptRejected;
use serde_json::{Map, Value, json};

use super::*;
use crate::classes::Classes;
use crate::classes::{CustomValidation, LinkedOutput};
use crate::prompt::{Input, NodeId};
use crate::schema::NodeSchema;
use crate::schema::{InputSpec, InputType, OutputSpec};

struct TestClasses(HashMap<Arc<str>, Arc<NodeSchema>>);

impl Classes for TestClasses {
    fn schema(&self, class: &str) -> Option<Arc<NodeSchema>> {
        self.0.get(class).cloned()
    }

    fn custom_validation(
        &self,
        class: &str,
        constants: &IndexMap<Arc<str>, Input>,
        types: &Map<String, Value>,
    ) -> Option<CustomValidation> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match class {
            "LoadFile" => {
                let good = constants.get("file") == Some(&Input::Constant(json!("good.png")));
                let fault = (!good).then(|| "Invalid image file: x.png".to_owned());
                Some(CustomValidation { takes_over: names(&["file"]), fault })
            }
            "AnyType" => {
                let fault = (types.get("in") == Some(&json!("LATENT"))).then(String::new);
                Some(CustomValidation { takes_over: names(&["input_types"]), fault })
            }
            _ => None,
        }
    }

    fn types_match(&self, output: LinkedOutput<'_>, class: &str, spec: &InputSpec) -> Option<bool> {
        let asked = class == "OwnRule" && spec.name.as_ref() == "in";
        asked.then(|| (output.class, output.slot) == ("Image", 1) && *output.ty != spec.ty)
    }
}

fn classes() -> TestClasses {
    let schema = |name: &str| NodeSchema::new(name, "test");
    let long: Vec<String> = (0..21).map(|i| format!("c{i}")).collect();
    let autogrow =
        json!({"input": {"required": {"value": ["INT", {}]}}, "prefix": "value", "min": 2, "max": 50});
    let modes = json!([
        {"key": "scale", "inputs": {"required": {"by": ["FLOAT", {"min": 0.01, "max": 8.0}]}}},
        {"key": "crop", "inputs": {"required": {"how": ["COMBO", {"options": ["center", "none"]}]}, "optional": {"w": ["INT", {}]}}},
    ]);
    let schemas = [
        schema("Save").input(InputSpec::new("images", "IMAGE")).output_node(),
        schema("Image").output(OutputSpec::new("IMAGE")).output(OutputSpec::new("MASK")),
        schema("Latent").output(OutputSpec::new("LATENT")),
        schema("Pass").input(InputSpec::new("image", "IMAGE")).output(OutputSpec::new("IMAGE")),
        schema("Numbers")
            .input(InputSpec::new("int", "INT").range(0, 100).default(5))
            .input(InputSpec::new("float", "FLOAT").range(0.0, 1e30).optional())
            .input(InputSpec::new("text", "STRING").optional())
            .input(InputSpec::new("flag", "BOOLEAN").optional())
            .output(OutputSpec::new("IMAGE"))
            .output_node(),
        schema("Combos")
            .input(InputSpec::combo("old", ["a", "it's", "c"]))
            .input(InputSpec::new("new", "COMBO").opt("options", json!(["x", 1])).optional())
            .input(InputSpec::combo("long", long).optional())
            .input(InputSpec::new("remote", "COMBO").opt("remote", json!({"route": "/x"})).optional())
            .input(
                InputSpec::new("many", "COMBO")
                    .opt("options", json!(["x", "y"]))
                    .opt("multiselect", true)
                    .optional(),
            )
            .output_node(),
        schema("Open")
            .input(InputSpec::new("any", "*").optional())
            .input(InputSpec::new("set", "IMAGE,MASK").optional())
            .input(InputSpec::new("match", "COMFY_MATCHTYPE_V3").optional())
            .output_node(),
        schema("LoadFile")
            .input(InputSpec::combo("file", ["good.png"]))
            .output(OutputSpec::new("IMAGE"))
            .output_node(),
        schema("OwnRule").input(InputSpec::new("in", "LATENT")).output_node(),
        schema("AnyType").input(InputSpec::new("in", "IMAGE")).output_node(),
        schema("Grow")
            .input(InputSpec::new("values", "COMFY_AUTOGROW_V3").opt("template", autogrow))
            .output_node(),
        schema("Resize")
            .input(InputSpec::new("mode", "COMFY_DYNAMICCOMBO_V3").opt("options", modes))
            .output_node(),
        schema("Nothing").output_node(),
        schema("ComboOut").output(OutputSpec { ty: InputType::choices(["a"]), ..OutputSpec::new("COMBO") }),
    ];
    TestClasses(schemas.into_iter().map(|schema| (schema.name.clone(), Arc::new(schema))).collect())
}

fn node(class: &str, inputs: Value) -> Value {
    json!({ "class_type": class, "inputs": inputs })
}

fn check(prompt: Value) -> Result<ValidPrompt, PromptRejected> {
    validate(&prompt, &classes(), None)
}

fn refused(prompt: Value) -> PromptRejected {
    check(prompt).err().unwrap_or_else(|| panic!("the prompt was accepted"))
}

/// The one error of the one faulty node: (type, message, details).
fn fault(prompt: Value) -> (String, String, String) {
    let rejected = refused(prompt);
    let faults: Vec<_> = rejected.node_errors.values().flat_map(|node| &node.errors).collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    (faults[0].kind.clone(), faults[0].message.clone(), faults[0].details.clone())
}

fn fault_of(class: &str, inputs: Value) -> (String, String, String) {
    fault(json!({ "1": node(class, inputs) }))
}

/// The converted value of an input of node 1.
fn converted(class: &str, inputs: Value, name: &str) -> Value {
    let valid = check(json!({ "1": node(class, inputs) })).unwrap();
    let Input::Constant(value) = &valid.prompt.nodes["1"].inputs[name] else { panic!("not a constant") };
    assert_eq!(&valid.json["1"]["inputs"][name], value);
    value.clone()
}

#[test]
fn refusals_of_the_whole_prompt() {
    insta::assert_json_snapshot!(
        "whole_prompt",
        [
            crate::parse::no_prompt(),
            refused(json!([])),
            refused(json!({"3": {"inputs": {}}})),
            refused(json!({"1": node("Nothing", json!({})), "3": node("NoSuchClass", json!({}))})),
            refused(json!({"1": node("Image", json!({}))})),
            validate(&json!({"1": node("Nothing", json!({}))}), &classes(), Some(&["9".into()])).unwrap_err(),
        ]
    );
}

#[test]
fn each_fault_of_an_input_has_its_wire_form() {
    insta::assert_json_snapshot!("required_input_missing", refused(json!({"1": node("Save", json!({}))})));
    insta::assert_json_snapshot!(
        "bad_linked_input",
        refused(json!({"1": node("Save", json!({"images": ["2"]}))}))
    );
    insta::assert_json_snapshot!(
        "return_type_mismatch",
        refused(json!({
        "1": node("Save", json!({"images": ["2", 0]})), "2": node("Latent", json!({}))}))
    );
    insta::assert_json_snapshot!(
        "invalid_input_type",
        refused(json!({"1": node("Numbers", json!({"int": "abc"}))}))
    );
    insta::assert_json_snapshot!(
        "out_of_range",
        refused(json!({
        "1": node("Numbers", json!({"int": -3.7, "float": 2e30}))}))
    );
    insta::assert_json_snapshot!(
        "value_not_in_list",
        refused(json!({
        "1": node("Combos", json!({"old": "zzz", "long": "zzz"}))}))
    );
    insta::assert_json_snapshot!(
        "custom_validation_failed",
        refused(json!({
        "1": node("LoadFile", json!({"file": "x.png"}))}))
    );
}

#[test]
fn faults_upstream_name_every_output_that_depends_on_them() {
    insta::assert_json_snapshot!(
        "upstream",
        refused(json!({
            "1": node("Save", json!({"images": ["3", 0]})),
            "2": node("Save", json!({"images": ["3", 0]})),
            "3": node("Pass", json!({"image": ["4", 0]})),
            "4": node("Pass", json!({})),
        }))
    );
}

#[test]
fn exceptions_name_the_node_that_was_looked_at() {
    insta::assert_json_snapshot!(
        "exception_in_output",
        refused(json!({"1": node("Save", json!({"images": ["99", 0]}))}))
    );
    insta::assert_json_snapshot!(
        "exception_deeper",
        refused(json!({
        "1": node("Save", json!({"images": ["2", 0]})), "2": node("Pass", json!({"image": ["99", 0]}))}))
    );
}

#[test]
fn outputs_that_are_good_run_without_the_others() {
    let valid = check(json!({
        "1": node("Save", json!({"images": ["3", 0]})), "2": node("Save", json!({})), "3": node("Image", json!({})),
    }));
    let valid = valid.unwrap();
    assert_eq!(valid.outputs, vec![NodeId::from("1")]);
    assert_eq!(valid.node_errors["2"].dependent_outputs, ["2"]);
}

#[test]
fn targets_pick_outputs_and_ids_that_are_none_are_ignored() {
    let prompt = json!({"1": node("Nothing", json!({})), "2": node("Nothing", json!({})), "3": node("Image", json!({}))});
    let valid = validate(&prompt, &classes(), Some(&["2".into(), "3".into(), "9".into()])).unwrap();
    assert_eq!(valid.outputs, vec![NodeId::from("2")]);
}

#[test]
fn constants_are_converted_as_python_does() {
    for (given, int) in
        [(json!("12"), 12), (json!(" 9 "), 9), (json!("1_0"), 10), (json!(3.7), 3), (json!(true), 1)]
    {
        assert_eq!(converted("Numbers", json!({ "int": given }), "int"), json!(int));
    }
    let with = |name: &str, value: Value| converted("Numbers", json!({ "int": 1, name: value }), name);
    assert_eq!(with("float", json!(3)), json!(3.0));
    assert_eq!(with("float", json!("1e3")), json!(1000.0));
    assert_eq!(with("text", json!(null)), json!("None"));
    assert_eq!(with("text", json!(1e30)), json!("1e+30"));
    assert_eq!(with("flag", json!("false")), json!(true));
    assert_eq!(with("flag", json!("")), json!(false));
}

#[test]
fn nan_passes_ranges_and_stays_text_in_json() {
    let valid = check(json!({"1": node("Numbers", json!({"int": 1, "float": "nan"}))})).unwrap();
    assert!(matches!(valid.prompt.nodes["1"].inputs["float"], Input::NonFinite(float) if float.is_nan()));
    assert_eq!(valid.json["1"]["inputs"]["float"], json!("nan"));
    let revived = revive(&valid.json, &classes()).unwrap();
    assert!(matches!(revived.nodes["1"].inputs["float"], Input::NonFinite(float) if float.is_nan()));
    let (kind, message, _) = fault_of("Numbers", json!({"int": 1, "float": "inf"}));
    assert_eq!(
        (kind.as_str(), message.as_str()),
        ("value_bigger_than_max", "Value inf bigger than max of 1e+30")
    );
}

#[test]
fn conversions_that_python_refuses_say_why_in_its_words() {
    let reason = |inputs| fault_of("Numbers", inputs).2;
    assert_eq!(reason(json!({"int": "x"})), "int, x, invalid literal for int() with base 10: 'x'");
    assert_eq!(
        reason(json!({"int": {"__value__": [1, 2.0]}})),
        "int, [1, 2.0], int() argument must be a string, a bytes-like object or a real number, not 'list'"
    );
    assert_eq!(reason(json!({"int": 1, "float": ""})), "float, , could not convert string to float: ''");
}

#[test]
fn numbers_in_messages_print_as_python_prints_them() {
    assert_eq!(fault_of("Numbers", json!({"int": 101})).1, "Value 101 bigger than max of 100");
    assert_eq!(fault_of("Numbers", json!({"int": 1, "float": -0.5})).1, "Value -0.5 smaller than min of 0.0");
    assert_eq!(
        fault_of("Numbers", json!({"int": 1, "float": 1e31})).1,
        "Value 1e+31 bigger than max of 1e+30"
    );
}

#[test]
fn combos_of_both_forms_check_their_choices() {
    assert!(
        check(json!({"1": node("Combos", json!({"old": "it's", "new": 1.0, "remote": "whatever"}))})).is_ok()
    );
    assert!(
        check(json!({"1": node("Combos", json!({"old": "a", "many": {"__value__": ["x", "y"]}}))})).is_ok()
    );
    let (kind, _, details) = fault_of("Combos", json!({"old": "b"}));
    assert_eq!(
        (kind.as_str(), details.as_str()),
        ("value_not_in_list", "old: 'b' not in ['a', \"it's\", 'c']")
    );
    assert_eq!(
        fault_of("Combos", json!({"old": "a", "long": "b"})).2,
        "long: 'b' not in (list of length 21)"
    );
    assert_eq!(
        fault_of("Combos", json!({"old": "a", "many": {"__value__": ["x", "z"]}})).0,
        "value_not_in_list"
    );
}

#[test]
fn slots_count_from_the_end_and_false_is_the_first() {
    let with_slot = |slot: Value| json!({"1": node("Save", json!({"images": ["2", slot]})), "2": node("Image", json!({}))});
    assert!(check(with_slot(json!(-2))).is_ok());
    assert!(check(with_slot(json!(false))).is_ok());
    for (slot, kind) in [
        (json!(2), "IndexError"),
        (json!(-3), "IndexError"),
        (json!(0.0), "TypeError"),
        (json!("0"), "TypeError"),
    ] {
        let rejected = refused(with_slot(slot));
        let error = &rejected.node_errors["1"].errors[0];
        assert_eq!(error.kind, "exception_during_validation");
        assert_eq!(error.extra_info["exception_type"], json!(kind));
    }
}

#[test]
fn types_match_when_equal_open_or_sharing_a_member() {
    for name in ["any", "set", "match"] {
        let prompt = json!({"1": node("Open", json!({ name: ["2", 1] })), "2": node("Image", json!({}))});
        assert!(check(prompt).is_ok(), "{name}");
    }
    let prompt = json!({"1": node("Open", json!({"set": ["2", 0]})), "2": node("Latent", json!({}))});
    assert_eq!(fault(prompt).2, "set, received_type(LATENT) mismatch input_type(IMAGE,MASK)");
    let combo =
        json!({"1": node("Combos", json!({"old": "a", "new": ["2", 0]})), "2": node("ComboOut", json!({}))});
    assert!(check(combo).is_ok());
}

#[test]
fn a_class_that_takes_input_types_decides_on_types_itself() {
    assert!(
        check(json!({"1": node("AnyType", json!({"in": ["2", 1]})), "2": node("Image", json!({}))})).is_ok()
    );
    let (kind, _, details) =
        fault(json!({"1": node("AnyType", json!({"in": ["2", 0]})), "2": node("Latent", json!({}))}));
    assert_eq!((kind.as_str(), details.as_str()), ("custom_validation_failed", ""));
}

#[test]
fn a_class_that_compares_types_by_a_rule_of_its_own_is_asked() {
    let image = |slot: usize| {
        let prompt = json!({"1": node("OwnRule", json!({"in": ["2", slot]})), "2": node("Image", json!({}))});
        check(prompt)
    };
    assert!(image(1).is_ok(), "a MASK, though its input's text says LATENT");
    let (kind, ..) =
        fault(json!({"1": node("OwnRule", json!({"in": ["2", 0]})), "2": node("Latent", json!({}))}));
    assert_eq!(kind, "return_type_mismatch", "the same text, but the rule says no");
}

#[test]
fn a_class_that_takes_over_an_input_is_asked_in_place_of_the_list() {
    assert!(check(json!({"1": node("LoadFile", json!({"file": "good.png"}))})).is_ok());
    let (kind, _, details) = fault_of("LoadFile", json!({"file": "x.png"}));
    assert_eq!(kind, "custom_validation_failed");
    assert_eq!(details, "file - Invalid image file: x.png");
}

#[test]
fn autogrow_lists_take_what_is_given() {
    assert_eq!(converted("Grow", json!({"values.value0": "3"}), "values.value0"), json!(3));
    assert!(check(json!({"1": node("Grow", json!({}))})).is_ok());
    assert_eq!(fault_of("Grow", json!({"values.value1": "x"})).0, "invalid_input_type");
}

#[test]
fn dynamic_combos_bring_the_inputs_of_their_choice() {
    assert_eq!(converted("Resize", json!({"mode": "scale", "mode.by": "2"}), "mode.by"), json!(2.0));
    assert_eq!(fault_of("Resize", json!({"mode": "scale"})).2, "mode.by");
    assert_eq!(fault_of("Resize", json!({"mode": "scale", "mode.by": 9})).0, "value_bigger_than_max");
    assert_eq!(fault_of("Resize", json!({"mode": "crop", "mode.how": "x"})).0, "value_not_in_list");
    assert!(check(json!({"1": node("Resize", json!({"mode": "no such mode"}))})).is_ok());
    assert_eq!(fault_of("Resize", json!({})).2, "mode");
}

#[test]
fn defaults_are_not_filled_in_and_extra_inputs_are_ignored() {
    assert_eq!(fault_of("Numbers", json!({})).0, "required_input_missing");
    assert!(check(json!({"1": node("Nothing", json!({"extra": ["99", 0], "more": [1, 2, 3]}))})).is_ok());
}

#[test]
fn a_cycle_is_refused_without_blaming_a_node() {
    let rejected = refused(json!({
        "1": node("Save", json!({"images": ["2", 0]})),
        "2": node("Pass", json!({"image": ["3", 0]})), "3": node("Pass", json!({"image": ["2", 0]})),
    }));
    assert_eq!(rejected.error.kind, "prompt_outputs_failed_validation");
    assert!(rejected.node_errors.is_empty());
    let own = refused(
        json!({"1": node("Save", json!({"images": ["2", 0]})), "2": node("Pass", json!({"image": ["2", 0]}))}),
    );
    assert!(own.node_errors.is_empty());
}

#[test]
fn what_no_output_reaches_does_no_harm() {
    for odd in [
        json!({"class_type": "Pass"}),
        json!({"class_type": "Pass", "inputs": null}),
        json!({"class_type": "Pass", "inputs": [1]}),
    ] {
        assert!(check(json!({"1": node("Nothing", json!({})), "2": odd})).is_ok());
    }
    assert!(check(json!({"1": {"class_type": "Nothing", "inputs": "x"}})).is_ok());
    assert_eq!(fault(json!({"1": {"class_type": "Save"}})).0, "exception_during_validation");
    assert_eq!(fault(json!({"1": {"class_type": "Save", "inputs": null}})).0, "exception_during_validation");
    assert_eq!(fault(json!({"1": {"class_type": "Save", "inputs": [1, 2]}})).0, "required_input_missing");
}

fn chain(length: usize, end: Value) -> Value {
    let mut prompt = Map::new();
    prompt.insert("save".into(), node("Save", json!({"images": [format!("{}", length - 1), 0]})));
    prompt.insert("0".into(), end);
    for i in 1..length {
        prompt.insert(i.to_string(), node("Pass", json!({"image": [(i - 1).to_string(), 0]})));
    }
    Value::Object(prompt)
}

#[test]
fn chains_of_any_length_are_walked() {
    assert!(check(chain(5_000, node("Image", json!({})))).is_ok());
    assert!(check(chain(100_000, node("Image", json!({})))).is_ok());
    let rejected = refused(chain(100_000, node("Pass", json!({"image": ["99999", 0]}))));
    assert!(rejected.node_errors.is_empty());
}

#[test]
fn many_faults_under_many_outputs_make_a_bounded_answer() {
    let mut prompt = Map::new();
    for i in 0..2_000 {
        prompt.insert(format!("s{i}"), node("Save", json!({"images": ["1999", 0]})));
        let image = if i == 0 { json!(["x"]) } else { json!([(i - 1).to_string(), 0]) };
        prompt.insert(i.to_string(), node("Numbers", json!({"int": "x", "image": image})));
    }
    let rejected = refused(Value::Object(prompt));
    let entries: usize = rejected.node_errors.values().map(|node| node.dependent_outputs.len()).sum();
    assert!(entries <= 200_000, "{entries}");
}
