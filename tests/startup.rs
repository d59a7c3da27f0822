//! What is told at start: every problem at once, and then uWSGI ends; every warning once, and then it goes on.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use lab::legion::LEGION;
use lab::node::{Node, free_address};
use lab::process::SIGHUP;
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, PASSWORD, USERNAME, wait_until};

/// Starts a node with one hook and these lines, and returns what the plugin has logged when uWSGI has ended with
/// status 1, or is up.
pub fn start(uwsgi: Uwsgi, hook: &str, options: &str, ends: bool) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ini = format!(
        "plugin = hetzner\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\nlegion-lord = {LEGION} {hook}\n{options}",
        free_address()
    );
    let mut node = Node::start(uwsgi, folder.path(), &ini, &[]);
    if ends {
        let status = node.wait_for_exit(LIMIT).unwrap_or_else(|| panic!("it goes on:\n{}", node.log()));
        assert_eq!(status.code(), Some(1), "{}", node.log());
        assert!(!node.log().contains("spawned uWSGI"), "it has forked already:\n{}", node.log());
    } else {
        let up = wait_until(LIMIT, || node.log().contains("spawned uWSGI worker 1"));
        assert!(up, "{}", node.log());
    }
    node.lines()
}

/// A hook with which nothing is wrong on this machine.
pub fn right() -> String {
    format!(
        "hetzner-failoverip:username={USERNAME},password={PASSWORD},ip=127.0.0.9,active_ip=127.0.0.1,\
         url=http://127.0.0.1:9/failover/x"
    )
}

pub const NO_WARNING: &str = "legion-death-on-lord-error = 30\n";

#[test]
fn a_right_ini_is_met_with_silence() {
    for uwsgi in Uwsgi::ALL {
        assert_eq!(start(uwsgi, &right(), NO_WARNING, false), [""; 0], "{uwsgi}");
    }
}

#[test]
fn every_problem_is_named_and_uwsgi_ends() {
    let right = right();
    let cases = [
        (right.replace("username=", "usrname="), "unknown key \"usrname\": did you mean username?"),
        (right.replace("password=", "passwd="), "unknown key \"passwd\": did you mean password?"),
        (right.replace("ip=127.0.0.9,", ""), "ip is missing: set ip to the failover IP"),
        (right.replace("127.0.0.9", "4.4.4.444"), "ip=4.4.4.444 is not an IP address"),
        (right.replace("=127.0.0.1,", "=node1,"), "active_ip=node1 is not an IP address"),
        (right.replace("=127.0.0.1,", "=2a01:4f8::,"), "have different address families"),
        (
            right.replace("127.0.0.9", "127.0.0.1"),
            "are the same address: a failover IP cannot be routed to itself",
        ),
        (format!("{right},deadline=-1"), "deadline=-1 is not valid"),
        (
            format!("{right},verify=never"),
            "verify=never is not valid: expected 0 (off) or a number of seconds",
        ),
        (format!("{right},password_file=/nonexistent"), "password and password_file are both given"),
        (
            right.replace(&format!("password={PASSWORD}"), "password_file=/nonexistent"),
            "password_file=/nonexistent: No such file",
        ),
        (right.replace("url=http", "url=ftp"), "url has no host, or a scheme other than http or https"),
        (right.replace("127.0.0.9", "4.4.4.4;5.5.5.5"), "url is the same for all failover IPs of the hook"),
        (format!("{right},alarm=pager"), "alarm=pager is not defined: define it with alarm = pager ..."),
        (
            right.replace("hetzner-failoverip:", "hetzner-failoverip-release:").replace("ip=127.0.0.9,", ""),
            "ip is missing",
        ),
    ];
    let (uwsgi, others) = (Uwsgi::Pypi, Uwsgi::Debian);
    for (at, (hook, expected)) in cases.iter().enumerate() {
        let lines = start(if at % 2 == 0 { uwsgi } else { others }, hook, NO_WARNING, true);
        assert!(
            lines.iter().all(|line| line.starts_with("Legion failover, legion-lord: ")),
            "{hook}: {lines:?}"
        );
        assert!(lines.iter().any(|line| line.contains(expected)), "{hook}: {lines:?}");
    }
}

