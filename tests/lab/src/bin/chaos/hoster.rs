//! Whose API a schedule is played with: the stand-in, what a node's hook is given, and what tells who has asked.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use lab::cloud::{self, Cloud, Token};
use lab::command::{self, Commanded};
use lab::hoster::{Hosted, floating_ips};
use lab::legion::address;
use lab::robot::{self, Failover, Limits, Robot};
use lab::standin::Request;
use lab::{PASSWORD, TOKEN, USERNAME};

use crate::plan::{LIES, Plan};
use crate::setting::promises;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Hoster {
    #[default]
    Robot,
    Cloud,
    /// Robot as a command asks it.
    Command,
}

/// How a node's hook says who it is.
pub struct Login {
    /// The password or token, or the whole text of the file that has it.
    pub secret: String,
    /// The key that it is given by, if it may stand in the ini; and the one that names its file.
    pub key: Option<&'static str>,
    pub file_key: &'static str,
}

/// How often a process may ask.
pub struct Limit {
    pub gets: usize,
    pub posts: usize,
    pub rejected: usize,
}

/// By its presence in a node's folder something is wrong with the node's command.
pub const TROUBLED: &str = "trouble";
/// In a node's folder: the command.
pub const COMMAND: &str = "move-ip";

/// What the Cloud says where Robot says what stands at the same place in [`LIES`].
const LIES_IN_THE_CLOUD: [&str; LIES.len()] = [
    "post error locked",
    "any error rate_limit_exceeded",
    "post fails",
    "post error conflict",
    "post after-switch fails",
    "any error maintenance",
    "any html 200",
    "any html 502",
    "get html 503",
    "get empty 200",
    "post html 200",
    "post error service_error",
    "post after-switch html 502",
    "post endless",
    "any refuse",
    "any close",
    "post after-switch endless",
    "get path=/actions/ close",
    "post lost-answer",
    "any error unavailable",
    "post after-switch reset",
];

impl Hoster {
    pub fn read(text: &str) -> Result<Hoster, String> {
        match text {
            "" | "robot" => Ok(Hoster::Robot),
            "cloud" => Ok(Hoster::Cloud),
            "command" => Ok(Hoster::Command),
            _ => Err(format!("HOSTER={text}: expected robot, cloud or command")),
        }
    }

