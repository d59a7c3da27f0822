//! A machine as far as its network goes: a namespace with loopback and eth0, which is on one bridge with the others'. Whoever
//! makes them is in a network of its own, see `process::in_own_network`.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command};

use super::{LIMIT, process, wait_until};

const BRIDGE: &str = "bridge";

/// Dropped, it is gone with all that is in it.
pub struct Machine {
    /// Has the namespace open.
    holder: Child,
    number: usize,
}

impl Machine {
    /// Machines 1 to N.
    pub fn several(number: usize) -> Vec<Machine> {
        done("ip", &["link", "add", BRIDGE, "type", "bridge"]);
        done("ip", &["link", "set", BRIDGE, "up"]);
        (1..=number).map(Machine::new).collect()
    }

    fn new(number: usize) -> Machine {
        let mut sleep = Command::new("unshare");
        sleep.args(["--net", "sleep", "infinity"]);
        let machine = Machine { holder: process::spawn(&mut sleep).expect("unshare is there"), number };
        let own = || fs::read_link("/proc/thread-self/ns/net").expect("a network");
        let is_made = || fs::read_link(machine.network()).is_ok_and(|network| network != own());
        assert!(wait_until(LIMIT, is_made), "no network namespace");
        let (port, id) = (format!("machine{number}"), machine.holder.id().to_string());
        done("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &id]);
        done("ip", &["link", "set", &port, "up", "master", BRIDGE]);
        machine.run(&["ip", "link", "set", "lo", "up"]);
        machine.run(&["ip", "link", "set", "eth0", "up"]);
        machine.run(&["ip", "addr", "add", &format!("{}/24", machine.ip()), "dev", "eth0"]);
        machine
    }

    fn network(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Its own address.
    fn ip(&self) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, self.number as u8).into()
    }

    /// Where its node listens.
    pub fn address(&self) -> SocketAddr {
        (self.ip(), 2000).into()
    }

    /// Words that run a program in it, and become that.
    pub fn words(&self) -> Vec<OsString> {
        vec!["nsenter".into(), format!("--net={}", self.network()).into()]
    }

    /// Runs a program in it; returns what it prints.
    pub fn run(&self, words: &[&str]) -> String {
        done("nsenter", &[&[format!("--net={}", self.network()).as_str()], words].concat())
    }

    /// Whether eth0 has this address.
    pub fn has(&self, ip: &str) -> bool {
        self.run(&["ip", "-oneline", "addr", "show", "dev", "eth0"]).contains(&format!(" {ip}/"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        process::signal_group(self.holder.id(), process::SIGKILL);
        self.holder.wait().expect("a child of ours");
    }
}

#[track_caller]
fn done(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().expect("it is installed");
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
