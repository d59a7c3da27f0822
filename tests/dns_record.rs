//! examples/dns-record, by itself, with a real BIND: what it does to the record, and the exit status and the one line that
//! every trouble has. In a Legion it is played in `dns`.

use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;

use lab::bind::{ALIAS, BROKEN, Bind, DELEGATED, NAME, OTHER, script};
use lab::{assert_no_secret, clock, ip};

/// Runs it with the env_file's settings and these; returns the exit status and what it says, which is one line.
fn run(bind: &Bind, words: &[&str], settings: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(script());
    command.args(words).envs(bind.settings()).stdin(Stdio::null());
    for (name, value) in settings {
        command.env(name, value);
    }
    let output = command.output().expect("it is executable");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_no_secret(&said);
    assert_eq!(said.matches('\n').count(), 1, "{words:?} {settings:?}: {said}");
    (output.status.code().expect("it was not killed"), said)
}

#[track_caller]
fn assert_says(found: (i32, String), status: i32, line: &str) {
    assert!(found.0 == status && found.1.contains(line), "{found:?}, and not {status} {line}");
}

fn addresses(bind: &Bind) -> Vec<IpAddr> {
    bind.addresses().expect("it answers")
}

#[test]
fn a_record_is_replaced_and_found_and_deleted() {
    let Some(bind) = Bind::start() else { return };
    let call = |action: &str, target: &str| run(&bind, &[action, NAME, target, "failover"], &[]);
    let is = |addresses: &[&str]| addresses.iter().map(|text| ip(text)).collect::<Vec<_>>();

    assert_says(call("monitor", "1.1.1.1"), 7, "www.example.test. A is not there");
    assert_says(call("stop", "1.1.1.1"), 0, "was not 1.1.1.1");
    for target in ["1.1.1.1", "1.1.1.1", "2.2.2.2"] {
        assert_says(call("start", target), 0, target);
        assert_eq!(addresses(&bind), is(&[target]), "{}", bind.log());
        assert_says(call("monitor", target), 0, target);
    }
    assert_says(call("monitor", "1.1.1.1"), 7, "is 2.2.2.2");

    // Of two addresses, one is that of somebody who is not Lord.
    bind.update(&["update add www.example.test 60 A 3.3.3.3"]);
    assert_says(call("monitor", "2.2.2.2"), 7, "3.3.3.3");
    assert_says(call("stop", "2.2.2.2"), 0, "was not 2.2.2.2");
    assert_eq!(addresses(&bind).len(), 2, "{}", bind.log());
    assert_says(call("start", "2.2.2.2"), 0, "2.2.2.2");
    assert_eq!(addresses(&bind), is(&["2.2.2.2"]), "{}", bind.log());

    // Each family by itself, however an address is written.
    assert_says(call("start", "2001:DB8:0::1"), 0, "www.example.test. AAAA is 2001:db8::1");
    assert_says(call("monitor", "2001:db8::1"), 0, "");
    let both = || (addresses(&bind), bind.addresses6().expect("it answers"));
    assert_eq!(both(), (is(&["2.2.2.2"]), is(&["2001:db8::1"])), "{}", bind.log());

    assert_says(call("stop", "1.1.1.1"), 0, "was not 1.1.1.1");
    assert_eq!(both(), (is(&["2.2.2.2"]), is(&["2001:db8::1"])), "{}", bind.log());
    assert_says(call("stop", "2.2.2.2"), 0, "is not 2.2.2.2 any more");
    assert_eq!(both(), (is(&[]), is(&["2001:db8::1"])), "{}", bind.log());
    assert_says(call("monitor", "2.2.2.2"), 7, "is not there");
    assert_says(call("stop", "2001:db8::1"), 0, "any more");
    assert_eq!(both(), (is(&[]), is(&[])), "{}", bind.log());
}

