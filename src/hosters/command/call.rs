//! Calls a command for one IP, and says what its exit status means.

use std::ffi::CString;
use std::time::{Duration, Instant};

use super::Address;
use super::environment::Variables;
use super::options::Agent;
use crate::hosters::ledger::Outcome;
use crate::hosters::{Failure, Kind, Need, Place, Request, Session, Stage};
use crate::https::seconds;
use crate::metrics::{Metrics, count};
use crate::sys::{Call, Ended, KEPT};
use crate::text::printable;

/// A `monitor` moves nothing, so it needs less time than a `start`.
const LONGEST_MONITOR: Duration = Duration::from_secs(20);
/// How much of a command's output stands in the log, in characters: the end.
const SHOWN: usize = 200;

const DONE: i32 = 0;
const NOT_HERE: i32 = 7;
/// EX_UNAVAILABLE in sysexits.h.
const UNAVAILABLE: i32 = 69;
/// EX_TEMPFAIL in sysexits.h.
const BUSY: i32 = 75;

/// An IP, for one takeover or one check.
pub struct Calling<'a> {
    pub of: &'a Address,
    pub variables: Variables,
    pub metrics: &'static Metrics,
}

impl Calling<'_> {
    /// Calls the command, if the ledger allows it; returns its exit status and a text for the log.
    fn call(
        &self,
        request: Request,
        need: Need,
        limit: Duration,
        begin: &dyn Fn(),
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(i32, String), Failure> {
        let verb = verb(request);
        let (ledger, question) = (&self.of.shared.ledger, self.of.question(request, need));
        let slot = ledger.admit(&question, self.metrics)?;
        let limit = limit.min(self.of.common.timeout);
        let run = |limit: Duration, goes_on: &dyn Fn() -> bool| {
            begin();
            count(&self.metrics.requests);
            let (words, environment) = (self.words(verb), self.variables.with(&self.about(verb)));
            let (ended, output) = Call { words: &words, environment: &environment }.run(limit, goes_on);
            self.read(verb, ended, &output, limit)
        };
        let result = match request {
            Request::Look => Some(run(limit, goes_on)),
            Request::Switch => self.of.line().start(limit, goes_on, run),
            Request::Release => self.of.line().stop(limit, |limit| run(limit, goes_on)),
        };
        let result = result.unwrap_or_else(|| {
            Err(Failure::not_sent(format!(
                "{verb} was not called, because another call for this IP did not end"
            )))
        });
        let is_expected = |status: i32| status == DONE || status == NOT_HERE && request == Request::Look;
        let result = match result {
            Ok((status, text)) if !is_expected(status) => Err(failure(verb, status, &text)),
            other => other,
        };
        let outcome = match result.as_ref().map_err(|failure| failure.kind) {
            Ok(_) => Outcome::Done,
            Err(Kind::NotSent) => Outcome::NotSent,
            Err(_) => Outcome::Other,
        };
        ledger.learn(&question, slot, outcome);
        result.inspect_err(|_| count(&self.metrics.api_errors))
    }

    fn words(&self, verb: &str) -> Vec<CString> {
        let options = &self.of.options;
        options.program.words(verb, [&options.ip, &options.target, &self.of.legion])
    }

    /// The variables that say what the call is about.
    pub fn about(&self, verb: &str) -> Vec<(String, Vec<u8>)> {
        let options = &self.of.options;
        let mut about = vec![
            ("FAILOVER_ACTION", verb),
            ("FAILOVER_IP", &options.ip),
            ("FAILOVER_TARGET", &options.target),
            ("FAILOVER_LEGION", &self.of.legion),
            ("OCF_RESKEY_ip", &options.ip),
        ];
        let instance = format!("{}_{}", self.of.legion, options.ip);
        let agent = options.program.agent.as_ref();
        if let Some(Agent { provider, name, .. }) = agent {
            about.extend([
                ("OCF_ROOT", "/usr/lib/ocf"),
                ("OCF_RA_VERSION_MAJOR", "1"),
                ("OCF_RA_VERSION_MINOR", "0"),
                ("OCF_RESOURCE_PROVIDER", provider),
                ("OCF_RESOURCE_TYPE", name),
                ("OCF_RESOURCE_INSTANCE", &instance),
            ]);
        }
        let about = about.into_iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        let parameters = agent.into_iter().flat_map(|agent| agent.parameters.clone());
        about.chain(parameters.map(|(name, value)| (format!("OCF_RESKEY_{name}"), value))).collect()
    }

    /// The exit status, and what to say of it; or why there is none.
    fn read(
        &self,
        verb: &str,
        ended: Ended,
        output: &[u8],
        limit: Duration,
    ) -> Result<(i32, String), Failure> {
        let said = self.shown(output);
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let path = self.of.options.program.path.display();
        let unknown = |sentence: String| Err(Failure::new(Kind::Unknown, Stage::Host, sentence));
        match ended {
            Ended::Exited(status) => Ok((status, format!("exit status {status}{}{said}", meaning(status)))),
            Ended::Signalled(signal) => unknown(format!("{verb} was killed by signal {signal}{said}")),
            Ended::TimedOut => unknown(format!("{verb} was killed after {} s{said}", seconds(limit))),
            Ended::Stopped => unknown(format!(
                "{verb} was killed, because uWSGI ends or reloads, or this node is not to have the IP any more{said}"
            )),
            Ended::NotRun(error) => {
                // The kernel says the same of a program that is not there.
                let is_script =
                    error.raw_os_error() == Some(libc::ENOENT) && self.of.options.program.path.exists();
                let hint = match error.raw_os_error() {
                    _ if is_script => {
                        ": check its first line, #! with an interpreter that is there, and no CR at its end"
                    }
                    Some(libc::ENOEXEC) => ": check its first line, #! with an interpreter",
                    _ => "",
                };
                Err(Failure::not_sent(format!("{path} cannot be run: {error}{hint}")))
            }
            Ended::NotStarted(error) => {
                let hint = match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::ENOMEM) => "the system has no process or no memory left",
                    Some(libc::ENOENT | libc::EACCES | libc::EPERM) => "/dev/null cannot be opened",
                    _ => "a system call has failed",
                };
                Err(Failure::not_sent(format!("{path} was not started: {hint} ({error})")))
            }
            Ended::Stuck => Err(Failure::not_sent(format!(
                "{path} was not started: too many earlier calls have left programs that have not ended"
            ))),
        }
    }

    /// The end of the output in one line, without secrets.
    fn shown(&self, output: &[u8]) -> String {
        let options = &self.of.options;
        let secrets = self.variables.secrets(&[&options.ip, &options.target]);
        let text = String::from_utf8_lossy(output);
        let is_cut = output.len() >= KEPT;
        let mut text = if is_cut { without_rest(&text, &secrets) } else { &text }.to_string();
        for secret in &secrets {
            text = text.replace(secret, "***");
        }
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let line = lines.join(" / ");
        let skipped = line.chars().count().saturating_sub(SHOWN);
        printable(&line.chars().skip(skipped).collect::<String>(), &[])
    }

    fn whereabouts_within(&self, need: Need, limit: Duration) -> Result<Place, Failure> {
        let (status, _) = self.call(Request::Look, need, limit.min(LONGEST_MONITOR), &|| (), &|| true)?;
        Ok(if status == DONE { Place::Here(self.of.target_name().into()) } else { Place::NotHere })
    }
}

