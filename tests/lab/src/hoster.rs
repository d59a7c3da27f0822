//! The stand-ins, as whoever plays with nodes sees them: each knows a server by the number of its node.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cloud::{self, Cloud, FloatingIp};
use crate::exoscale::{self, Exoscale, Vm};
use crate::legion::{address, failover_ip, target};
use crate::ovh::{self, Ovh, Service};
use crate::robot::{self, Failover, Robot};
use crate::script;
use crate::standin::{Api, Request, ServerOf, StandIn};
use crate::uwsgi::checkout;
use crate::{PASSWORD, TOKEN, USERNAME};

/// Nodes are numbered from 1, and there are fewer.
const MOST_NODES: usize = 99;
/// In the Cloud node N's server has this id, and N more.
const FIRST_SERVER: u64 = 100;
/// The id of the first floating IP; the next ones count on.
const FIRST_ID: u64 = 4711;

/// A stand-in that nodes are to ask.
pub trait Hosted: Send + Sync {
    /// Legion's action that takes an IP over.
    fn action(&self) -> &'static str;
    /// The argument of node N's hook for an IP.
    fn hook(&self, node: usize, ip: IpAddr, more: &str) -> String;
    /// As a POST names the server of node N.
    fn target_of(&self, node: usize) -> String;
    /// As the plugin's log names it.
    fn server_name(&self, node: usize) -> String;
    /// What the plugin's log says of an IP that is at node N and not where it should be.
    fn routed_to(&self, node: usize) -> String {
        format!("routed to {}", self.server_name(node))
    }
    /// The node that the IP is routed to.
    fn node_at(&self, ip: IpAddr) -> Option<usize>;
    /// Moved by hand, at once.
    fn move_to(&self, ip: IpAddr, node: Option<usize>);
    fn is_switching(&self, ip: IpAddr) -> bool;
    fn set_switch(&self, time: Duration);
    /// Adds a fault, as it is written.
    fn rule(&self, rule: &str);
    fn clear_faults(&self);
    fn journal(&self) -> Vec<Request>;
    /// Each change of a route.
    fn moves(&self) -> Vec<(Instant, IpAddr, Option<usize>)>;
}

/// What differs from one to the other.
pub trait Numbered: Api {
    const ACTION: &'static str;
    /// What the plugin's log says before a server.
    const BEFORE: &'static str;

    fn server(node: usize) -> ServerOf<Self>;
    fn argument(stand_in: &StandIn<Self>, node: usize, ip: IpAddr) -> String;
}

impl Numbered for robot::Account {
    const ACTION: &'static str = "hetzner-failoverip";
    const BEFORE: &'static str = "";

    fn server(node: usize) -> IpAddr {
        target(node)
    }

    fn argument(robot: &Robot, node: usize, ip: IpAddr) -> String {
        let (active_ip, url) = (address(node), robot.url(ip));
        format!("username={USERNAME},password={PASSWORD},ip={ip},active_ip={active_ip},url={url}")
    }
}

impl Numbered for cloud::Account {
    const ACTION: &'static str = "hetzner-floatingip";
    const BEFORE: &'static str = "server ";

    fn server(node: usize) -> u64 {
        FIRST_SERVER + node as u64
    }

    fn argument(cloud: &Cloud, node: usize, ip: IpAddr) -> String {
        format!("token={TOKEN},ip={ip},server={},url={}", Self::server(node), cloud.url())
    }
}

impl Numbered for exoscale::Account {
    const ACTION: &'static str = "failover-command";
    const BEFORE: &'static str = "";

    fn server(node: usize) -> Vm {
        Vm(node)
    }

    fn argument(exoscale: &Exoscale, node: usize, ip: IpAddr) -> String {
        example("exoscale-eip", ip, &Vm(node).to_string(), exoscale.ca_file(), &exoscale.environment())
    }
}

