//! What a node has beside what it should: processes, descriptors, variables.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What belongs to one master at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remains {
    /// Its children, and whoever else is of its process group or in its folder, zombies too: how many have this name.
    pub processes: BTreeMap<String, usize>,
    /// The descriptors of the master: how many lead to this.
    pub descriptors: BTreeMap<String, usize>,
    /// The names of the variables that its image was started with.
    pub variables: Vec<String>,
}

impl Remains {
    /// Of the master with this id, which runs in `folder`. Who has died meanwhile is left out.
    pub fn of(master: u32, folder: &Path) -> Remains {
        let mut processes = BTreeMap::new();
        let group = status(master).map(|(_, _, group)| group);
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Some((name, parent, its_group)) = status(id) else { continue };
            let is_in_folder =
                fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
            if parent == master || Some(its_group) == group || is_in_folder {
                *processes.entry(name).or_default() += 1;
            }
        }
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{master}/fd")).into_iter().flatten().flatten() {
            if let Ok(target) = fs::read_link(entry.path()) {
                // Of a socket and the like only the kind: each has a number of its own.
                let target = target.display().to_string();
                let kind = target.split_once(":[").map_or(target.as_str(), |(kind, _)| kind);
                *descriptors.entry(kind.to_string()).or_default() += 1;
            }
        }
        let environ = fs::read(format!("/proc/{master}/environ")).unwrap_or_default();
        let environ = String::from_utf8_lossy(&environ).into_owned();
        let named = environ.split('\0').filter_map(|variable| Some(variable.split_once('=')?.0.to_string()));
        let mut variables: Vec<String> = named.collect();
        variables.sort();
        Remains { processes, descriptors, variables }
    }
}

/// The name and state, the parent and the group of a process.
fn status(id: u32) -> Option<(String, u32, u32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let name = if state == "Z" { format!("{name} (zombie)") } else { name.to_string() };
    Some((name, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::{LIMIT, process, wait_until};

    #[test]
    fn a_child_a_zombie_a_descriptor_and_a_variable_are_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut shell = Command::new("sh");
        // The second one dies, and nobody waits for it.
        shell.args(["-c", "sleep 100 & sh -c 'kill -9 $$' & exec cat"]).current_dir(folder.path());
        shell.env("ONE_MORE", "1").stdin(Stdio::piped()).stdout(Stdio::null());
        let mut shell = process::spawn(&mut shell).expect("there is a shell");
        let found = || Remains::of(shell.id(), folder.path());
        let all = || {
            let found = found();
            let is_there = |name: &str| found.processes.contains_key(name);
            ["cat", "sleep", "sh (zombie)"].into_iter().all(is_there)
                && found.descriptors.contains_key("pipe")
        };
        assert!(wait_until(LIMIT, all), "{:?}", found());
        assert!(found().variables.contains(&"ONE_MORE".to_string()), "{:?}", found());
        process::signal_group(shell.id(), process::SIGKILL);
        shell.wait().expect("our own child");
    }
}
