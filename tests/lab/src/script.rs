//! A command of examples/, called as the plugin calls it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::assert_no_secret;
use crate::process;
use crate::uwsgi::checkout;

/// How a call has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: i32,
    /// The one line that it has printed.
    pub line: String,
}

/// Calls `examples/NAME` with nothing but this environment, and waits for its end.
#[track_caller]
pub fn call(name: &str, environment: &[(String, String)], arguments: &[&str]) -> Ended {
    let output = begin(name, environment, arguments).wait_with_output().expect("a child of ours");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_no_secret(&text);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name} {arguments:?}: {text}");
    let line = text.strip_suffix('\n').unwrap_or_default();
    assert!(!line.is_empty() && !line.contains('\n'), "{name} {arguments:?}: not one line: {text:?}");
    Ended { status: output.status.code().expect("it was not killed"), line: line.to_owned() }
}

/// The same without waiting.
pub fn begin(name: &str, environment: &[(String, String)], arguments: &[&str]) -> Child {
    let mut command = Command::new(checkout().join("examples").join(name));
    command.args(arguments).env_clear().envs(environment.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    process::spawn(&mut command).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Adds a variable, or changes one.
pub fn set(environment: &mut Vec<(String, String)>, name: &str, value: &str) {
    environment.retain(|(known, _)| known != name);
    environment.push((name.to_owned(), value.to_owned()));
}

/// The hook that the head of a command shows, with what is a placeholder there replaced, and more keys.
pub fn hook_of_head(
    name: &str,
    environment: &[(String, String)],
    replaced: &[(&str, String)],
    more: &str,
) -> String {
    let text = fs::read_to_string(checkout().join("examples").join(name)).expect("a file of examples/");
    let head = text.split("\"\"\"").nth(1).expect("it begins with a docstring");
    for (variable, _) in environment {
        assert!(head.contains(variable.as_str()), "{name} says nothing of {variable}");
    }
    let line =
        head.lines().find_map(|line| line.strip_prefix("    legion-lord = failover ")).expect("a hook");
    let mut hook = line.to_owned();
    for (placeholder, value) in replaced {
        assert!(hook.contains(placeholder), "there is no {placeholder} in {hook}");
        hook = hook.replace(placeholder, value);
    }
    hook + more
}

/// Writes an `env_file`.
pub fn write_env_file(path: &Path, environment: &[(String, String)]) {
    let lines: String = environment.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    fs::write(path, lines).expect("our own folder");
}
