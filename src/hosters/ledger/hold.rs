//! Why a request is not sent now, until when, and the words for it.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Limits, LockOut, Looks, Switches};
use crate::hosters::{Failure, Kind, Request, Stage};

/// A request that may not be sent now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    pub why: Why,
    pub remaining: Duration,
    pub limits: &'static Limits,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Logins were rejected, and one more would lock this server's address out.
    LockedOut(&'static LockOut),
    /// The hoster refused the last request, whatever it was for.
    Refused,
    /// It wants no more of such requests for now.
    UsedUp(Request),
    /// Our own limits: of looks, ...
    Checks(&'static Looks),
    Looks(&'static Looks),
    /// ... of switches of one IP, ...
    Tries(&'static Switches),
    /// ... and of those of all.
    Switches(&'static Switches),
}

impl Hold {
    pub fn kind(&self) -> Kind {
        match self.why {
            Why::LockedOut(_) => Kind::Final,
            Why::Refused => Kind::Refused,
            _ => Kind::HeldBack,
        }
    }
}

impl Display for Hold {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = |request| self.limits.name(request);
        let (look, switch) = (name(Request::Look), name(Request::Switch));
        let minutes = |time: Duration| spelled(time.as_secs() / 60);
        match self.why {
            Why::LockedOut(LockOut { rejected, .. }) => {
                let next = ["first", "second", "third"].get(*rejected).unwrap_or(&"further one");
                let so_many = spelled(*rejected as u64);
                write!(f, "{so_many} logins were rejected, a {next} would lock this server's address out")
            }
            Why::Refused => f.write_str("the API refused the last request, so at most one a minute is sent"),
            Why::UsedUp(request) => {
                let what = name(request);
                write!(f, "the account's limit of {what} is used up, so at most one a minute is sent")
            }
            Why::Checks(Looks { checks_an_hour, .. }) => {
                write!(f, "{checks_an_hour} {look} were sent within an hour")
            }
            Why::Looks(Looks { an_hour, pause, .. }) => {
                let pause = minutes(*pause);
                write!(
                    f,
                    "{an_hour} {look} were sent within an hour, so at most one each {pause} minutes is sent"
                )
            }
            Why::Tries(Switches { at_once, .. }) => {
                let so_many = spelled(*at_once as u64);
                write!(f, "{so_many} {switch} brought nothing, so that the next ones are spread")
            }
            Why::Switches(Switches { an_hour, pause, .. }) => write!(
                f,
                "{an_hour} {switch} were sent within an hour, so at most two each {} minutes are sent for all IPs",
                minutes(2 * *pause)
            ),
        }
    }
}

/// With the time until which it holds, which is the same text as long as it does.
impl From<Hold> for Failure {
    fn from(hold: Hold) -> Failure {
        let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + hold.remaining;
        let (hour, minute, second) =
            (until.as_secs() / 3600 % 24, until.as_secs() / 60 % 60, until.as_secs() % 60);
        let sentence = format!("held back until {hour:02}:{minute:02}:{second:02} UTC: {hold}");
        Failure::new(hold.kind(), Stage::Way, sentence)
    }
}

fn spelled(number: u64) -> String {
    let words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    words.get(number as usize).map_or_else(|| number.to_string(), ToString::to_string)
}
