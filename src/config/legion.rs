//! The options of a Legion: `legion-check = NAME WHAT` and the others of this plugin. They are uWSGI's options, each with
//! the Legion's name first, and not keys of a hook, because they say what this node is worth as its Lord, whatever runs
//! when it is elected.
//!
//! Only what can be seen in the text is judged here; whether a command or a folder is there, `startup` finds out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::argument::parsed;
use super::check::{Check, is_for_a_shell};
use crate::text::printable;

const NOPREEMPT: &str = "legion-nopreempt";
const PREEMPT_DELAY: &str = "legion-preempt-delay";
const CHECK: &str = "legion-check";
const INTERVAL: &str = "legion-check-interval";
const TIMEOUT: &str = "legion-check-timeout";
const FALL: &str = "legion-check-fall";
const RISE: &str = "legion-check-rise";
const DRAIN_FILE: &str = "legion-drain-file";
const SILENT_STOP: &str = "legion-silent-stop";

pub const LEGION_OPTIONS: [&str; 9] =
    [NOPREEMPT, PREEMPT_DELAY, CHECK, INTERVAL, TIMEOUT, FALL, RISE, DRAIN_FILE, SILENT_STOP];

/// Those that rank a node by more than its valor.
const RANKING: [&str; 4] = [NOPREEMPT, PREEMPT_DELAY, CHECK, DRAIN_FILE];

/// A day: who wants more than that wants `legion-nopreempt`.
const LONGEST_DELAY: u32 = 86_400;
/// An hour without a check is no check.
const LONGEST_INTERVAL: u32 = 3600;
/// A check that takes longer than minutes finds nothing in time.
const LONGEST_TIMEOUT: u32 = 600;
const MOST_IN_A_ROW: u32 = 1000;

/// What the configuration says of one Legion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegionOptions {
    /// The Lord stays Lord when a node with a higher valor comes. Default: off.
    pub nopreempt: bool,
    /// For how long a higher node has to be there, and healthy, before it becomes Lord. Default: it does at once.
    pub preempt_delay: Option<Duration>,
    /// All of them have to pass. Default: none.
    pub checks: Vec<Check>,
    /// From the beginning of one check to that of the next. Default: 5 s.
    pub interval: Duration,
    /// For one check, from name resolution to the end. Default: 3 s.
    pub timeout: Duration,
    /// After how many failures in a row a check makes this node sick. Default: 3.
    pub fall: u32,
    /// After how many passes in a row it is well again. Default: 2.
    pub rise: u32,
    /// While it is there, this node ranks as a sick one. Absolute. Default: none.
    pub drain_file: Option<PathBuf>,
    /// Announce nothing at an orderly end. Default: off.
    pub silent_stop: bool,
}

