//! One failover IP of one hook of one Legion: its takeover, a look at where it is, its release, and what is said of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::GRACE;
use super::readiness;
use super::record::{Record, Records};
use super::takeover::{Order, Setting, Verdict, take_over};
use crate::config::Common;
use crate::hosters::{About, Failure, Need, Place, Remote, Session};
use crate::metrics::count;
use crate::uwsgi::{self, Legion};

/// After how long a node that can send nothing leaves the IP to the others that are there.
const HAND_OVER_AFTER: Duration = Duration::from_secs(25);

#[derive(Clone)]
pub struct FailoverIp {
    pub legion: Legion,
    pub about: &'static About,
    /// What its hook says for all its IPs.
    pub common: Arc<Common>,
    pub remote: Arc<dyn Remote>,
    pub record: &'static Record,
}

/// Whether a takeover is still wanted.
pub trait Wanted {
    /// Asked before each step.
    fn goes_on(&self) -> bool;

    /// Whether another node is there that could try.
    fn has_company(&self) -> bool {
        false
    }
}

impl<F: Fn() -> bool> Wanted for F {
    fn goes_on(&self) -> bool {
        self()
    }
}

impl FailoverIp {
    pub fn new(
        legion: Legion,
        about: &'static About,
        common: &Arc<Common>,
        remote: Arc<dyn Remote>,
        records: &Records,
    ) -> FailoverIp {
        let record = records.of(legion, remote.ip());
        FailoverIp { legion, about, common: Arc::clone(common), remote, record }
    }

    /// As it is written in the log.
    pub fn name(&self) -> &str {
        self.remote.ip()
    }

    pub fn log(&self, line: &str) {
        uwsgi::log(&format!("{}: {line}", self.legion.name()));
    }

    /// Logs the line, and triggers the hook's alarm with it.
    pub fn alarm(&self, line: &str) {
        self.log(line);
        self.record.note_alarm(line);
        if let Some(alarm) = &self.common.alarm {
            uwsgi::alarm(alarm, &format!("{}: {line}", self.legion.name()));
        }
    }

    /// Something is wrong that may last: an alarm once, until it is [`FailoverIp::well`].
    pub fn trouble(&self, what: &'static str, line: &str) {
        if self.record.set_trouble(what, true) {
            self.alarm(line);
        }
    }

    /// That is mended, if it was wrong.
    pub fn well(&self, what: &'static str) {
        if self.record.set_trouble(what, false) {
            self.log(&format!("there is {what} again"));
        }
    }

    /// Gets all that is needed to ask the hoster.
    fn open(&self) -> Result<Box<dyn Session + '_>, Failure> {
        const WHAT: &str = "a password file that can be read";
        let session = self.remote.open(&self.record.metrics)?;
        let secret = self.remote.secret();
        if let Some(why) = secret.news() {
            let (uid, _) = uwsgi::user();
            let line = format!(
                "{why}, as uid {uid}: using what was read before; until it can be read again, a new password needs a \
                 restart"
            );
            self.trouble(WHAT, &line);
        } else if !secret.is_kept() {
            self.well(WHAT);
        }
        Ok(session)
    }

    /// An ordinary takeover, as long as it is `wanted`.
    pub fn take_over(&self, need: Need, wanted: &dyn Wanted) -> Verdict {
        let deadline = self.common.deadline;
        let began = Instant::now();
        let (metrics, readiness) = (&self.record.metrics, &self.record.readiness);
        count(&metrics.takeovers);
        readiness.set_busy(deadline + GRACE);
        // Only a node that suspends itself then makes room for another one.
        let may_hand_over = need == Need::Election && uwsgi::death_on_lord_error();
        let hand_over_after = may_hand_over.then_some(HAND_OVER_AFTER);
        let order = Order { ip: self.name(), pace: &self.about.pace, deadline, need, hand_over_after };
        let verdict = take_over(&|| self.open(), &order, &Scene { ip: self, began, wanted });
        let milliseconds = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        metrics.last_takeover_ms.store(milliseconds, Ordering::Relaxed);
        readiness.set_idle(matches!(verdict, Verdict::Failed { .. }));
        match verdict {
            Verdict::Here => {
                metrics.set_route(Some(true));
                readiness::record(self, None);
            }
            Verdict::Failed { .. } => count(&metrics.takeover_failures),
            Verdict::Dropped => {}
        }
        verdict
    }

    /// Where the IP is now, for a check.
    pub fn whereabouts(&self) -> Result<Place, Failure> {
        let found = self.open().and_then(|session| session.whereabouts(Need::Check, self.common.timeout));
        readiness::record(self, found.as_ref().err());
        self.record.metrics.set_route(found.as_ref().ok().map(Place::is_here));
        found
    }

    /// Deletes the route if it is here, and only then; each request takes at most `limit`. Returns where it was found, or
    /// what went wrong.
    pub fn release(&self, limit: Duration) -> Result<Place, Failure> {
        let ip = self.name();
        let session = self.open()?;
        let found = session.whereabouts(Need::Takeover, limit)?;
        if !found.is_here() {
            self.log(&format!("{ip} is {found}, not here: nothing to release"));
            return Ok(found);
        }
        match session.release(limit)? {
            Place::Nowhere => self.log(&format!("{ip} is routed nowhere now: released")),
            place => self.log(&format!("{ip} is {place} after its release")),
        }
        self.record.metrics.set_route(Some(false));
        Ok(found)
    }
}

/// A takeover's setting in real time.
struct Scene<'a> {
    ip: &'a FailoverIp,
    began: Instant,
    wanted: &'a dyn Wanted,
}

impl Setting for Scene<'_> {
    fn log(&self, line: &str) {
        self.ip.log(line);
    }

    fn alarm(&self, line: &str) {
        self.ip.alarm(line);
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }

    fn goes_on(&self) -> bool {
        !uwsgi::is_ending() && self.wanted.goes_on()
    }

    fn has_company(&self) -> bool {
        self.wanted.has_company()
    }
}
