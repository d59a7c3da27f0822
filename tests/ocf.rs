//! OCF resource agents, as Debian has them: `Dummy`, which keeps a file where it is started, and `IPaddr2`, which puts an
//! address on an interface, on machines with networks of their own.

use std::fs;
use std::io::{Write as _, stderr};
use std::path::PathBuf;

use lab::legion::{LEGION, Legion};
use lab::machine::Machine;
use lab::process::{SIGINT, in_own_network};
use lab::scene::{LIMIT, QUICK, QUORUM, on_one_uwsgi, seconds};
use lab::uwsgi::Uwsgi;
use lab::{agents, wait_until};

on_one_uwsgi! { Debian:
    dummy_is_started_and_stopped_where_the_lord_is
    an_agent_that_does_not_stop_does_not_hold_up_the_legion
    ipaddr2_puts_the_address_where_the_lord_is
}

/// What moves between nodes, and how a test sees where it is.
struct Resource<'a> {
    legion: Legion,
    is_at: &'a dyn Fn(&Legion, usize) -> bool,
}

impl Resource<'_> {
    /// Node N alone is Lord, and has it, and no other has.
    #[track_caller]
    fn settles_at(&self, node: usize) {
        let is_there = || {
            let has: Vec<usize> = (1..=3).filter(|node| (self.is_at)(&self.legion, *node)).collect();
            self.legion.lords() == [node] && has == [node]
        };
        assert!(wait_until(LIMIT, is_there), "not at node {node}: {}", self.legion.logs());
        assert!(
            !wait_until(seconds(3), || !is_there()),
            "not at node {node} any more: {}",
            self.legion.logs()
        );
    }

    /// Waits until the Lord has taken it back.
    #[track_caller]
    fn is_taken_back_by(&self, node: usize) {
        self.legion.node(node).wait_for_log("and this node is Lord: taking it back", LIMIT);
        self.settles_at(node);
    }

    /// What all agents are put through.
    fn follows_the_lord(&mut self, lose: impl Fn(&Legion)) {
        self.legion.start_all();
        self.settles_at(1);
        lose(&self.legion);
        self.is_taken_back_by(1);
        // Frozen it cannot give it away; thawed it has it alone.
        self.legion.node(1).freeze();
        let is_there = || self.legion.lords() == [2] && (self.is_at)(&self.legion, 2);
        assert!(wait_until(LIMIT, is_there), "not at node 2: {}", self.legion.logs());
        self.legion.node(1).thaw();
        self.settles_at(1);
        // Of an orderly end, and of a better node that comes back.
        self.legion.node(1).signal(SIGINT);
        assert!(self.legion.wait_for_exit(1, LIMIT), "{}", self.legion.logs());
        self.settles_at(2);
        self.legion.start(1);
        self.settles_at(1);
    }
}

/// Of three nodes, each of which loses it when it is no longer Lord.
fn legion(uwsgi: Uwsgi, options: &str, hook: impl Fn(usize) -> String) -> Legion {
    let hooks: Vec<String> = (1..=3).map(&hook).collect();
    let mut legion = Legion::of_action(uwsgi, "failover-command", &hooks, options);
    for node in 1..=3 {
        // The agents' own temporary folder is one of the machine's.
        let env_file = legion.folder(node).join("env");
        fs::write(&env_file, format!("HA_RSCTMP={}\n", legion.folder(node).display()))
            .expect("a writable folder");
        let ini = legion.ini_mut(node);
        let env_file = format!(",env_file={}", env_file.display());
        *ini = ini.replace("AGAIN", &format!("verify=5{env_file}"));
        for phase in ["unlord", "death"] {
            let hook = hook(node).replace("AGAIN", &env_file[1..]);
            *ini += &format!("legion-{phase} = {LEGION} failover-command-release:{hook}\n");
        }
    }
    legion
}

/// Each has a file of its own.
fn dummy_is_started_and_stopped_where_the_lord_is(uwsgi: Uwsgi) {
    let Some(words) = agents::words() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |node: usize| -> PathBuf { folder.path().join(format!("dummy{node}")) };
    let hook =
        |node: usize| format!("agent=ocf:heartbeat:Dummy,ip=dummy,AGAIN,ocf_state={}", file(node).display());
    let mut legion = legion(uwsgi, QUICK, hook);
    (1..=3).for_each(|node| legion.run_by(node, words.clone()));
    let is_at = |_: &Legion, node: usize| file(node).exists();
    Resource { legion, is_at: &is_at }.follows_the_lord(|_| fs::remove_file(file(1)).expect("it is there"));
}

fn an_agent_that_does_not_stop_does_not_hold_up_the_legion(uwsgi: Uwsgi) {
    let Some(words) = agents::words() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    // What every agent reads first.
    fs::write(folder.path().join("ocf-shellfuncs"), "sleep 1000\n").expect("a writable folder");
    let hook = |node: usize| {
        let state = folder.path().join(format!("dummy{node}"));
        format!("agent=ocf:heartbeat:Dummy,ip=dummy,AGAIN,ocf_state={}", state.display())
    };
    let mut legion = legion(uwsgi, QUICK, hook);
    (1..=3).for_each(|node| legion.run_by(node, words.clone()));
    let env_file = legion.folder(2).join("hangs");
    fs::write(&env_file, format!("OCF_FUNCTIONS_DIR={}\n", folder.path().display()))
        .expect("a writable folder");
    let usual = legion.folder(2).join("env");
    let ini = legion.ini_mut(2);
    let (before, unlord) = ini.split_at(ini.find("legion-unlord").expect("a hook"));
    let hangs = unlord.replace(&*usual.to_string_lossy(), &env_file.to_string_lossy());
    *ini = format!("{before}{hangs}");
    [2, 3].into_iter().for_each(|node| legion.start(node));
    legion.wait_for_lord(2, LIMIT);
    legion.start(1);
    legion.node(2).wait_for_log("FAILED to release dummy: stop was killed", LIMIT);
    for node in [1, 3] {
        let log = legion.node(node).log();
        assert!(!log.contains("left Legion"), "node {node}: {log}");
    }
    assert_eq!(legion.lords(), [1]);
}

const ADDRESS: &str = "10.77.0.99";

fn ipaddr2_puts_the_address_where_the_lord_is(uwsgi: Uwsgi) {
    let Some(words) = agents::words() else { return };
    let done = in_own_network(move || {
        let machines = Machine::several(3);
        let hook = |_: usize| {
            format!("agent=ocf:heartbeat:IPaddr2,ip={ADDRESS},AGAIN,ocf_nic=eth0,ocf_cidr_netmask=24")
        };
        let mut legion = legion(uwsgi, QUORUM, hook);
        legion.listen_at(machines.iter().map(Machine::address).collect());
        for (machine, node) in machines.iter().zip(1..) {
            legion.run_by(node, [machine.words(), words.clone()].concat());
        }
        let is_at = |_: &Legion, node: usize| machines[node - 1].has(ADDRESS);
        let lose = |_: &Legion| {
            machines[0].run(&["ip", "addr", "del", &format!("{ADDRESS}/24"), "dev", "eth0"]);
        };
        Resource { legion, is_at: &is_at }.follows_the_lord(lose);
    });
    if done.is_none() {
        let _ = writeln!(stderr(), "skipped: only root can make a network, with ip(8)");
    }
}