impl Default for LegionOptions {
    fn default() -> Self {
        LegionOptions {
            nopreempt: false,
            preempt_delay: None,
            checks: Vec::new(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            fall: 3,
            rise: 2,
            drain_file: None,
            silent_stop: false,
        }
    }
}

impl LegionOptions {
    /// Whether this node announces another valor than the configured one.
    pub fn is_ranked(&self) -> bool {
        self.nopreempt || self.preempt_delay.is_some() || !self.checks.is_empty() || self.drain_file.is_some()
    }
}

/// The options of one Legion, as they were read.
pub struct OfLegion {
    /// The Legion's name, which may be wrong.
    pub legion: String,
    pub options: LegionOptions,
    /// The names of its options, each once, in order.
    pub given: Vec<&'static str>,
    /// What keeps one of them from working, each with the option's name.
    pub problems: Vec<String>,
    /// What works, but perhaps not as intended.
    pub doubts: Vec<String>,
    /// The option and its value, of those that may be given once.
    seen: Vec<(&'static str, Vec<u8>)>,
}

impl OfLegion {
    /// The first of its options that ranks a node.
    pub fn ranked_by(&self) -> Option<&'static str> {
        self.given.iter().copied().find(|option| RANKING.contains(option))
    }
}

/// Reads all lines: each the name of an option, and its value as it was written.
pub fn read_legion_options(lines: &[(String, Vec<u8>)]) -> Vec<OfLegion> {
    let mut all: Vec<OfLegion> = Vec::new();
    for (option, value) in lines {
        let Some(option) = LEGION_OPTIONS.into_iter().find(|known| known == option) else { continue };
        let value = value.trim_ascii();
        let blank = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
        let (legion, rest) = value.split_at(blank);
        let (legion, rest) = (String::from_utf8_lossy(legion).into_owned(), rest.trim_ascii());
        let at = all.iter().position(|known| known.legion == legion).unwrap_or_else(|| {
            all.push(OfLegion {
                legion,
                options: LegionOptions::default(),
                given: Vec::new(),
                problems: Vec::new(),
                doubts: Vec::new(),
                seen: Vec::new(),
            });
            all.len() - 1
        });
        all[at].read(option, rest);
    }
    all.iter_mut().for_each(OfLegion::doubt);
    all
}

impl OfLegion {
    fn read(&mut self, option: &'static str, value: &[u8]) {
        if !self.given.contains(&option) {
            self.given.push(option);
        }
        if option != CHECK {
            match self.seen.iter().find(|(known, _)| *known == option) {
                Some((_, same)) if same == value => return,
                Some(_) => return self.problem(option, "given twice with different values: keep one"),
                None => self.seen.push((option, value.to_vec())),
            }
        }
        let options = &mut self.options;
        let result = match option {
            NOPREEMPT => flag(value).map(|()| options.nopreempt = true),
            SILENT_STOP => flag(value).map(|()| options.silent_stop = true),
            PREEMPT_DELAY => seconds(value, LONGEST_DELAY).map(|delay| options.preempt_delay = Some(delay)),
            INTERVAL => seconds(value, LONGEST_INTERVAL).map(|interval| options.interval = interval),
            TIMEOUT => seconds(value, LONGEST_TIMEOUT).map(|timeout| options.timeout = timeout),
            FALL => number(value, "", MOST_IN_A_ROW).map(|fall| options.fall = fall),
            RISE => number(value, "", MOST_IN_A_ROW).map(|rise| options.rise = rise),
            DRAIN_FILE => file(value).map(|path| options.drain_file = Some(path)),
            _ => self.check(value),
        };
        if let Err(why) = result {
            self.problem(option, &why);
        }
    }

    fn check(&mut self, value: &[u8]) -> Result<(), String> {
        let check = Check::parse(value)?;
        if let Some(word) = is_for_a_shell(value) {
            let name = check.name();
            self.doubts.push(format!(
                "{CHECK}: {name} is run without a shell, so {word} is an argument like any other: put the command into \
                 a script, or quote it if it is meant so"
            ));
        }
        // The same check twice says nothing more.
        if !self.options.checks.contains(&check) {
            self.options.checks.push(check);
        }
        Ok(())
    }

    fn problem(&mut self, option: &str, why: &str) {
        let text = format!("{option}: {why}");
        if !self.problems.contains(&text) {
            self.problems.push(text);
        }
    }

