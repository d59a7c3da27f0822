//! The seam between the takeover and whoever runs the network: all that another hoster has to provide.

use std::net::IpAddr;

/// Where a failover IP is routed; `None` is nowhere.
pub type Route = Option<IpAddr>;

/// One failover IP at one hoster.
pub trait Hoster {
    /// What is asked, for the log: `POST to HOST`.
    fn describe(&self) -> String;

    /// Routes the failover IP to `target`, blocking until the hoster has answered or a request's time is
    /// over. On success the text says what came back.
    fn route_to(&self, target: IpAddr) -> Result<String, Failure>;
}

/// Why the hoster's answer is no success, in one sentence for the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub sentence: String,
}

impl Failure {
    pub fn new(sentence: impl Into<String>) -> Failure {
        Failure { sentence: sentence.into() }
    }
}
