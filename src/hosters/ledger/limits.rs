//! How often a hoster may be asked, as data.

use std::time::Duration;

/// The limits of one account.
pub struct Limits {
    pub lock_out: Option<LockOut>,
    pub looks_an_hour: usize,
    /// How many of them may be checks. The rest are left for takeovers, which would otherwise be blind.
    pub checks_an_hour: usize,
    /// Between two looks of takeovers when the looks of the hour are used up.
    pub look_pause: Duration,
    /// Between two checks of the same IP, if the account has one IP; with more IPs this many times longer.
    pub check_pause: Duration,
    /// A single IP is checked as often as its `verify` says, this many times an hour, ...
    pub quick_checks: usize,
    /// ... and then once in this time.
    pub slow_check: Duration,
    /// Of all IPs together. Releases count as switches.
    pub switches_an_hour: usize,
    /// The average time between two switches when those of the hour are used up.
    pub switch_pause: Duration,
    /// How long an IP that was put off keeps its turn. A guard asks again before this is over.
    pub turn: Duration,
    /// An IP's switches beyond the first of each election: this many at once, ...
    pub tries_at_once: usize,
    /// ... then one after each of these pauses, in seconds, with the last one repeated. They begin short, for a hoster that
    /// soon works again.
    pub try_pauses: &'static [u64],
    /// After this time without a try, the pauses start from the beginning.
    pub calm: Duration,
    /// Between two requests while the hoster refuses them, because of their number or because of the account.
    pub refused_pause: Duration,
    /// What the API calls each [`Request`](crate::hosters::Request): a look, a switch, a release. For the log.
    pub names: [&'static str; 3],
}

/// The hoster locks this server's address out after rejected logins.
pub struct LockOut {
    /// How many it accepts before.
    pub rejected: usize,
    pub time: Duration,
}

impl Limits {
    /// The shortest time between two checks of one IP, if the account has `ips` of them.
    pub fn shortest_check_pause(&self, ips: usize) -> Duration {
        self.check_pause * u32::try_from(ips.max(1)).unwrap_or(u32::MAX)
    }
}