    /// What only all of its options together tell.
    fn doubt(&mut self) {
        let (options, is_given) = (&self.options, |option| self.given.contains(&option));
        let mut doubts = Vec::new();
        for option in [INTERVAL, TIMEOUT, FALL, RISE].into_iter().filter(|option| is_given(option)) {
            if !is_given(CHECK) {
                doubts.push(format!("{option} is set, but there is no {CHECK}: nothing is checked"));
            }
        }
        if options.nopreempt && options.preempt_delay.is_some() {
            doubts.push(format!("{PREEMPT_DELAY} has no effect, because {NOPREEMPT} is set: keep one"));
        }
        if is_given(TIMEOUT) && is_given(CHECK) && options.timeout > options.interval {
            let (timeout, interval) = (options.timeout.as_secs(), options.interval.as_secs());
            doubts.push(format!(
                "{TIMEOUT} is {timeout} s and {INTERVAL} {interval} s: a check that hangs is repeated only every \
                 {timeout} s"
            ));
        }
        self.doubts.extend(doubts);
    }
}

fn flag(value: &[u8]) -> Result<(), String> {
    match value {
        [] => Ok(()),
        _ => Err(format!("{} is too much: expected only the name of the Legion", quoted(value))),
    }
}

fn seconds(value: &[u8], most: u32) -> Result<Duration, String> {
    number(value, " of seconds", most).map(|seconds| Duration::from_secs(seconds.into()))
}

fn number(value: &[u8], of: &str, most: u32) -> Result<u32, String> {
    let found = parsed::<u32>(value).filter(|number| (1..=most).contains(number));
    found.ok_or_else(|| {
        let what =
            if value.is_empty() { "the number is missing".into() } else { quoted(value) + " is not valid" };
        format!("{what}: expected a whole number{of} from 1 to {most}")
    })
}

fn file(value: &[u8]) -> Result<PathBuf, String> {
    const EXPECTED: &str = "expected the absolute path of a file";
    match value {
        [] => Err(format!("the path is missing: {EXPECTED}")),
        // uWSGI changes its directory.
        [b'/', ..] if value.ends_with(b"/") => Err(format!("{} is a folder: {EXPECTED}", quoted(value))),
        [b'/', ..] => Ok(PathBuf::from(OsStr::from_bytes(value))),
        _ => Err(format!("{} is relative: {EXPECTED}", quoted(value))),
    }
}

fn quoted(value: &[u8]) -> String {
    format!("\"{}\"", printable(&String::from_utf8_lossy(value), &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&str, &str)]) -> Vec<OfLegion> {
        let lines: Vec<_> =
            lines.iter().map(|(option, value)| (option.to_string(), value.as_bytes().to_vec())).collect();
        read_legion_options(&lines)
    }

    #[test]
    fn every_option_is_read_for_its_legion() {
        let all = read(&[
            ("legion-nopreempt", "one"),
            ("legion-check", "one http://127.0.0.1:8000/health"),
            ("legion-check", "one   tcp://db:5432 "),
            ("legion-check", "one tcp://db:5432"),
            ("legion-check-interval", "one 1"),
            ("legion-check-timeout", "one 1"),
            ("legion-check-fall", "one 4"),
            ("legion-check-rise", "one 1000"),
            ("legion-drain-file", "two /run/a file"),
            ("legion-silent-stop", " two "),
            ("legion-preempt-delay", "two\t86400"),
            ("legion-unheard-of", "two 1"),
        ]);
        let [one, two] = &all[..] else { panic!("two Legions") };
        assert_eq!((one.legion.as_str(), two.legion.as_str()), ("one", "two"));
        let check = |text: &str| Check::parse(text.as_bytes()).unwrap();
        let second = Duration::from_secs(1);
        let expected = LegionOptions {
            nopreempt: true,
            checks: vec![check("http://127.0.0.1:8000/health"), check("tcp://db:5432")],
            interval: second,
            timeout: second,
            fall: 4,
            rise: 1000,
            ..LegionOptions::default()
        };
        assert_eq!(one.options, expected);
        let expected = LegionOptions {
            preempt_delay: Some(second * 86400),
            drain_file: Some("/run/a file".into()),
            silent_stop: true,
            ..LegionOptions::default()
        };
        assert_eq!(two.options, expected);
        for of in [one, two] {
            assert_eq!((&of.problems[..], &of.doubts[..]), (&[][..], &[][..]), "{}", of.legion);
        }
    }