#[test]
fn what_is_wrong_has_an_exit_status_and_a_sentence() {
    let Some(bind) = Bind::start() else { return };
    let file = |name: &str, secret: &str| bind.key_file(name, secret).display().to_string();
    let (unknown, other) = (file("unknown", "NOTaREALsecret00"), file("failover", "NOTaREALsecret00"));
    // nsupdate quotes the secret in what it says of the third.
    let no_key = bind.write("no-key", "nothing\n").display().to_string();
    let no_secret = file("failover", lab::PASSWORD);
    let a = &[NAME, "1.1.1.1"];
    let [preload, ahead] = clock::environment(1000);
    let clock = &[(preload.0.as_str(), preload.1.as_str()), (ahead.0.as_str(), ahead.1.as_str())];
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, i32, &'a str);
    let cases: &[Case] = &[
        // What the server says.
        (
            a,
            &[("DNS_KEY_FILE", &unknown)],
            "start stop",
            4,
            "NOTAUTH(BADKEY): the server does not know this TSIG key",
        ),
        (
            a,
            &[("DNS_KEY_FILE", &other)],
            "start stop",
            4,
            "NOTAUTH(BADSIG): the server knows this TSIG key with another",
        ),
        (a, clock, "start stop", 1, "NOTAUTH(BADTIME): this machine's clock"),
        (
            a,
            &[("DNS_ZONE", "elsewhere.test")],
            "start stop",
            6,
            "NOTAUTH: the server is not the primary server",
        ),
        (
            &["www.elsewhere.test", "1.1.1.1"],
            &[],
            "start",
            6,
            "NOTZONE: www.elsewhere.test. is not in the zone",
        ),
        (&["www.elsewhere.test", "1.1.1.1"], &[], "monitor", 4, "REFUSED: the server does not answer for"),
        (&[OTHER, "1.1.1.1"], &[], "start", 4, "REFUSED: the server does not let this TSIG key change"),
        (&[ALIAS, "1.1.1.1"], &[], "start", 6, "YXRRSET: alias.example.test. is an alias"),
        (&[ALIAS, "1.1.1.1"], &[], "monitor", 7, "alias.example.test. A is not there"),
        (&[DELEGATED, "1.1.1.1"], &[], "monitor", 6, "does not answer for www.sub.example.test. itself"),
        (&["www.broken.test", "1.1.1.1"], &[("DNS_ZONE", BROKEN)], "start stop monitor", 1, "SERVFAIL"),
        // What it has no key for, it does not ask.
        (a, &[("DNS_KEY_FILE", &no_key)], "start stop", 6, "is not a TSIG key such as tsig-keygen makes"),
        (a, &[("DNS_KEY_FILE", &no_secret)], "start stop", 6, "is not a TSIG key such as tsig-keygen makes"),
        (
            a,
            &[("DNS_KEY_FILE", "/missing")],
            "start stop monitor",
            6,
            "DNS_KEY_FILE: '/missing' is not a file",
        ),
        (a, &[("DNS_KEY_FILE", "Cargo.toml")], "start", 6, "DNS_KEY_FILE: 'Cargo.toml' is not a file"),
        (a, &[("DNS_KEY_FILE", "/etc")], "start", 6, "DNS_KEY_FILE: '/etc' is not a file"),
        (
            a,
            &[("DNS_KEY_FILE", "")],
            "start stop monitor",
            6,
            "DNS_KEY_FILE is not set: add it to the env_file",
        ),
        (a, &[("DNS_SERVER", "")], "start", 6, "DNS_SERVER is not set"),
        (a, &[("DNS_ZONE", "")], "start", 6, "DNS_ZONE is not set"),
        (
            a,
            &[("DNS_SERVER", "ns.example.test")],
            "start",
            6,
            "DNS_SERVER: 'ns.example.test' is not an IP address",
        ),
        (a, &[("DNS_SERVER", " ")], "start", 6, "DNS_SERVER is not set"),
        (a, &[("DNS_SERVER", "127.0.0.1 x")], "start", 6, "DNS_SERVER is to be an address"),
        (a, &[("DNS_SERVER", "127.0.0.1 53 53")], "start", 6, "DNS_SERVER is to be an address"),
        (
            a,
            &[("DNS_ZONE", "example.test\nsend")],
            "start",
            6,
            "DNS_ZONE: 'example.test\\nsend' is not a domain name",
        ),
        (a, &[("DNS_TTL", "60\nsend")], "start", 6, "DNS_TTL: '60\\nsend' is not a number of seconds"),
        (a, &[("DNS_TTL", "-1")], "start", 6, "DNS_TTL: '-1' is not a number"),
        // Nothing gets into nsupdate's script, nor is an option of dig's.
        (
            &["www.example.test\nsend", "1.1.1.1"],
            &[],
            "start",
            2,
            "ip: 'www.example.test\\nsend' is not a domain name",
        ),
        (&["www.example.test\n", "1.1.1.1"], &[], "start stop monitor", 2, "is not a domain name"),
        (&["www.example.test 60", "1.1.1.1"], &[], "start", 2, "is not a domain name"),
        (&["www..example.test", "1.1.1.1"], &[], "start", 2, "is not a domain name"),
        (&["@127.0.0.1", "1.1.1.1"], &[], "monitor", 2, "is not a domain name"),
        (&["", "1.1.1.1"], &[], "start", 2, "ip: '' is not a domain name"),
        (&[NAME, ""], &[], "start", 2, "target: '' is not an IP address"),
        (&[NAME, "1.1.1.1\nsend"], &[], "start", 2, "target: '1.1.1.1\\nsend' is not an IP address"),
        (
            &[NAME, "fe80::1%\nsend"],
            &[],
            "start stop monitor",
            2,
            "target: 'fe80::1%\\nsend' is not an IP address",
        ),
        (&[NAME, "www"], &[], "start", 2, "target: 'www' is not an IP address"),
        (&[NAME], &[], "start", 2, "usage: dns-record start|monitor|stop NAME ADDRESS"),
        (a, &[], "meta-data", 3, "usage: dns-record"),
    ];
    let before = bind.log().len();
    for (words, settings, actions, status, line) in cases {
        for action in actions.split(' ') {
            let words = [&[action], *words].concat();
            assert_says(run(&bind, &words, settings), *status, line);
        }
    }
    let log = bind.log();
    assert!(!log[before..].contains("adding an RR at"), "{log}");
}