impl Session for Calling<'_> {
    fn target(&self) -> &str {
        self.of.target_name()
    }

    fn describe(&self) -> String {
        let (path, timeout) = (self.of.options.program.path.display(), seconds(self.of.common.timeout));
        format!("{path} start, at most {timeout} s")
    }

    fn bring_here(
        &self,
        need: Need,
        limit: Duration,
        begin: &dyn Fn(),
        goes_on: &dyn Fn() -> bool,
    ) -> Result<String, Failure> {
        self.call(Request::Switch, need, limit, begin, goes_on).map(|(_, text)| text)
    }

    fn end_switch(&self, limit: Duration) {
        // If it cannot be ended, what follows says so.
        let _ = self.of.line().stop(limit, |_| ());
    }

    fn whereabouts(&self, need: Need, limit: Duration) -> Result<Place, Failure> {
        self.whereabouts_within(need, limit)
    }

    fn release(&self, limit: Duration) -> Result<Place, Failure> {
        let end = Instant::now() + limit;
        let (_, text) = self.call(Request::Release, Need::Takeover, limit, &|| (), &|| true)?;
        // This last look has some time in any case.
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(5));
        match self.whereabouts_within(Need::Takeover, left)? {
            Place::Here(_) => {
                let sentence = format!("stop: {text}, but monitor finds it still here");
                Err(Failure::new(Kind::NotDone, Stage::Host, sentence))
            }
            place => Ok(place),
        }
    }
}

/// A text that was cut at its beginning, without what is left of a secret there.
fn without_rest<'a>(text: &'a str, secrets: &[String]) -> &'a str {
    // Nor what is left of a letter.
    let text = text.trim_start_matches(char::REPLACEMENT_CHARACTER);
    let rest = |secret: &String| {
        let mut ends = secret.char_indices().map(|(at, _)| &secret[at..]);
        ends.find(|end| text.starts_with(end)).map_or(0, str::len)
    };
    &text[secrets.iter().map(rest).max().unwrap_or(0)..]
}

fn verb(request: Request) -> &'static str {
    match request {
        Request::Look => "monitor",
        Request::Switch => "start",
        Request::Release => "stop",
    }
}

/// What an exit status means that is no success (OCF Resource Agent API, "Return codes"; sysexits.h).
fn meaning(status: i32) -> &'static str {
    match status {
        1 => " (failed)",
        2 => " (wrong arguments)",
        3 => " (not implemented)",
        4 => " (not permitted)",
        5 => " (something is not installed)",
        6 => " (not configured)",
        NOT_HERE => " (not here)",
        UNAVAILABLE => " (nobody could be asked)",
        BUSY => " (busy)",
        126 => " (a program that it calls cannot be run)",
        127 => " (a program that it calls is missing)",
        _ => "",
    }
}

fn failure(verb: &str, status: i32, text: &str) -> Failure {
    let kind = match status {
        2..=6 => Kind::Final,
        UNAVAILABLE => return Failure::not_sent(format!("{verb}: {text}")),
        BUSY => Kind::Locked,
        _ => Kind::Unknown,
    };
    Failure::new(kind, Stage::Host, format!("{verb}: {text}"))
}