    #[test]
    fn what_is_out_of_range_is_a_problem_that_says_what_is_expected() {
        for (option, value, expected) in [
            ("legion-nopreempt", "x yes", "\"yes\" is too much: expected only the name of the Legion"),
            ("legion-silent-stop", "x 1", "\"1\" is too much"),
            (
                "legion-check-interval",
                "x",
                "the number is missing: expected a whole number of seconds from 1 to 3600",
            ),
            (
                "legion-check-interval",
                "x 0",
                "\"0\" is not valid: expected a whole number of seconds from 1 to 3600",
            ),
            ("legion-check-interval", "x 0.5", "\"0.5\" is not valid"),
            ("legion-check-interval", "x 3601", "\"3601\" is not valid"),
            ("legion-check-interval", "x 5 s", "\"5 s\" is not valid"),
            ("legion-check-timeout", "x 601", "expected a whole number of seconds from 1 to 600"),
            ("legion-check-timeout", "x -1", "\"-1\" is not valid"),
            ("legion-check-fall", "x 0", "expected a whole number from 1 to 1000"),
            ("legion-check-rise", "x 1001", "expected a whole number from 1 to 1000"),
            ("legion-check-rise", "x 99999999999999999999", "is not valid"),
            ("legion-preempt-delay", "x 86401", "expected a whole number of seconds from 1 to 86400"),
            ("legion-drain-file", "x", "the path is missing: expected the absolute path of a file"),
            ("legion-drain-file", "x run/drain", "\"run/drain\" is relative"),
            ("legion-drain-file", "x /run/", "\"/run/\" is a folder"),
            ("legion-check", "x", "what to check is missing"),
        ] {
            let all = read(&[(option, value)]);
            let [problem] = &all[0].problems[..] else { panic!("{option} = {value}: {:?}", all[0].problems) };
            assert!(problem.starts_with(&format!("{option}: ")), "{problem}");
            assert!(problem.contains(expected), "{option} = {value}: {problem}");
        }
    }

    #[test]
    fn an_option_may_be_repeated_but_not_with_another_value() {
        let all =
            read(&[("legion-check-fall", "x 2"), ("legion-check", "x /a"), ("legion-check-fall", "x  2")]);
        assert_eq!(all[0].problems, [""; 0]);
        let all =
            read(&[("legion-check-fall", "x 2"), ("legion-check-fall", "x 3"), ("legion-check-fall", "y 3")]);
        let expected = "legion-check-fall: given twice with different values: keep one";
        assert_eq!((&all[0].problems[..], &all[1].problems[..]), (&[expected.to_string()][..], &[][..]));
        assert_eq!(all[0].options.fall, 2);
    }

    #[test]
    fn what_may_not_be_meant_is_a_doubt() {
        for (lines, expected) in [
            (&[("legion-check-rise", "x 3")][..], "legion-check-rise is set, but there is no legion-check"),
            (
                &[("legion-nopreempt", "x"), ("legion-preempt-delay", "x 3")],
                "legion-preempt-delay has no effect, because legion-nopreempt is set",
            ),
            (
                &[("legion-check", "x /a"), ("legion-check-timeout", "x 6")],
                "legion-check-timeout is 6 s and legion-check-interval 5 s",
            ),
            (
                &[("legion-check", "x /bin/a -q >/dev/null")],
                "legion-check: /bin/a is run without a shell, so >/dev/null is an argument",
            ),
        ] {
            let all = read(lines);
            let [doubt] = &all[0].doubts[..] else { panic!("{lines:?}: {:?}", all[0].doubts) };
            assert!(doubt.starts_with(expected), "{doubt}");
        }
        let well = read(&[("legion-check", "x /a '>'"), ("legion-check-interval", "x 1")]);
        assert_eq!(well[0].doubts, [""; 0]);
    }

    #[test]
    fn four_options_rank_a_node() {
        for (line, is_ranked) in [
            (("legion-nopreempt", "x"), true),
            (("legion-preempt-delay", "x 1"), true),
            (("legion-check", "x /a"), true),
            (("legion-drain-file", "x /a"), true),
            (("legion-silent-stop", "x"), false),
            (("legion-check-fall", "x 1"), false),
        ] {
            let all = read(&[line]);
            assert_eq!(all[0].options.is_ranked(), is_ranked, "{line:?}");
            assert_eq!(all[0].ranked_by(), is_ranked.then_some(line.0));
        }
    }
}
