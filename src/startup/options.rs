//! The options of Legions at start: whether each Legion, command and folder that they name is there.

use std::path::Path;

use super::Reading;
use crate::config::{Check, LEGION_OPTIONS, LegionOptions, OfLegion, distance, read_legion_options};
use crate::text::printable;
use crate::uwsgi::{self, Legion, Need};

/// The largest valor of a node that is ranked by more than it: what it announces has 16 bits, and two of them say how it is.
const LARGEST_RANKED: u64 = 16_383;

impl Reading {
    pub(super) fn read_options(&mut self, lines: &[(String, Vec<u8>)]) {
        let (legions, before) = (uwsgi::legions(), self.problems.len());
        for of in read_legion_options(lines) {
            let Some(legion) = legions.iter().find(|legion| legion.name() == of.legion).copied() else {
                self.problems.push(unknown_legion(&of, &legions));
                continue;
            };
            let place = |text: &String| format!("Legion {}, {text}", of.legion);
            self.problems.extend(of.problems.iter().map(place));
            self.warnings.extend(of.doubts.iter().map(|text| (Some(legion), place(text))));
            self.problems.extend(missing(&of.options).iter().map(place));
            let wrong_valor = unrankable(legion, &of);
            let mut options = of.options;
            if wrong_valor.is_some() {
                // A reload goes on, and then this node is what it was without them.
                options = LegionOptions { silent_stop: options.silent_stop, ..LegionOptions::default() };
            }
            self.problems.extend(wrong_valor);
            self.options.push((legion, options));
        }
        self.has_wrong_options = self.problems.len() > before;
        self.warnings.extend(
            uwsgi::options().into_iter().filter_map(|(key, _)| mistyped(&key)).map(|text| (None, text)),
        );
    }
}

fn unknown_legion(of: &OfLegion, legions: &[Legion]) -> String {
    let option = of.given.first().copied().unwrap_or_default();
    let name = printable(&of.legion, &[]);
    if name.is_empty() {
        return format!("{option}: the name of the Legion is missing: expected {option} = NAME ...");
    }
    let known: Vec<String> = legions.iter().map(|legion| legion.name()).collect();
    let hint = match &known[..] {
        [] => format!("define it with legion = {name} ..."),
        known => format!("expected {}", known.join(" or ")),
    };
    format!("{option}: there is no Legion {name}: {hint}")
}

/// What the options name that is not there for the user that uWSGI will be.
fn missing(options: &LegionOptions) -> Vec<String> {
    let mut problems = Vec::new();
    let mut need = |option: &str, what: &str, path: &Path, need: Need| {
        if let (who, Err(why)) = uwsgi::try_path(path, need) {
            let shown = printable(&path.to_string_lossy(), &[]);
            problems.push(format!("{option}: {what} {shown}{who}: {why}"));
        }
    };
    for check in &options.checks {
        if let Check::Command(words) = check {
            let program = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
            need("legion-check", "cannot run", Path::new(&program), Need::Run);
        }
    }
    if let Some(folder) = options.drain_file.as_deref().and_then(Path::parent) {
        need("legion-drain-file", "cannot look into its folder", folder, Need::Enter);
    }
    problems
}

/// What is wrong with the valor of a node that is ranked by more than it.
fn unrankable(legion: Legion, of: &OfLegion) -> Option<String> {
    let (option, valor) = (of.ranked_by()?, legion.valor());
    let why = match valor {
        0 => "is 0 (an arbiter), which votes but never becomes Lord: remove the option here".into(),
        1..=LARGEST_RANKED => return None,
        _ => format!(
            "is {valor}: with this option it has to be from 1 to {LARGEST_RANKED}, on every node of the Legion"
        ),
    };
    Some(format!("Legion {}, {option}: this node's valor {why}", of.legion))
}

/// uWSGI takes any unknown option for a variable, and says nothing.
fn mistyped(option: &str) -> Option<String> {
    if LEGION_OPTIONS.contains(&option) || !option.starts_with("legion-") {
        return None;
    }
    let near = LEGION_OPTIONS.into_iter().map(|known| (distance(option, known), known)).min()?;
    let (distance, meant) = near;
    (distance <= 2).then(|| format!("unknown option {option}: did you mean {meant}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_option_is_told_from_uwsgis_own() {
        for (option, meant) in [
            ("legion-chek", Some("legion-check")),
            ("legion-no-preempt", Some("legion-nopreempt")),
            ("legion-check-intervall", Some("legion-check-interval")),
            ("legion-drainfile", Some("legion-drain-file")),
            ("legion-check", None),
            ("legion-death", None),
            ("legion-node", None),
            ("legion-scroll", None),
            ("legion-cron", None),
            ("check", None),
        ] {
            let expected = meant.map(|meant| format!("unknown option {option}: did you mean {meant}?"));
            assert_eq!(mistyped(option), expected);
        }
    }
}
