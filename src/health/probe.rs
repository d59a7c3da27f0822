//! Runs a check once.

use std::time::Duration;

use super::Went;
use crate::config::Check;
use crate::https::{Probe, seconds};
use crate::sys::{Ended, Runner};

/// What a check has come to.
pub struct Outcome {
    pub went: Went,
    /// What came back: one printable line without a secret.
    pub text: String,
}

impl Outcome {
    pub fn bug() -> Outcome {
        Outcome { went: Went::Unanswered, text: "a bug in uwsgi-hetzner".into() }
    }
}

/// Runs one check again and again.
pub struct Prober(Kind);

enum Kind {
    Http(ureq::http::Uri, Probe),
    Tcp(Probe),
    Command(Runner),
}

impl Prober {
    pub fn new(check: &Check) -> Prober {
        Prober(match check {
            Check::Http(url) => Kind::Http(url.clone(), Probe::of_url(url)),
            Check::Tcp { host, port } if host.contains(':') => {
                Kind::Tcp(Probe::of(&format!("[{host}]:{port}")))
            }
            Check::Tcp { host, port } => Kind::Tcp(Probe::of(&format!("{host}:{port}"))),
            Check::Command(words) => Kind::Command(Runner::new(words.clone())),
        })
    }

    /// Runs the check, which takes no longer than `timeout`. `None` if this process is about to end.
    pub fn run(&mut self, timeout: Duration) -> Option<Outcome> {
        let (went, text) = match &mut self.0 {
            Kind::Http(url, probe) => match probe.get(url, timeout) {
                Ok(status @ 200..400) => (Went::Passed, format!("HTTP {status}")),
                Ok(status) => (Went::Failed, format!("HTTP {status}")),
                Err((why, true)) => (Went::Failed, why),
                Err((why, false)) => (Went::Unanswered, why),
            },
            Kind::Tcp(probe) => match probe.connect(timeout) {
                Ok(()) => (Went::Passed, "connected".into()),
                Err(why) => (Went::Unanswered, why),
            },
            Kind::Command(runner) => match runner.run(timeout) {
                Ended::Exited(0) => (Went::Passed, "exit status 0".into()),
                Ended::Exited(status) => (Went::Failed, format!("exit status {status}")),
                Ended::NotRun(why) => (Went::Failed, format!("cannot be run: {why}")),
                Ended::Signalled(signal) => (Went::Unanswered, format!("died by signal {signal}")),
                Ended::TimedOut => {
                    (Went::Unanswered, format!("did not end within {} s, killed", seconds(timeout)))
                }
                Ended::NotStarted(why) => (Went::Unanswered, format!("no process could be started: {why}")),
                Ended::Stuck => (Went::Unanswered, "the one before still hangs, and cannot be killed".into()),
                Ended::Stopped => return None,
            },
        };
        Some(Outcome { went, text })
    }
}
