//! The command line in Python's process.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rushlight_cli::args::ServeArgs;
use rushlight_server::extension::Extension;
use serde_json::{Value, json};

use crate::bridge::PythonExtension;

/// Seconds that a node which ignores an interrupt goes on before its thread gets an exception.
const DEFAULT_GRACE: f64 = 10.0;

/// Runs a command; `arguments` without the program's name. Returns the exit status.
pub fn main(arguments: Vec<String>) -> i32 {
    let arguments: Vec<OsString> =
        std::iter::once("rushlight".to_owned()).chain(arguments).map(Into::into).collect();
    let given = arguments.clone();
    let extension = move |args: &ServeArgs| -> Arc<dyn Extension> {
        Arc::new(PythonExtension::new(options(args, &given), grace()))
    };
    let code = rushlight_cli::main(arguments, Some(Box::new(extension)));
    // `ExitCode` does not tell its number; success and failure are all that callers look at.
    i32::from(code != ExitCode::SUCCESS)
}

fn grace() -> Duration {
    let seconds = std::env::var("RUSHLIGHT_INTERRUPT_GRACE").ok().and_then(|text| text.parse().ok());
    let seconds: f64 = seconds.unwrap_or(DEFAULT_GRACE);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs_f64(DEFAULT_GRACE))
}

/// What the package needs of the command line: see `rushlight.host.state.options`.
fn options(args: &ServeArgs, given: &[OsString]) -> Value {
    let mut upstream = args.upstream.given();
    upstream.extend(args.device.shared_flags());
    upstream.extend(["--preview-method", "--preview-size"]);
    json!({
        "comfyui_dir": args.comfyui_dir,
        "prefer_python": args.prefer_python,
        "disable_all_custom_nodes": args.disable_all_custom_nodes,
        "whitelist_custom_nodes": args.whitelist_custom_nodes,
        "disable_api_nodes": args.disable_api_nodes,
        "listen": args.listen,
        "port": args.port,
        "cpu": args.device.cpu,
        "args": {
            "base_directory": args.folders.base_directory,
            "output_directory": args.folders.output_directory,
            "input_directory": args.folders.input_directory,
            "temp_directory": args.folders.temp_directory,
            "user_directory": args.folders.user_directory,
            "disable_metadata": args.device.disable_metadata,
            "preview_method": args.preview_method.name(),
            "preview_size": args.preview_size,
            "multi_user": args.multi_user,
            "cpu": args.device.cpu,
            "max_upload_size": args.max_upload_size,
        },
        "upstream_argv": upstream_arguments(given, &upstream),
    })
}

/// Those of the `given` arguments that name one of the `flags`, with their values.
fn upstream_arguments(given: &[OsString], flags: &[&str]) -> Vec<String> {
    let mut taken = Vec::new();
    let mut takes = false;
    for argument in given.iter().filter_map(|argument| argument.to_str()) {
        if argument.starts_with("--") {
            let name = argument.split_once('=').map_or(argument, |(name, _)| name);
            takes = flags.contains(&name);
        }
        if takes {
            taken.push(argument.to_owned());
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_gets_its_own_flags_with_their_values_and_no_others() {
        let given =
            "serve --port 9000 --reserve-vram 2 --fast --allowed-host a --fp32-text-enc --x=1".split(' ');
        let given: Vec<OsString> = given.map(Into::into).collect();
        let taken = upstream_arguments(&given, &["--reserve-vram", "--fast", "--fp32-text-enc", "--x"]);
        assert_eq!(taken, ["--reserve-vram", "2", "--fast", "--fp32-text-enc", "--x=1"]);
    }
}