#[test]
fn all_problems_of_all_hooks_are_printed_together() {
    let more = format!(
        "legion = other {} 1 aes-128-cbc:secret1\nlegion-death = other hetzner-failoverip-release:user=x\n\
         legion-unlord = other log:not ours\n",
        free_address()
    );
    let lines = start(Uwsgi::Debian, "hetzner-failoverip:timout=1", &more, true);
    let mut expected = vec!["Legion failover, legion-lord: unknown key \"timout\": did you mean timeout?"];
    expected.extend(["username", "password", "ip"].map(|key| match key {
        "username" => "Legion failover, legion-lord: username is missing",
        "password" => "Legion failover, legion-lord: password is missing",
        _ => "Legion failover, legion-lord: ip is missing",
    }));
    expected.extend([
        "Legion other, legion-death: password is missing",
        "Legion other, legion-death: ip is missing",
    ]);
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{line}, not {start}");
    }
}

#[test]
fn every_warning_is_one_line_and_uwsgi_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("password");
    fs::write(&file, PASSWORD).expect("a writable folder");
    let with_mode = |mode| fs::set_permissions(&file, Permissions::from_mode(mode)).expect("our own file");
    let by_file =
        right().replace(&format!("password={PASSWORD}"), &format!("password_file={}", file.display()));
    let three = format!(
        "{NO_WARNING}legion-node = failover {}\nlegion-node = failover {}\n",
        free_address(),
        free_address()
    );

    with_mode(0o640);
    assert_eq!(start(Uwsgi::Pypi, &by_file, NO_WARNING, false), [""; 0]);
    with_mode(0o644);
    let cases = [
        (right(), "", "warning: legion-death-on-lord-error is unset: "),
        (
            right(),
            three.as_str(),
            "warning: Legion failover has no legion-quorum: a network split would leave a Lord on each side; set legion-quorum = failover 2",
        ),
        (
            right().replace("=127.0.0.1,", "=198.51.100.7,"),
            NO_WARNING,
            "warning: Legion failover, legion-lord: active_ip=198.51.100.7 is not on any interface of this host",
        ),
        (
            right().replace("127.0.0.9", "198.51.100.8"),
            NO_WARNING,
            "warning: Legion failover, legion-lord: ip=198.51.100.8 is not on any interface of this host",
        ),
        (
            right().replace("http://127.0.0.1:9", "http://robot.invalid"),
            NO_WARNING,
            "warning: Legion failover, legion-lord: url is plain http to robot.invalid",
        ),
        (
            format!("{},ssl_no_verify", right()),
            NO_WARNING,
            "warning: Legion failover, legion-lord: ssl_no_verify is set",
        ),
        (
            format!("{},deadline=89.5", right()),
            NO_WARNING,
            "warning: Legion failover, legion-lord: deadline is 89.5 s (default: three times timeout), but a switch",
        ),
        (
            format!("{},verify=60", right()),
            NO_WARNING,
            "warning: Legion failover, legion-lord: verify is 60 s, but the API's rate limit allows only one \
             check every 90 s for one IP",
        ),
        (by_file, NO_WARNING, "warning: Legion failover, legion-lord: password_file="),
        (
            format!("{},timout=5", right()),
            NO_WARNING,
            "warning: Legion failover, legion-lord: unknown key \"timout\": did you mean timeout?",
        ),
        (
            right().replace(PASSWORD, &format!("a,{PASSWORD}")),
            NO_WARNING,
            "warning: Legion failover, legion-lord: unknown key right after password, not shown",
        ),
        (
            format!("{},timeout=0", right()),
            NO_WARNING,
            "warning: Legion failover, legion-lord: timeout=0 is not valid, so 60 is used",
        ),
        (
            format!("{},pass=other", right()),
            NO_WARNING,
            "warning: Legion failover, legion-lord: password/pass is given twice with different values: the last one",
        ),
        (
            format!("{},ssl_no_verify=maybe", right()),
            NO_WARNING,
            "warning: Legion failover, legion-lord: ssl_no_verify=maybe is not valid, so the API's TLS",
        ),
        (
            right(),
            "legion-death-on-lord-error = 30\nlegion-freq = 3\nlegion-tolerance = 3\n",
            "warning: legion-tolerance is 3, but a node announces itself only every 3 s (legion-freq)",
        ),
        (
            right(),
            "legion-death-on-lord-error = 30\nlegion-join = failover cmdd:true\n",
            "warning: Legion failover, legion-join: unknown action \"cmdd\": no plugin provides it",
        ),
        (
            right(),
            "legion-death-on-lord-error = 30\nlegion-quorum = failover 2\n",
            "warning: Legion failover: legion-quorum is 2, and the number of nodes (this one and each legion-node) is 1: no Lord is ever",
        ),
    ];
    for (hook, options, expected) in cases {
        let lines = start(Uwsgi::Pypi, &hook, options, false);
        let [line] = &lines[..] else { panic!("{hook}: one line expected: {lines:?}") };
        assert!(line.starts_with(expected), "{line}");
    }
    let quorum = format!("{three}legion-quorum = failover 2\n");
    assert_eq!(start(Uwsgi::Pypi, &right(), &quorum, false), [""; 0]);
}

