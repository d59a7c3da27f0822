//! One failover IP of one hook: its takeover, the check of its route, its release, and what is logged about them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::GRACE;
use super::readiness::{self, Readiness};
use super::takeover::{Order, Setting, Verdict, is_here_still, take_over};
use crate::config::Common;
use crate::hosters::{About, Failure, Need, Place, Remote, Session};
use crate::metrics::{self, Metrics, count};
use crate::sys::lock;
use crate::uwsgi::{self, Election, Legion};

/// After how long a node that could send nothing leaves the IP to another node.
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

/// What is known of one failover IP in one Legion, whichever hooks name it. It lives as long as the process, because uWSGI
/// reads the metrics at any time.
#[derive(Default)]
pub struct Record {
    pub metrics: Metrics,
    pub readiness: Mutex<Readiness>,
    /// Whether a guard has to check soon, because the IP may have been taken over by another node.
    pub is_doubted: AtomicBool,
    /// Problems that last and were reported, by what is logged when they are over.
    troubles: Mutex<Vec<&'static str>>,
}

/// All records of this process: one for each IP in each Legion, because uWSGI would leak a metric that is registered again.
pub type Records = Mutex<Vec<Known>>;

pub struct Known {
    pub legion: Legion,
    identity: String,
    /// As it is written in the log.
    pub ip: String,
    pub record: &'static Record,
}

impl FailoverIp {
    pub fn new(
        legion: Legion,
        about: &'static About,
        common: &Arc<Common>,
        remote: Arc<dyn Remote>,
        records: &Records,
    ) -> FailoverIp {
        let mut all = lock(records);
        let identity = remote.identity();
        let is_it = |known: &&Known| known.legion == legion && known.identity == identity;
        let known = all.iter().find(is_it).map(|known| known.record);
        let record = known.unwrap_or_else(|| {
            let record = Box::leak(Box::default());
            all.push(Known { legion, identity, ip: remote.ip().into(), record });
            record
        });
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
        count(&self.record.metrics.alarms);
        if let Some(alarm) = &self.common.alarm {
            uwsgi::alarm(alarm, &format!("{}: {line}", self.legion.name()));
        }
    }

    /// Reports a problem that may last: one alarm, until [`FailoverIp::well`] says that `fine` is true again.
    pub fn trouble(&self, fine: &'static str, line: &str) {
        // Not under the lock, which uWSGI's main loop takes too: an alarm may be held up by a stuck log.
        let is_news = {
            let mut troubles = lock(&self.record.troubles);
            let is_news = !troubles.contains(&fine);
            troubles.extend(is_news.then_some(fine));
            is_news
        };
        if is_news {
            self.alarm(line);
        }
    }

    pub fn well(&self, fine: &'static str) {
        let mut troubles = lock(&self.record.troubles);
        if let Some(at) = troubles.iter().position(|known| *known == fine) {
            troubles.swap_remove(at);
            self.log(&format!("{fine} again"));
        }
    }

