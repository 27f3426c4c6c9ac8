//! `rushlight run`: one workflow, here and now, without a server.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use rushlight_protocol::{Audience, Event, PromptRejected};
use rushlight_runtime::context::PreviewMethod;
use rushlight_runtime::{CancelToken, EventSink, Executor, ExecutorOptions, Job, Outcome, RunContext};
use serde_json::{Map, Value, json};

use crate::args::RunArgs;
use crate::terminal::{self, TerminalSink};
use crate::{environment, workflow};

/// Runs the workflow and prints the path of every file it saved.
///
/// # Errors
/// What is wrong with the workflow, or the node that failed and why.
pub fn run(args: &RunArgs) -> Result<()> {
    let mut graph = match &args.workflow {
        Some(path) => workflow::read(path)?,
        None => workflow::default_workflow()?,
    };
    for assignment in &args.set {
        workflow::set_input(&mut graph, assignment)?;
    }
    let mut settings = environment::folder_settings(&args.folders)?;
    if let Some(out) = &args.out {
        settings.output = Some(out.clone());
    }
    let (folders, host) = environment::open_host(&settings, !args.device.disable_metadata)?;
    let classes = environment::native_classes(host.clone(), &args.device.node_settings());
    let device = environment::device(&args.device)?;
    let valid =
        rushlight_graph::validate(&graph, classes.as_ref(), None).map_err(|refused| explain(&refused))?;
    if !valid.node_errors.is_empty() {
        eprintln!("warning: some outputs are left out:\n{}", fault_lines(&valid.node_errors));
    }

    let sink = Arc::new(TerminalSink::new(args.preview));
    let mut context = RunContext::new(
        "run".into(),
        Audience::Nobody,
        host.clone(),
        sink.clone() as Arc<dyn EventSink>,
        device.clone(),
    );
    if args.preview {
        context.preview_method = PreviewMethod::Latent2Rgb;
    }
    cancel_on_interrupt(context.cancel.clone());
    let job = Job::new("run", valid, Map::from_iter([("extra_pnginfo".to_owned(), json!({}))]));
    let mut executor = Executor::new(classes, host, device, ExecutorOptions::default());
    let outcome = executor.run(&job, Arc::new(context));
    sink.finish();

    if let Some(message) = sink.failure() {
        eprintln!("warning: {}", message.trim_end());
    }
    let saved = saved_files(&folders, &outcome);
    if args.preview
        && let Some(picture) = saved.first().and_then(|path| image::open(path).ok())
    {
        terminal::draw(&picture.to_rgb8());
    }
    for path in &saved {
        println!("{}", path.display());
    }
    check(&outcome)
}

fn saved_files(folders: &rushlight_store::Folders, outcome: &Outcome) -> Vec<PathBuf> {
    let items = outcome.outputs.values().filter_map(Value::as_object).flat_map(|ui| ui.values());
    items
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|item| environment::saved_path(folders, item))
        .collect()
}

fn check(outcome: &Outcome) -> Result<()> {
    match &outcome.terminal {
        Event::ExecutionSuccess { .. } => Ok(()),
        Event::ExecutionError(error) => {
            bail!(
                "node {} ({}) failed: {}: {}",
                error.node_id,
                error.node_type,
                error.exception_type,
                error.exception_message.trim_end()
            )
        }
        Event::ExecutionInterrupted { node_id, .. } => bail!("interrupted in node {node_id}"),
        _ => bail!("the run ended without a result"),
    }
}

/// Ctrl-C ends the run at its next step; a second one ends the program.
fn cancel_on_interrupt(cancel: CancelToken) {
    let wait = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                cancel.cancel();
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
    };
    // Without the thread Ctrl-C ends the program at once, which is no worse than it was.
    let _ = std::thread::Builder::new().name("ctrl-c".into()).spawn(wait);
}

fn explain(refused: &PromptRejected) -> anyhow::Error {
    let faults = fault_lines(&refused.node_errors);
    let error = &refused.error;
    let details =
        if error.details.is_empty() { String::new() } else { format!(": {}", error.details.trim_end()) };
    anyhow!("{}{details}{}{faults}", error.message, if faults.is_empty() { "" } else { "\n" })
}

fn fault_lines(errors: &indexmap::IndexMap<String, rushlight_protocol::NodeErrors>) -> String {
    let lines: Vec<String> = errors
        .iter()
        .flat_map(|(id, node)| {
            node.errors.iter().map(move |error| {
                format!("  node {id} ({}): {}: {}", node.class_type, error.message, error.details)
            })
        })
        .collect();
    lines.join("\n")
}
