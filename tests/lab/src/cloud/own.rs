//! Faults that only the Cloud API has, since only its switches are actions that go on when the request is answered.

use std::fmt;
use std::time::Duration;

use super::answer;
use crate::standin::{Answer, Dialect, Words, duration};

/// What becomes of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Own {
    /// It ends with this error.
    Fails(String),
    /// It never ends, and the IP is locked, until faults are cleared.
    Endless,
    /// It takes so long.
    Takes(Duration),
    /// The IP shows the new server while the action still runs.
    Early,
    /// What is said of it is no documented status.
    Status(String),
}

/// An error that an action of this kind has ended with.
const FAILS: &str = "action_failed";

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Own::Fails(code) => write!(f, "fails {code}"),
            Own::Endless => write!(f, "endless"),
            Own::Takes(time) => write!(f, "takes {time:?}"),
            Own::Early => write!(f, "early"),
            Own::Status(status) => write!(f, "status {status}"),
        }
    }
}

impl Dialect for Own {
    type Server = u64;

    const SERVER: &str = "a server's id";
    const FIELDS: [&str; 2] = ["floating IP", "server"];
    const OWN: &str = "          201, and of the action that begins:
            fails [CODE]        it ends with this error, and nothing is done (action_failed)
            endless             it never ends, nothing is done, and the IP is locked, until cleared
            takes TIME          it takes that long
            early               the IP shows the new server while it still runs
            status WORD         this is its status, in each answer about it that meets the rule
";
    const LOCKED: &str = "locked";

    fn error(name: &str) -> Option<Answer> {
        answer::find(name)
    }

    fn errors() -> String {
        answer::names()
    }

    fn truncated() -> &'static str {
        r#"{"floating_ip":{"id":4711,"name":"float"#
    }

    fn own(word: &str, words: &mut Words) -> Option<Result<Own, String>> {
        Some(match word {
            "fails" => words.optional(FAILS.to_owned(), |code| Ok(code.to_owned())).map(Own::Fails),
            "endless" => Ok(Own::Endless),
            "takes" => words.next("a time such as 10s").and_then(duration).map(Own::Takes),
            "early" => Ok(Own::Early),
            "status" => words.next("a status").map(|status| Own::Status(status.to_owned())),
            _ => return None,
        })
    }

    fn own_words() -> &'static str {
        "fails, endless, takes, early, status, "
    }
}