impl Numbered for ovh::Account {
    const ACTION: &'static str = "failover-command";
    const BEFORE: &'static str = "";

    fn server(node: usize) -> Service {
        Service(node)
    }

    fn argument(ovh: &Ovh, node: usize, ip: IpAddr) -> String {
        example("ovh-ip", ip, &Service(node).to_string(), ovh.ca_file(), &ovh.environment())
    }
}

/// The argument of a hook that calls a command of examples/. What it reads its environment from is beside the CA's file.
fn example(
    name: &str,
    ip: IpAddr,
    target: &str,
    ca_file: Option<&Path>,
    environment: &[(String, String)],
) -> String {
    let env_file = ca_file.expect("it speaks TLS").with_file_name("env_file");
    script::write_env_file(&env_file, environment);
    let command = checkout().join("examples").join(name);
    format!("command={},ip={ip},target={target},env_file={}", command.display(), env_file.display())
}

/// The node whose server this is.
fn node_of<A: Numbered>(server: ServerOf<A>) -> Option<usize> {
    (1..=MOST_NODES).find(|node| A::server(*node) == server)
}

impl<A: Numbered> StandIn<A> {
    pub const ACTION: &'static str = A::ACTION;

    /// The server of node N.
    pub fn number(node: usize) -> ServerOf<A> {
        A::server(node)
    }
}

impl<A: Numbered> Hosted for StandIn<A>
where
    StandIn<A>: Send + Sync,
{
    fn action(&self) -> &'static str {
        A::ACTION
    }

    fn hook(&self, node: usize, ip: IpAddr, more: &str) -> String {
        A::argument(self, node, ip) + more
    }

    fn target_of(&self, node: usize) -> String {
        A::server(node).to_string()
    }

    fn server_name(&self, node: usize) -> String {
        format!("{}{}", A::BEFORE, A::server(node))
    }

    fn node_at(&self, ip: IpAddr) -> Option<usize> {
        self.route(ip).and_then(node_of::<A>)
    }

    fn move_to(&self, ip: IpAddr, node: Option<usize>) {
        self.set_route(ip, node.map(A::server));
    }

    fn is_switching(&self, ip: IpAddr) -> bool {
        self.is_switching(ip)
    }

    fn set_switch(&self, time: Duration) {
        self.set_switch(time);
    }

    fn rule(&self, rule: &str) {
        self.fault(rule.parse().unwrap_or_else(|error| panic!("{rule}: {error}")));
    }

    fn clear_faults(&self) {
        self.clear_faults();
    }

    fn journal(&self) -> Vec<Request> {
        self.journal()
    }

    fn moves(&self) -> Vec<(Instant, IpAddr, Option<usize>)> {
        let moves = self.history().into_iter();
        moves.map(|(at, ip, server)| (at, ip, server.and_then(node_of::<A>))).collect()
    }
}

/// A stand-in that knows the failover IP too. Unless it is told otherwise, that is routed nowhere.
pub fn robot(mut config: robot::Config) -> Robot {
    if !config.failover.iter().any(|known| known.ip == failover_ip()) {
        config.failover.push(Failover::new(failover_ip(), None));
    }
    Robot::start(config).expect("loopback has a free port")
}

/// The same. In a takeover nothing is ever unassigned.
pub fn cloud(mut config: cloud::Config) -> Cloud {
    if !config.floating_ips.iter().any(|known| known.ip == failover_ip()) {
        config.floating_ips.push(FloatingIp::new(FIRST_ID, failover_ip(), None));
    }
    Cloud::start(cloud::Config { may_unassign: false, ..config }).expect("loopback has a free port")
}

/// One floating IP for each of these.
pub fn floating_ips(ips: impl IntoIterator<Item = IpAddr>, node: Option<usize>) -> Vec<FloatingIp> {
    let server = node.map(cloud::Account::server);
    (FIRST_ID..).zip(ips).map(|(id, ip)| FloatingIp::new(id, ip, server)).collect()
}
