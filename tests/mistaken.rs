//! An ini that is right line by line and cannot be what was meant: told at start, and ended where it would fight itself.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use lab::legion::LEGION;
use lab::node::{Node, free_address};
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, PASSWORD, USERNAME, wait_until};

fn argument(ip: &str, active_ip: &str) -> String {
    format!(
        "username={USERNAME},password={PASSWORD},ip={ip},active_ip={active_ip},url=http://127.0.0.1:9/x,timeout=1,\
         deadline=90"
    )
}

fn lord(hook: &str) -> String {
    format!("legion-lord = {LEGION} {hook}\n")
}

fn right() -> String {
    lord(&format!("hetzner-failoverip:{}", argument("127.0.0.9", "127.0.0.1")))
}

fn legion(own: SocketAddr, valor: &str) -> String {
    format!("legion = {LEGION} {own} {valor} aes-128-cbc:secret1\n")
}

/// Starts a node with these lines, and returns what it says at start, and whether it goes on.
fn start(uwsgi: Uwsgi, lines: &str) -> (Vec<String>, bool) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ini = format!("plugin = hetzner\nlegion-death-on-lord-error = 30\n{lines}");
    let mut node = Node::start(uwsgi, folder.path(), &ini, &[]);
    let mut goes_on = false;
    let known = wait_until(LIMIT, || {
        goes_on = node.log().contains("spawned uWSGI worker 1");
        goes_on || node.wait_for_exit(Duration::ZERO).is_some()
    });
    assert!(known, "{}", node.log());
    let at_start = |line: &String| line.starts_with("warning: ") || !line.starts_with(&format!("{LEGION}: "));
    (node.lines().into_iter().filter(at_start).collect(), goes_on)
}

#[test]
fn a_mistyped_action_of_ours_ends_uwsgi() {
    let argument = argument("127.0.0.9", "127.0.0.1");
    for (at, (action, meant)) in [
        ("hetzner-failover-ip", "hetzner-failoverip"),
        ("hetzner_failoverip", "hetzner-failoverip"),
        (" hetzner-failoverip", "hetzner-failoverip"),
        ("Hetzner-FailoverIP", "hetzner-failoverip"),
        ("hetzner", "hetzner-failoverip"),
        ("hetzner-failoverip-relaese", "hetzner-failoverip-release"),
    ]
    .into_iter()
    .enumerate()
    {
        let lines = legion(free_address(), "1")
            + &right()
            + &format!("legion-unlord = {LEGION} {action}:{argument}\n");
        let (said, goes_on) = start(Uwsgi::ALL[at % 2], &lines);
        let expected =
            format!("Legion {LEGION}, legion-unlord: unknown action \"{action}\": did you mean {meant}?");
        assert_eq!((said, goes_on), (vec![expected], false));
    }
}

#[test]
fn an_ip_that_two_hooks_would_take_from_each_other_ends_uwsgi() {
    let hook = |ip, target| format!("hetzner-failoverip:{}", argument(ip, target));
    let one = lord(&hook("127.0.0.9", "127.0.0.1"));
    let own = free_address();
    let other = format!("legion = other {} 1 aes-128-cbc:secret1\n", free_address());
    let at = |ip, target| {
        format!("Legion {LEGION}, legion-lord: ip={ip} with active_ip={target} is also in Legion")
    };
    for uwsgi in Uwsgi::ALL {
        let two_targets = legion(own, "1") + &one + &lord(&hook("127.0.0.9", "127.0.0.2"));
        let (said, goes_on) = start(uwsgi, &two_targets);
        assert!(!goes_on && said.len() == 1, "{said:?}");
        assert!(said[0].starts_with(&at("127.0.0.9", "127.0.0.2")), "{said:?}");
        assert!(said[0].contains("with active_ip=127.0.0.1: it cannot be routed to both"), "{said:?}");

        let same = format!("legion-lord = other {}\n", hook("127.0.0.9", "127.0.0.1"));
        let (said, goes_on) = start(uwsgi, &(legion(own, "1") + &other + &one + &same));
        assert!(!goes_on && said.len() == 1, "{said:?}");
        assert!(said[0].starts_with("Legion other, legion-lord: ip=127.0.0.9 with"), "{said:?}");
        assert!(said[0].contains("each Legion elects its own Lord"), "{said:?}");

        // What is the same of two hooks is told once for each of their IPs.
        let three = ["127.0.0.1", "127.0.0.2", "127.0.0.2"].map(|target| hook("127.0.0.9;127.0.0.8", target));
        let lines =
            legion(own, "1") + &lord(&three[0]) + &lord(&three[1]) + &lord(&(three[2].clone() + ",verify=9"));
        let (said, goes_on) = start(uwsgi, &lines.replace("/x,", "/{ip},"));
        assert!(!goes_on && said.len() == 2, "{said:?}");
        assert!(said[0].starts_with(&at("127.0.0.9", "127.0.0.2")), "{said:?}");
        assert!(said[1].starts_with(&at("127.0.0.8", "127.0.0.2")), "{said:?}");

        // The same line twice does nobody harm, and a release is no second master.
        let release = hook("127.0.0.9", "127.0.0.1").replace("failoverip:", "failoverip-release:");
        let (said, goes_on) = start(
            uwsgi,
            &(legion(own, "1") + &one + &one + &format!("legion-unlord = {LEGION} {release}\n")),
        );
        assert_eq!((said, goes_on), (vec![], true));
    }
}

