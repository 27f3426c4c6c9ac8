//! Options from a TOML file: the same names as the flags, without the dashes in front.
//!
//! The file's entries are turned into flags and put before the ones typed, so that the command line wins; an entry
//! whose environment variable is set is left out, so that the environment wins over the file.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The command line with the options of `--config FILE` (or `RUSHLIGHT_CONFIG`) put in.
///
/// # Errors
/// A file that cannot be read, is no TOML, or holds an entry that is no option.
pub fn expand(args: Vec<OsString>, env: impl Fn(&str) -> Option<OsString>) -> Result<Vec<OsString>> {
    let Some(path) = config_path(&args).or_else(|| env("RUSHLIGHT_CONFIG")) else { return Ok(args) };
    let path = Path::new(&path);
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let flags = flags(&text, &env).with_context(|| format!("in {}", path.display()))?;
    let command_end = 2.min(args.len());
    let mut expanded = args.clone();
    expanded.splice(command_end..command_end, flags);
    Ok(expanded)
}

fn config_path(args: &[OsString]) -> Option<OsString> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == OsStr::new("--config") {
            return rest.next().cloned();
        }
        if let Some(path) = arg.to_str().and_then(|arg| arg.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    None
}

fn flags(text: &str, env: &impl Fn(&str) -> Option<OsString>) -> Result<Vec<OsString>> {
    let table: toml::Table = text.parse()?;
    let mut flags = Vec::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        let variable = format!("RUSHLIGHT_{}", key.replace('-', "_").to_uppercase());
        if env(&variable).is_some() {
            continue;
        }
        let values = match value {
            toml::Value::Boolean(false) => continue,
            toml::Value::Boolean(true) => {
                flags.push(format!("--{name}").into());
                continue;
            }
            toml::Value::Array(items) => items,
            other => vec![other],
        };
        for value in values {
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                other => bail!(
                    "`{key}` must be a text, number, true, false, or a list of them, not {}",
                    other.type_str()
                ),
            };
            flags.push(format!("--{name}={value}").into());
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags_of(text: &str, set: &[&str]) -> Vec<String> {
        flags(text, &|name: &str| set.contains(&name).then(OsString::new))
            .unwrap()
            .into_iter()
            .map(|flag| flag.into_string().unwrap())
            .collect()
    }

    #[test]
    fn entries_become_flags() {
        let text = "port = 9000\ncpu = true\nmulti-user = false\nallowed_host = [\"a\", \"b\"]";
        let mut flags = flags_of(text, &[]);
        flags.sort();
        assert_eq!(flags, ["--allowed-host=a", "--allowed-host=b", "--cpu", "--port=9000"]);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        assert!(flags_of("port = 9000", &["RUSHLIGHT_PORT"]).is_empty());
    }

    #[test]
    fn a_table_is_refused_by_name() {
        let error = flags("[port]\nx = 1", &|_: &str| None).unwrap_err().to_string();
        assert!(error.contains("`port`"), "{error}");
    }

    #[test]
    fn the_command_line_comes_after_the_file() {
        let folder = std::env::temp_dir().join(format!("rushlight-config-{}", std::process::id()));
        std::fs::write(&folder, "port = 9000").unwrap();
        let line: Vec<OsString> = ["rushlight", "serve", "--config", folder.to_str().unwrap(), "--port", "1"]
            .map(OsString::from)
            .to_vec();
        let expanded = expand(line, |_| None).unwrap();
        std::fs::remove_file(&folder).unwrap();
        assert_eq!(expanded[2], OsString::from("--port=9000"));
        assert_eq!(expanded.last().unwrap(), "1");
    }
}
