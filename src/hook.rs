//! What a lord hook does: a takeover in a thread of its own, while the Legion is kept informed, and a guard that
//! watches over the route from then on.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::guard;
use crate::host::{self, Legion};
use crate::hoster::Need;
use crate::options::Options;
use crate::robot::Robot;
use crate::takeover::{Order, Setting, Verdict, take_over};

/// One hook of one Legion, as it stands in the configuration.
pub struct Hook {
    pub legion: Legion,
    pub options: Options,
}

impl Hook {
    /// The hook of `legion` with its `argument`; `None`, with each problem in the log, where that is wrong.
    pub fn parse(legion: Legion, argument: &[u8]) -> Option<Hook> {
        match Options::parse(argument) {
            Ok(options) => Some(Hook { legion, options }),
            Err(problems) => {
                for problem in problems {
                    log(legion, &format!("nothing is sent, the hook's configuration is wrong: {problem}"));
                }
                None
            }
        }
    }

    pub fn log(&self, line: &str) {
        log(self.legion, line);
    }

    /// An ordinary takeover; before each step `goes_on` is asked.
    pub fn take_over(&self, need: Need, goes_on: &dyn Fn() -> bool) -> Verdict {
        let Options { ip, active_ip, deadline, .. } = self.options;
        let order = Order { ip, target: active_ip, deadline, need };
        take_over(&Robot::new(&self.options), &order, &Scene { hook: self, began: Instant::now(), goes_on })
    }
}

fn log(legion: Legion, line: &str) {
    host::log(&format!("{}: {line}", legion.name()));
}

/// A takeover's setting in real time.
struct Scene<'a> {
    hook: &'a Hook,
    began: Instant,
    goes_on: &'a dyn Fn() -> bool,
}

impl Setting for Scene<'_> {
    fn log(&self, line: &str) {
        self.hook.log(line);
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }

    fn goes_on(&self) -> bool {
        !host::is_ending() && (self.goes_on)()
    }
}

/// Runs a lord hook; returns whether the failover IP is here now. Called by uWSGI in the Legion's thread.
pub fn run(legion: Legion, argument: &[u8]) -> bool {
    let Some(hook) = Hook::parse(legion, argument) else { return false };
    let guard = guard::of(hook, argument);
    let hook = Arc::clone(&guard.hook);
    let verdict = host::wait_for(move || hook.take_over(Need::Election, &|| true));
    let here = verdict == Some(Verdict::Here);
    guard.set_failed(!here);
    here
}
