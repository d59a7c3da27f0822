//! The hoster that is a command: the lab's own (`bin/move-ip.rs`), which asks the Robot stand-in.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::USERNAME;
use crate::hoster::Hosted;
use crate::legion::address;
use crate::robot::Robot;
use crate::standin::Request;
use crate::uwsgi::checkout;

/// The variables of the env_file: where the stand-in is, up to the IP; and the login.
pub const URL: &str = "ROBOT_URL";
pub const USER: &str = "ROBOT_USER";
pub const PASSWORD: &str = "ROBOT_PASSWORD";
/// A file that says what is wrong with the command, where there is one.
pub const TROUBLE: &str = "MOVE_IP_TROUBLE";

/// What is wrong with a command, whatever its API says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// It waits until it is killed.
    Hangs,
    /// By a signal, before it has asked anybody.
    Dies,
    /// It writes sixteen megabytes before all else.
    Shouts,
}

impl Trouble {
    pub const ALL: [(Trouble, &str); 3] =
        [(Trouble::Hangs, "hangs"), (Trouble::Dies, "dies"), (Trouble::Shouts, "shouts")];

    pub fn name(self) -> &'static str {
        Trouble::ALL.iter().find(|(trouble, _)| *trouble == self).expect("all are there").1
    }

    pub fn read(text: &str) -> Option<Trouble> {
        Trouble::ALL.iter().find(|(_, name)| *name == text).map(|(trouble, _)| *trouble)
    }

    /// Puts it where the command looks, or takes it away again.
    pub fn set(trouble: Option<Trouble>, file: &Path) {
        let done = match trouble {
            // Complete at once, since somebody may read it at any moment.
            Some(trouble) => {
                let new = file.with_extension("new");
                fs::write(&new, trouble.name()).and_then(|()| fs::rename(&new, file))
            }
            None => fs::remove_file(file),
        };
        // That it is not there is as well.
        let _ = done;
    }
}

/// As `make` has built it.
pub fn program() -> PathBuf {
    let path = checkout().join("target/debug/move-ip");
    assert!(path.exists(), "{} is missing: run `make test`, `make chaos` or `make demo`", path.display());
    path
}

/// What the env_file has to say: where the stand-in is, up to the IP; the password; and where the command finds what is
/// wrong with it.
pub fn environment(url: &str, password: &str, trouble: &Path) -> String {
    let trouble = trouble.display();
    format!(
        "# For move-ip.\n{URL}={url}\n{USER}={USERNAME}\n\n{PASSWORD}='{password}'\n{TROUBLE}={trouble}\n"
    )
}

/// The Robot stand-in, as the command asks it.
pub struct Commanded {
    pub robot: Robot,
    folder: TempDir,
}

impl Commanded {
    pub const ACTION: &'static str = "failover-command";

    pub fn new(robot: Robot) -> Commanded {
        let commanded = Commanded { robot, folder: tempfile::tempdir().expect("a temporary folder") };
        let url = format!("http://{}/failover", commanded.robot.addr());
        let text = environment(&url, crate::PASSWORD, &commanded.trouble());
        fs::write(commanded.env_file(), text).expect("our own folder");
        commanded
    }

    pub fn env_file(&self) -> PathBuf {
        self.folder.path().join("env_file")
    }

    fn trouble(&self) -> PathBuf {
        self.folder.path().join("trouble")
    }

    /// What is wrong with the command from now on.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        Trouble::set(trouble, &self.trouble());
    }
}

/// With the command and the env_file in these places.
pub fn hook(command: &Path, ip: &str, node: usize, env_file: &Path) -> String {
    let (command, target, env_file) = (command.display(), address(node), env_file.display());
    format!("command={command},ip={ip},target={target},env_file={env_file}")
}