/// A deploy with a mistake in it, at a site that serves: it is told, alarmed, and the site goes on.
#[test]
fn a_reload_with_a_wrong_hook_goes_on_and_its_takeover_fails() {
    for uwsgi in Uwsgi::ALL {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let alarms = folder.path().join("alarms");
        let ini = format!(
            "plugin = hetzner\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\nlegion-freq = 1\nalarm = pager cmd:cat >> {}\n\
             legion-lord = {LEGION} {},alarm=pager,timeout=1,deadline=1\nlegion-lord = {LEGION} log:another\n{NO_WARNING}",
            free_address(),
            alarms.display(),
            right(),
        );
        let node = Node::start(uwsgi, folder.path(), &ini, &[]);
        // A reload that is asked for before the master's loop runs waits for its worker in vain.
        assert!(wait_until(LIMIT, || node.stats().is_some()), "{uwsgi}: {}", node.log());
        let path = folder.path().join("node.ini");
        let whole = fs::read_to_string(&path).expect("Node writes it");
        fs::write(&path, whole.replace("ip=127.0.0.9", "ip=nowhere")).expect("our own file");
        node.signal(SIGHUP);
        let starts = || node.log().matches("spawned uWSGI worker 1 ").count();
        let again = wait_until(LIMIT, || starts() > 1 && node.stats().is_some());
        assert!(again, "{uwsgi}: it does not serve any more:\n{}", node.log());
        let problem = "Legion failover, legion-lord: ip=nowhere is not an IP address";
        let said = |start: &str, end: &str| {
            node.lines().iter().any(|line| line.starts_with(start) && line.ends_with(end))
        };
        assert!(said(problem, "(this is a reload, so uWSGI keeps running)"), "{uwsgi}: {:?}", node.lines());
        let failed =
            || said("failover: no request sent, the hook is wrong: ip=nowhere is not an IP address", "");
        assert!(wait_until(LIMIT, failed), "{uwsgi}: {}", node.log());
        let alarmed = || {
            let alarms = fs::read_to_string(&alarms).unwrap_or_default();
            alarms.contains(problem) && alarms.contains("no request sent, the hook is wrong")
        };
        assert!(wait_until(LIMIT, alarmed), "{uwsgi}: {}", node.log());
    }
}

#[test]
fn a_uwsgi_without_ssl_is_told_that_it_has_no_legion() {
    let output = Command::new(Uwsgi::without_ssl())
        .arg("--plugins-dir")
        .arg(Uwsgi::Pypi.plugins())
        .args(["--plugin", "hetzner", "--http-socket", "127.0.0.1:0"])
        .output()
        .expect("uWSGI starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let log = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("[hetzner-failoverip] ")).collect();
    let [line] = &lines[..] else { panic!("{log}") };
    assert!(line.contains("this uWSGI was built without SSL, so it has no Legion"), "{line}");
    assert!(!log.contains("undefined symbol"), "{log}");
}