#[test]
fn what_keeps_a_legion_from_having_a_lord_is_told() {
    let own = free_address();
    let (second, third) = (free_address(), free_address());
    let nodes = format!("legion-node = {LEGION} {second}\nlegion-node = {LEGION} {third}\n");
    let any = fastrand::u16(20_000..30_000);
    let quorum = |number| format!("legion-quorum = {LEGION} {number}\n");
    let right = right();
    for (at, (lines, expected)) in [
        (format!("{}{right}", legion(own, "65535")), ""),
        (format!("{}{right}{nodes}{}", legion(own, "1"), quorum(2)), ""),
        (
            format!("{}{right}{nodes}{}", legion(own, "1"), quorum(1)),
            "Legion failover: legion-quorum is 1, and the number of nodes (this one and each legion-node) is 3: a \
             network split would leave a Lord on each side; set legion-quorum = failover 2",
        ),
        (
            format!("{}{right}{}", legion(own, "1"), right.replace("legion-lord", "legion-join")),
            "Legion failover, legion-join: hetzner-failoverip takes the IP from the Lord: move it to legion-lord",
        ),
        (
            format!("{}{right}{nodes}{}", legion(own, "1"), quorum(4)),
            "Legion failover: legion-quorum is 4, and the number of nodes (this one and each legion-node) is 3: no \
             Lord is ever elected; set legion-quorum = failover 2",
        ),
        (
            format!("{}{right}{nodes}{}", legion(own, "1"), quorum(3)),
            "Legion failover: legion-quorum is 3, and the number of nodes (this one and each legion-node) is 3: \
             there is no Lord while one of them is down; set legion-quorum = failover 2",
        ),
        (
            format!("{}{right}legion-node = {LEGION} {second}\n{}", legion(own, "1"), quorum(2)),
            "Legion failover: legion-quorum is 2, and the number of nodes (this one and each legion-node) is 2: \
             there is no Lord while one of them is down",
        ),
        (format!("{}{right}", legion(own, "65536")), "Legion failover: this node's valor is 65536, but peers store at most 65535"),
        (format!("{}{right}", legion(own, "0")), "Legion failover: this node's valor is 0 (an arbiter): it votes but never becomes Lord"),
        (
            format!("{}{right}legion-node = {LEGION} {own}\n", legion(own, "1")),
            &format!("Legion failover: legion-node = failover {own} is this node itself"),
        ),
        (
            format!(
                "legion = {LEGION} 0.0.0.0:{any} 1 aes-128-cbc:secret1\n{right}legion-node = {LEGION} 127.0.0.1:{any}\n"
            ),
            &format!("Legion failover: legion-node = failover 127.0.0.1:{any} is this node itself"),
        ),
        (
            format!(
                "{}{right}legion-node = {LEGION} {second}\nlegion-node = {LEGION} {second}\nlegion-node = {LEGION} {third}\n{}",
                legion(own, "1"),
                quorum(2)
            ),
            &format!("Legion failover: legion-node = failover {second} is listed twice"),
        ),
        (
            format!("{}{right}legion-freq = 5\nlegion-tolerance = 5\n", legion(own, "1")),
            "legion-tolerance is 5, but a node announces itself only every 5 s (legion-freq)",
        ),
        (
            format!("{}{right}legion = other {second} 1 aes-128-cbc:secret1\n", legion(own, "1")),
            "Legion other has no legion-lord hook with hetzner-failoverip",
        ),
        (
            format!("{}{right}legion-join = {LEGION} cmdd:true\n", legion(own, "1")),
            "Legion failover, legion-join: unknown action \"cmdd\": no plugin provides it",
        ),
        (
            format!("{}{right}legion-join = {LEGION} cmdd:true\nlegion-join = {LEGION} cmdd:false\n", legion(own, "1")),
            "Legion failover, legion-join: unknown action \"cmdd\": no plugin provides it",
        ),
        (format!("{}{right}legion-join = {LEGION} cmd:true\n", legion(own, "1")), ""),
    ]
    .into_iter()
    .enumerate()
    {
        let (said, goes_on) = start(Uwsgi::ALL[at % 2], &lines);
        assert!(goes_on, "{lines}: {said:?}");
        match (&said[..], expected) {
            ([], "") => {}
            ([line], expected) if !expected.is_empty() => {
                assert!(line.starts_with(&format!("warning: {expected}")), "{line}");
            }
            _ => panic!("{lines}: {said:?}, not {expected}"),
        }
    }
}

/// A Legion without a master never runs, and uWSGI does not say so.
#[test]
fn a_legion_without_a_master_is_told() {
    let (said, goes_on) =
        start(Uwsgi::Debian, &(legion(free_address(), "1") + &right() + "master = false\n"));
    let expected = "warning: without a master process uWSGI runs no Legion: set master = true";
    assert_eq!((said, goes_on), (vec![expected.to_string()], true));
}

#[test]
fn an_ini_with_a_password_that_others_may_read_is_told() {
    for uwsgi in Uwsgi::ALL {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let inner = folder.path().join("hooks.ini");
        fs::write(&inner, format!("[uwsgi]\n{}{}", legion(free_address(), "1"), right()))
            .expect("a writable folder");
        let said = |mode| {
            fs::set_permissions(&inner, Permissions::from_mode(mode)).expect("our own file");
            start(uwsgi, &format!("ini = {}\n", inner.display())).0
        };
        assert_eq!(said(0o640), [""; 0]);
        let path = inner.display();
        let expected =
            format!("warning: {path} holds the password and is readable by others: chmod o-r {path}");
        let found = said(0o644);
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{found:?}");
    }
}