/// The stand-in's account is Robot's: what differs is who asks it.
impl Hosted for Commanded {
    fn action(&self) -> &'static str {
        Commanded::ACTION
    }

    fn hook(&self, node: usize, ip: IpAddr, more: &str) -> String {
        hook(&program(), &ip.to_string(), node, &self.env_file()) + more
    }

    fn target_of(&self, node: usize) -> String {
        self.robot.target_of(node)
    }

    fn server_name(&self, node: usize) -> String {
        self.robot.server_name(node)
    }

    /// A command does not say where it is instead.
    fn routed_to(&self, _: usize) -> String {
        "not here".into()
    }

    fn node_at(&self, ip: IpAddr) -> Option<usize> {
        self.robot.node_at(ip)
    }

    fn move_to(&self, ip: IpAddr, node: Option<usize>) {
        self.robot.move_to(ip, node);
    }

    fn is_switching(&self, ip: IpAddr) -> bool {
        self.robot.is_switching(ip)
    }

    fn set_switch(&self, time: Duration) {
        self.robot.set_switch(time);
    }

    fn rule(&self, rule: &str) {
        self.robot.rule(rule);
    }

    fn clear_faults(&self) {
        self.robot.clear_faults();
    }

    fn journal(&self) -> Vec<Request> {
        self.robot.journal()
    }

    fn moves(&self) -> Vec<(Instant, IpAddr, Option<usize>)> {
        self.robot.moves()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::hoster;
    use crate::legion::failover_ip;
    use crate::robot::{Config, Login};

    /// Its exit status, or none, and its line.
    fn run(api: &Commanded, words: &[&str], more: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = Command::new(program());
        command.args(words).env_clear();
        for (name, at) in [("ACTION", 0), ("IP", 1), ("TARGET", 2), ("LEGION", 3)] {
            command.env(format!("FAILOVER_{name}"), words.get(at).unwrap_or(&""));
        }
        let text = fs::read_to_string(api.env_file()).expect("our own file");
        let lines = text.lines().filter_map(|line| line.split_once('='));
        command.envs(lines.map(|(name, value)| (name, value.trim_matches('\''))));
        let output = command.envs(more.iter().copied()).output().expect("it is there");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn the_command_says_what_robot_says_by_its_exit_status() {
        let api = Commanded::new(hoster::robot(Config {
            login: Some(Login::new(USERNAME, crate::PASSWORD)),
            ..Config::default()
        }));
        let call = |action: &str| run(&api, &[action, "4.4.4.4", "1.1.1.1", "failover"], &[]);
        let said = |status: i32, text: &str| (Some(status), format!("{text}\n"));
        assert_eq!(call("monitor"), said(7, "GET 4.4.4.4: HTTP 200 nowhere"));
        assert_eq!(call("start"), said(0, "POST 4.4.4.4: HTTP 200 1.1.1.1"));
        assert_eq!(api.node_at(failover_ip()), Some(1));
        assert_eq!(call("start"), said(0, "POST 4.4.4.4: HTTP 409 FAILOVER_ALREADY_ROUTED"));
        assert_eq!(call("monitor"), said(0, "GET 4.4.4.4: HTTP 200 1.1.1.1"));
        api.move_to(failover_ip(), Some(2));
        assert_eq!(call("monitor"), said(7, "GET 4.4.4.4: HTTP 200 2.2.2.2"));
        assert_eq!(call("stop"), said(0, "DELETE 4.4.4.4: HTTP 200 nowhere"));
        assert_eq!(api.node_at(failover_ip()), None);
        for (fault, action, expected) in [
            ("post error FAILOVER_LOCKED", "start", 75),
            ("any error RATE_LIMIT_EXCEEDED", "monitor", 75),
            ("any error UNAUTHORIZED", "monitor", 4),
            ("any error NOT_FOUND", "start", 6),
            ("any error INVALID_INPUT", "start", 2),
            ("post error FAILOVER_FAILED", "start", 1),
            ("any html 200", "monitor", 1),
            ("any html 502", "start", 1),
            ("any empty 200", "start", 1),
            ("any truncated", "monitor", 1),
            ("any missing", "monitor", 1),
            ("any close", "start", 1),
            ("post lost-answer", "start", 1),
            ("post other 2.2.2.2", "start", 1),
            ("get other 2.2.2.2", "monitor", 7),
            ("get null", "monitor", 7),
            ("any refuse", "start", 1),
        ] {
            api.rule(fault);
            let (status, said) = call(action);
            assert_eq!((status, said.lines().count()), (Some(expected), 1), "{fault}: {said}");
            api.clear_faults();
        }
        assert_eq!(call("validate-all").0, Some(3));
        assert_eq!(run(&api, &["start"], &[]).0, Some(2));
        let other = [("FAILOVER_IP", "5.5.5.5")];
        assert_eq!(run(&api, &["monitor", "4.4.4.4", "1.1.1.1", "failover"], &other).0, Some(2));
    }

    #[test]
    fn what_is_wrong_with_the_command_is_what_a_file_says() {
        let api = Commanded::new(hoster::robot(Config::default()));
        let call = || run(&api, &["start", "4.4.4.4", "1.1.1.1", "failover"], &[]);
        api.set_trouble(Some(Trouble::Dies));
        assert_eq!(call(), (None, String::new()));
        assert_eq!(api.node_at(failover_ip()), None);
        api.set_trouble(Some(Trouble::Shouts));
        let (status, said) = call();
        assert!(status == Some(0) && said.len() > 1 << 24, "{status:?} {}", said.len());
        api.set_trouble(None);
        assert_eq!(call(), (Some(0), "POST 4.4.4.4: HTTP 409 FAILOVER_ALREADY_ROUTED\n".into()));
        assert!(Trouble::ALL.iter().all(|(trouble, name)| Trouble::read(name) == Some(*trouble)));
    }
}
