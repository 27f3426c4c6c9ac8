//! `rushlight nodes`: the classes there are, one of them, or those that are missing.

use anyhow::{Result, bail};
use rushlight_graph::{InputType, NodeSchema, Presence};
use rushlight_nodes::Settings;
use serde_json::{Map, Value};

use crate::args::NodesArgs;
use crate::environment;

/// Prints what was asked for.
///
/// # Errors
/// An unknown class, with similar names.
pub fn run(args: &NodesArgs) -> Result<()> {
    if args.missing {
        return list_missing(args.json);
    }
    let (_, host) = environment::open_host(&environment::folder_settings(&args.folders)?, true)?;
    let classes = environment::native_classes(host, &Settings::default());
    let schemas: Vec<_> = classes.schemas().collect();
    match &args.name {
        Some(name) => match schemas.iter().find(|schema| schema.name.as_ref() == name) {
            Some(schema) if args.json => print_json(&schema.to_object_info()),
            Some(schema) => {
                print!("{}", describe(schema));
                Ok(())
            }
            None => {
                let wanted = name.to_lowercase();
                let similar: Vec<&str> = schemas
                    .iter()
                    .map(|schema| schema.name.as_ref())
                    .filter(|known| known.to_lowercase().contains(&wanted))
                    .take(8)
                    .collect();
                let hint = if similar.is_empty() {
                    String::new()
                } else {
                    format!("; similar: {}", similar.join(", "))
                };
                bail!("there is no native class `{name}`{hint}")
            }
        },
        None if args.json => {
            let all: Map<String, Value> =
                schemas.iter().map(|schema| (schema.name.to_string(), schema.to_object_info())).collect();
            print_json(&Value::Object(all))
        }
        None => {
            for schema in &schemas {
                println!("{:<36} {}", schema.name, schema.category);
            }
            println!("{} classes", schemas.len());
            Ok(())
        }
    }
}

fn list_missing(json: bool) -> Result<()> {
    let missing = rushlight_nodes::missing(&environment::native_registry());
    if json {
        let all: Map<String, Value> =
            missing.iter().map(|missing| (missing.class.to_string(), Value::from(missing.reason))).collect();
        return print_json(&Value::Object(all));
    }
    for missing in &missing {
        println!("{:<44} {}", missing.class, missing.reason);
    }
    println!("{} classes are not native", missing.len());
    Ok(())
}

fn print_json(value: &Value) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn describe(schema: &NodeSchema) -> String {
    let mut text = format!("{} — {} ({})\n", schema.name, schema.display_name, schema.category);
    if !schema.description.is_empty() {
        text += &format!("{}\n", schema.description);
    }
    text += "inputs\n";
    for input in schema.inputs.iter().filter(|input| input.presence != Presence::Hidden) {
        let kind = match &input.ty {
            InputType::Named(name) => name.to_string(),
            InputType::Choices(choices) => choice_list(choices),
        };
        let optional = if input.presence == Presence::Optional { " (optional)" } else { "" };
        let settings: Vec<String> = ["default", "min", "max"]
            .iter()
            .filter_map(|key| input.options.get(*key).map(|value| format!("{key} {value}")))
            .collect();
        text += &format!("  {:<24} {kind}{optional}  {}\n", input.name, settings.join(", "));
    }
    text += "outputs\n";
    for output in &schema.outputs {
        let kind = match &output.ty {
            InputType::Named(name) => name.to_string(),
            InputType::Choices(choices) => choice_list(choices),
        };
        text += &format!("  {:<24} {kind}{}\n", output.name, if output.is_list { " (list)" } else { "" });
    }
    text
}

fn choice_list(choices: &[Value]) -> String {
    let names: Vec<String> = choices
        .iter()
        .take(6)
        .map(|choice| choice.as_str().map_or_else(|| choice.to_string(), str::to_owned))
        .collect();
    let more = choices.len().saturating_sub(names.len());
    if more > 0 {
        format!("one of {} and {more} more", names.join(", "))
    } else {
        format!("one of {}", names.join(", "))
    }
}