#[test]
fn programs_that_are_missing_are_named() {
    let Some(bind) = Bind::start() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().display().to_string();
    let call = || run(&bind, &["start", NAME, "1.1.1.1"], &[("PATH", &path)]);
    assert_says(call(), 5, "nsupdate is not installed: apt-get install bind9-dnsutils");
    symlink("/bin/true", folder.path().join("nsupdate")).expect("a writable folder");
    assert_says(call(), 5, "dig is not installed");
}

/// It is sent no update, so that another node may try.
#[test]
fn a_server_that_answers_nothing_is_sent_no_update() {
    let Some(mut bind) = Bind::start() else { return };
    assert_says(run(&bind, &["start", NAME, "1.1.1.1"], &[]), 0, "");
    let all = |bind: &Bind, line: &str| {
        thread::scope(|scope| {
            for (action, target) in [("start", "2.2.2.2"), ("stop", "3.3.3.3"), ("monitor", "1.1.1.1")] {
                scope.spawn(move || assert_says(run(bind, &[action, NAME, target], &[]), 69, line));
            }
        });
    };
    bind.freeze();
    all(&bind, "no answer from 127.");
    bind.thaw();
    // It reads now what it was sent.
    assert_says(run(&bind, &["stop", NAME, "2.2.2.2"], &[]), 0, "was not 2.2.2.2");
    assert_eq!(addresses(&bind), [ip("1.1.1.1")], "{}", bind.log());
    bind.go_away();
    all(&bind, "no answer from 127.");
    bind.come_back();
    assert_says(run(&bind, &["start", NAME, "1.1.1.1"], &[]), 0, "");
    assert_says(run(&bind, &["monitor", NAME, "1.1.1.1"], &[]), 0, "");
}

/// Nobody knows what it has done, so that no other node may try yet.
#[test]
fn an_update_without_an_answer_may_have_been_made() {
    let Some(bind) = Bind::start() else { return };
    let server = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    let at = server.local_addr().expect("it is bound");
    let setting = format!("{} {}", at.ip(), at.port());
    thread::scope(|scope| {
        let updates = scope.spawn(|| {
            let mut updates = 0;
            let mut message = [0; 512];
            loop {
                let (length, client) = server.recv_from(&mut message).expect("our own socket");
                match message[2] >> 3 & 15 {
                    _ if length == 0 => return updates,
                    // A question comes back as its own answer, which is none, but not silence.
                    0 => {
                        message[2] |= 0x80;
                        server.send_to(&message[..length], client).expect("loopback leads everywhere");
                    }
                    _ => updates += 1,
                }
            }
        });
        for action in ["start", "stop"] {
            let found = run(&bind, &[action, NAME, "1.1.1.1"], &[("DNS_SERVER", &setting)]);
            assert_says(
                found,
                1,
                &format!("the update failed: no answer from {} port {}", at.ip(), at.port()),
            );
        }
        let end = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[], at));
        end.expect("loopback leads everywhere");
        assert!(updates.join().expect("it does not panic") > 1);
    });
}
