//! How much a hoster is asked at most, as data. What is `None` is not limited.

use std::time::Duration;

use crate::hosters::Request;

/// For one account.
#[derive(PartialEq, Eq, Debug)]
pub struct Limits {
    pub lock_out: Option<LockOut>,
    pub looks: Option<Looks>,
    pub switches: Option<Switches>,
    /// What a look, a switch and a release are called where they are sent.
    pub names: [&'static str; 3],
}

/// Rejected logins lock this server's address out.
#[derive(PartialEq, Eq, Debug)]
pub struct LockOut {
    /// So many do not yet.
    pub rejected: usize,
    pub time: Duration,
}

/// Releases do not count here.
#[derive(PartialEq, Eq, Debug)]
pub struct Looks {
    pub an_hour: usize,
    /// Of these, so that no check leaves a takeover blind.
    pub checks_an_hour: usize,
    /// Whether switches and releases use the same number up.
    pub are_all_requests: bool,
    /// Between two looks of takeovers, when those of the hour are used up.
    pub pause: Duration,
    /// Between two checks of one of so many IPs.
    pub check_pause: Duration,
    /// A single IP is checked as often as its `verify` says, so many times an hour; then once in this time.
    pub quick_checks: usize,
    pub slow_check: Duration,
}

/// Releases count as switches.
#[derive(PartialEq, Eq, Debug)]
pub struct Switches {
    pub an_hour: usize,
    /// Between two of one account, on average, when those of the hour are used up.
    pub pause: Duration,
    /// How long an IP that was put off keeps its turn: no guard waits longer before it asks again.
    pub turn: Duration,
    /// One IP's switches beyond the first of each election: so many at once, ...
    pub at_once: usize,
    /// ... then one after each of these pauses, in seconds, and then after the last of them again and again. A hoster that
    /// is well again soon is soon asked again.
    pub pauses: &'static [u64],
    /// After so long without one the next tries are first ones again.
    pub calm: Duration,
}

impl Limits {
    pub fn name(&self, request: Request) -> &'static str {
        self.names[request as usize]
    }

    /// The shortest time between two checks of one IP that so many of an account can keep up.
    pub fn shortest_check_pause(&self, ips: usize) -> Duration {
        let pause = self.looks.as_ref().map_or(Duration::ZERO, |looks| looks.check_pause);
        pause * u32::try_from(ips.max(1)).unwrap_or(u32::MAX)
    }
}