    /// Gets all that is needed to ask the hoster.
    fn open(&self) -> Result<Box<dyn Session + '_>, Failure> {
        let words = &self.about.words;
        let session = self.remote.open(&self.record.metrics)?;
        let Some(secret) = self.remote.secret() else { return Ok(session) };
        if let Some(why) = secret.news() {
            let (uid, _) = uwsgi::user();
            let line = format!(
                "{why}, as uid {uid}: using the {0} that was read before; until the file can be read again, a new {0} needs a \
                 restart",
                words.secret
            );
            self.trouble(words.file_is_fine, &line);
        } else if !secret.is_kept() {
            self.well(words.file_is_fine);
        }
        Ok(session)
    }

    /// Takes the IP over, as long as `goes_on` says so. In an `election` another node may be there to try instead.
    pub fn take_over(&self, need: Need, election: Option<&Election>, goes_on: &dyn Fn() -> bool) -> Verdict {
        let deadline = self.common.deadline;
        let metrics = &self.record.metrics;
        let scene = Scene { ip: self, began: Instant::now(), election, goes_on };
        count(&metrics.takeovers);
        lock(&self.record.readiness).set_busy(deadline + GRACE);
        let verdict = take_over(&Order { ip: self.name(), pace: &self.about.pace, deadline, need }, &scene);
        let milliseconds = i64::try_from(scene.elapsed().as_millis()).unwrap_or(i64::MAX);
        metrics.last_takeover_ms.store(milliseconds, Ordering::Relaxed);
        lock(&self.record.readiness).set_idle(matches!(verdict, Verdict::Failed(_)));
        match &verdict {
            Verdict::Here => {
                metrics::set(&metrics.route, Some(true));
                readiness::record(self, None);
            }
            Verdict::Failed(line) => {
                count(&metrics.takeover_failures);
                self.alarm(line);
            }
            Verdict::Dropped => {}
        }
        verdict
    }

    /// Whether the IP is here still, for a node that had it before a reload.
    pub fn is_here_still(&self, limit: Duration, was_here: bool) -> bool {
        let scene = Scene { ip: self, began: Instant::now(), election: None, goes_on: &|| true };
        let limit = limit.min(self.common.timeout);
        let (is_here, found) = is_here_still(self.name(), &scene, limit, was_here);
        readiness::record(self, found.as_ref().err());
        metrics::set(&self.record.metrics.route, found.ok().map(|place| place.is_here()));
        is_here
    }

    /// What it is and where it should be, for the image of uWSGI that this one is reloaded into.
    pub fn claim(&self) -> String {
        format!("{} {}", self.remote.identity(), self.remote.target().unwrap_or_default())
    }

    /// Where the IP is now, for a check.
    pub fn whereabouts(&self) -> Result<Place, Failure> {
        let found = self.open().and_then(|session| session.whereabouts(Need::Check, self.common.timeout));
        readiness::record(self, found.as_ref().err());
        metrics::set(&self.record.metrics.route, found.as_ref().ok().map(Place::is_here));
        found
    }

    /// Deletes the route if it points here, and only then, or takes what is of this host away from it; each request takes at
    /// most `limit`. Returns where the IP was.
    pub fn release(&self, limit: Duration) -> Result<Place, Failure> {
        let ip = self.name();
        let session = self.open()?;
        // Before the look, which may find nothing to release yet.
        session.end_switch(limit);
        let found = match session.whereabouts(Need::Takeover, limit) {
            Ok(found) if !found.is_here() => {
                self.log(&format!("{ip} is {}: nothing to release", found.and_not_here()));
                return Ok(found);
            }
            // What is of this host is here unless it is known not to be.
            Err(_) if self.remote.is_of_this_host() => Place::Here(session.target().into()),
            found => found?,
        };
        match session.release(limit)? {
            Place::Nowhere => self.log(&format!("{ip} is routed nowhere now: released")),
            Place::NotHere => self.log(&format!("{ip} is not here any more: released")),
            place => self.log(&format!("{ip} is {place} after its release")),
        }
        metrics::set(&self.record.metrics.route, Some(false));
        Ok(found)
    }
}

/// A takeover's setting in real time.
struct Scene<'a> {
    ip: &'a FailoverIp,
    began: Instant,
    election: Option<&'a Election>,
    goes_on: &'a dyn Fn() -> bool,
}

impl Setting for Scene<'_> {
    fn open(&self) -> Result<Box<dyn Session + '_>, Failure> {
        self.ip.open()
    }

    fn log(&self, line: &str) {
        self.ip.log(line);
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }

    fn goes_on(&self) -> bool {
        !uwsgi::is_ending() && (self.goes_on)()
    }

    fn hand_over_after(&self) -> Option<Duration> {
        // Only a node that suspends itself after a failure makes room for another one.
        let may_hand_over =
            || uwsgi::death_on_lord_error() && self.election.is_some_and(Election::has_company);
        may_hand_over().then_some(HAND_OVER_AFTER)
    }
}