    pub fn action(self) -> &'static str {
        match self {
            Hoster::Robot => Robot::ACTION,
            Hoster::Cloud => Cloud::ACTION,
            Hoster::Command => Commanded::ACTION,
        }
    }

    /// What its API says where Robot says this.
    pub fn lie(self, lie: &'static str) -> &'static str {
        let at = LIES.iter().position(|known| *known == lie).expect("one of these");
        match self {
            Hoster::Robot | Hoster::Command => lie,
            Hoster::Cloud => LIES_IN_THE_CLOUD[at],
        }
    }

    /// The stand-in, with every IP of a plan, and where nodes find it.
    pub fn start(self, plan: &Plan) -> (Box<dyn Hosted>, String) {
        let ips = promises(plan).into_iter().map(|promise| promise.ip);
        match self {
            Hoster::Robot | Hoster::Command => {
                let limits = if self == Hoster::Robot { Limits::default() } else { NO_LIMITS };
                let robot = robot(plan, ips.collect(), limits).expect("loopback has a free port");
                let origin = format!("http://{}", robot.addr());
                (Box::new(robot), origin)
            }
            Hoster::Cloud => {
                let cloud = Cloud::start(cloud::Config {
                    tokens: (1..=plan.nodes).map(|node| Token::new(node.to_string(), token(node))).collect(),
                    floating_ips: floating_ips(ips, None),
                    switch: plan.switch,
                    // Which of both is right is not documented.
                    early: plan.seed % 2 == 0,
                    ..cloud::Config::default()
                });
                let cloud = cloud.expect("loopback has a free port");
                let origin = format!("http://{}", cloud.addr());
                (Box::new(cloud), origin)
            }
        }
    }

    /// What a node logs in with. `origin` is where the API is, `folder` the node's.
    pub fn login(self, plan: &Plan, node: usize, origin: &str, folder: &Path) -> Login {
        let wrong = plan.wrong_login == Some(node);
        let password = || format!("{PASSWORD}{}", if wrong { "-AND-WRONG" } else { "" });
        match self {
            Hoster::Robot => Login { secret: password(), key: Some("password"), file_key: "password_file" },
            // No node has the number 0.
            Hoster::Cloud => {
                let secret = token(if wrong { 0 } else { node });
                Login { secret, key: Some("token"), file_key: "token_file" }
            }
            Hoster::Command => {
                // The command puts the IP behind it.
                let url = format!("{origin}{}", path(node, "")).trim_end_matches('/').to_string();
                let secret = command::environment(&url, &password(), &folder.join(TROUBLED));
                Login { secret, key: None, file_key: "env_file" }
            }
        }
    }

    /// The argument of a node's hook for these IPs, but for the keys of every hook.
    pub fn hook(self, node: usize, ips: &[IpAddr], origin: &str, login: &str, folder: &Path) -> String {
        let names = ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(";");
        match self {
            Hoster::Robot => {
                // uWSGI takes a single % in an ini for its own.
                let ip = if ips.len() > 1 { "{ip}" } else { names.as_str() };
                let url = format!("{origin}{}", path(node, ip)).replace('%', "%%");
                format!("username={USERNAME},{login},ip={names},active_ip={},url={url}", address(node))
            }
            Hoster::Cloud => {
                let server = Cloud::number(node);
                format!("{login},ip={names},server={server},url={origin}/v1")
            }
            Hoster::Command => {
                let command = folder.join(COMMAND);
                format!("command={},{login},ip={names},target={}", command.display(), address(node))
            }
        }
    }

    /// Who has asked, and for which IP.
    pub fn asked(self, plan: &Plan, request: &Request) -> Option<(usize, IpAddr)> {
        if self == Hoster::Cloud {
            return request.user.as_ref()?.parse().ok().zip(request.ip);
        }
        let nodes = 1..=plan.nodes;
        let all = nodes.flat_map(|node| promises(plan).into_iter().map(move |promise| (node, promise.ip)));
        all.into_iter().find(|(node, ip)| path(*node, &ip.to_string()) == request.path)
    }

    /// Whether it asks where an IP is, rather than how an action goes: there are more of these, and they are no look.
    pub fn is_look(self, request: &Request) -> bool {
        request.method == "GET" && !request.path.contains("/actions/")
    }

    /// What src/hosters/ledger allows one process in an hour, which is longer than a schedule: looks; POSTs for each IP, beside
    /// the first one of each election; and requests with a login that is rejected. Only Robot locks an address out for these;
    /// elsewhere each takeover may send one.
    pub fn limits(self) -> Limit {
        match self {
            Hoster::Robot => Limit { gets: 60, posts: 15, rejected: 2 },
            Hoster::Cloud => Limit { gets: 300, posts: 15, rejected: 30 },
            Hoster::Command => Limit { gets: 720, posts: 60, rejected: 30 },
        }
    }
}

/// How often a command may be called is no matter of its API's.
const NO_LIMITS: Limits =
    Limits { get: 100_000, post: 100_000, delete: 100_000, interval: Duration::from_secs(3600) };

/// Each node has one of its own, by which the journal tells who has asked.
fn token(node: usize) -> String {
    format!("{}{node:04}", &TOKEN[..TOKEN.len() - 4])
}

fn robot(plan: &Plan, all: Vec<IpAddr>, limits: Limits) -> std::io::Result<Robot> {
    let ips = u32::try_from(all.len()).expect("a few");
    Robot::start(robot::Config {
        login: Some(robot::Login::new(USERNAME, PASSWORD)),
        failover: all.into_iter().map(|ip| Failover::new(ip, None)).collect(),
        switch: plan.switch,
        // All nodes have one address here, so that one node's wrong logins would lock out the others.
        lockout: Duration::ZERO,
        // As `verify` is much shorter than anybody's, one IP uses up what an account may ask for.
        limits: Limits { get: limits.get * ips, post: limits.post * ips, ..limits },
        accept_multipart: plan.foreign,
        ..robot::Config::default()
    })
}

/// The path under which node N asks Robot for an IP. To the API they are all the same; a letter that is written as its code
/// tells in the journal who it was, which a GET does not say.
fn path(node: usize, ip: &str) -> String {
    let path = format!("/failover/{ip}");
    let (before, rest) = path.split_at(node);
    format!("{before}%{:02X}{}", rest.as_bytes()[0], &rest[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_can_tell_their_lies() {
        for (lie, in_the_cloud) in LIES.into_iter().zip(LIES_IN_THE_CLOUD) {
            lie.parse::<robot::Rule>().unwrap_or_else(|why| panic!("{lie}: {why}"));
            in_the_cloud.parse::<cloud::Rule>().unwrap_or_else(|why| panic!("{in_the_cloud}: {why}"));
        }
        assert_eq!(Hoster::Robot.lie("post reset"), "post reset");
        assert_eq!(Hoster::Command.lie("post reset"), "post reset");
        assert_eq!(Hoster::Cloud.lie("any html 502"), "any html 502");
        assert!(Hoster::read("aws").is_err());
    }
}
