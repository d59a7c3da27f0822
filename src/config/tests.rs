//! Arguments one by one: what each is read as, and what is said of it.

use super::*;

const REQUIRED: &str = "username=FOO,password=BAR,ip=4.4.4.4,active_ip=1.1.1.1";

fn parse(argument: &str) -> Parsed {
    Options::parse(argument.as_bytes(), "https://robot/failover/")
}

fn texts(parsed: &Parsed) -> Vec<String> {
    parsed.remarks.iter().map(|remark| remark.text.clone()).collect()
}

/// Read without a remark.
#[track_caller]
fn all(argument: &str) -> Vec<Options> {
    let parsed = parse(argument);
    assert_eq!(texts(&parsed), [""; 0], "{argument}");
    parsed.options
}

#[track_caller]
fn good(argument: &str) -> Options {
    all(argument).remove(0)
}

fn password(options: &Options) -> Vec<u8> {
    options.login.password.read().unwrap()
}

#[track_caller]
fn bad(argument: &str) -> Vec<String> {
    let parsed = parse(argument);
    let refused = parsed.remarks.iter().any(|remark| remark.weight != Weight::Doubtful);
    assert!(refused, "{argument} was accepted");
    texts(&parsed)
}

/// Accepted, with one doubt.
#[track_caller]
fn check_doubt(argument: &str, expected: &str) -> Options {
    let mut parsed = parse(argument);
    assert_eq!(texts(&parsed), [expected], "{argument}");
    assert_eq!(parsed.remarks[0].weight, Weight::Doubtful, "{argument}");
    parsed.options.remove(0)
}

/// One problem, and its whole text.
#[track_caller]
fn check_bad(argument: &str, expected: &str) {
    assert_eq!(bad(argument), [expected], "{argument}");
}

#[test]
fn reads_the_seeds_configuration() {
    let options = good(REQUIRED);
    assert_eq!(options.login.username, b"FOO");
    assert_eq!(password(&options), b"BAR");
    assert_eq!(options.ip.to_string(), "4.4.4.4");
    assert_eq!(options.active_ip, Some([1, 1, 1, 1].into()));
    assert_eq!(options.timeout, Duration::from_secs(60));
    assert!(options.url == "https://robot/failover/4.4.4.4" && !options.ssl_no_verify);
}

#[test]
fn knows_the_older_spellings() {
    let options =
        good("user=u,pass=p\\,q=r,ip=2a01:4f8:fff1::,active_server_ip=2a01:4f8:0:5176::,timeout=0.5");
    assert_eq!(password(&options), b"p,q=r");
    assert_eq!(options.timeout, Duration::from_millis(500));
    good(&format!("{REQUIRED},user=FOO,,"));
}

#[test]
fn ssl_no_verify_is_on_only_when_said() {
    for (value, off) in [("", true), ("=1", true), ("=true", true), ("=Yes", true), ("=on", true)]
        .iter()
        .chain(&[("=0", false), ("=false", false), ("=NO", false), ("=off", false)])
    {
        assert_eq!(good(&format!("{REQUIRED},ssl_no_verify{value}")).ssl_no_verify, *off, "{value}");
    }
    let options = check_doubt(
        &format!("{REQUIRED},ssl_no_verify=maybe"),
        "ssl_no_verify=maybe is neither yes nor no, so the API's TLS certificate is verified: expected 1, true, yes \
         or on (no verification), or 0, false, no or off",
    );
    assert!(!options.ssl_no_verify);
}

#[test]
fn names_every_problem_at_once() {
    let problems = bad("password=BAR,ip=4.4.4.444,active_ip=x,deadline=never");
    assert_eq!(problems.len(), 4, "{problems:?}");
    for (problem, key) in problems.iter().zip(["username", "ip=4.4.4.444", "active_ip=x", "deadline=never"]) {
        assert!(problem.starts_with(key), "{problem}");
    }
}

#[test]
fn names_a_missing_or_empty_key() {
    check_bad(
        "username=FOO,password=,ip=4.4.4.4,active_ip=1.1.1.1",
        "password is empty: write password=the webservice user's password, or password_file=a file that holds it",
    );
    check_doubt(
        "username,user=FOO,password=BAR,ip=4.4.4.4,active_ip=1.1.1.1",
        "username has no value: write username=...",
    );
}

#[test]
fn suggests_the_key_that_was_meant() {
    check_doubt(&format!("{REQUIRED},timout=5"), "unknown key \"timout\": did you mean timeout?");
    check_doubt(&format!("{REQUIRED}, timeout=5"), "unknown key \" timeout\": did you mean timeout?");
    let doubt = &texts(&parse(&format!("{REQUIRED},colour=red")))[0];
    assert!(doubt.starts_with("unknown key \"colour\": expected one of username, user,"), "{doubt}");
    let problems = bad("usrname=FOO,password=BAR,ip=4.4.4.4,active_ip=1.1.1.1");
    assert_eq!(problems[0], "unknown key \"usrname\": did you mean username?");
    assert!(problems[1].starts_with("username is missing"), "{problems:?}");
}

#[test]
fn never_shows_a_piece_of_the_password() {
    let hidden =
        "an unknown key, not shown, right behind password: if the password has a comma, write it as \\,";
    for rest in ["hunter2", "hunter2=x", "a,hunter2", "ip2", "user"] {
        let argument = format!("username=FOO,password=BAR,{rest},ip=4.4.4.4,active_ip=1.1.1.1");
        check_doubt(&argument, hidden);
    }
    check_doubt(
        "username=FOO,password=BAR,timout=3,ip=4.4.4.4,active_ip=1.1.1.1",
        "unknown key \"timout\": did you mean timeout?",
    );
    let options = check_doubt(
        &format!("{REQUIRED},pass=hunter2"),
        "password/pass is given twice with different values: the last one counts",
    );
    assert_eq!(password(&options), b"hunter2");
}

#[test]
fn rejects_what_is_no_address() {
    check_bad(
        "username=FOO,password=BAR,ip=2a01:4f8:fff1::/64,active_ip=2a01:4f8::",
        "ip=2a01:4f8:fff1::/64 is no IP address: expected the failover IP, like 4.4.4.4 or \
         2a01:4f8:fff1::, without a prefix length",
    );
    check_bad(
        "username=FOO,password=BAR,ip=4.4.4.4,active_ip=2a01:4f8::",
        "ip=4.4.4.4 and active_ip=2a01:4f8:: are of different families: there must be one active_ip of each \
         family of ip",
    );
}

/// What C's atoi() made of it, but never no limit.
#[test]
fn reads_a_timeout_that_is_none_as_the_c_plugin_did() {
    for (value, expected) in [
        ("0", 60),
        ("0.0", 60),
        ("-1", 60),
        ("abc", 60),
        ("inf", 60),
        ("", 60),
        ("7200", 3600),
        ("1e3", 1),
        ("60s", 60),
        ("30 seconds", 30),
        ("+5", 5),
        ("1.2.3", 1),
        ("99999999999999999999999", 3600),
    ] {
        let expected_text = format!(
            "timeout={value} is no timeout: taken as {expected}; expected seconds, whole or decimal, above 0 and at \
             most 3600"
        );
        let options = check_doubt(&format!("{REQUIRED},timeout={value}"), &expected_text);
        assert_eq!(options.timeout, Duration::from_secs(expected), "{value}");
    }
    assert_eq!(good(&format!("{REQUIRED},timeout=3600")).timeout, Duration::from_secs(3600));
}

/// Everything that the C plugin took and that could still work, with what becomes of it.
#[test]
fn what_the_c_plugin_took_still_starts() {
    let base = "https://robot/failover/4.4.4.4";
    // What is added or replaced; which IP then goes where, by which URL.
    for (argument, ip, target, url) in [
        (format!("{REQUIRED},colour=red"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},colour"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},url"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED}, ip=5.5.5.5"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},ip=5.5.5.5"), "5.5.5.5", "1.1.1.1", "https://robot/failover/5.5.5.5"),
        (format!("{REQUIRED},active_server_ip=2.2.2.2"), "4.4.4.4", "2.2.2.2", base),
        (REQUIRED.replace("=1.1.1.1", "= 1.1.1.1"), "4.4.4.4", "1.1.1.1", base),
        (REQUIRED.replace("=4.4.4.4", "=4.4.4.4 "), "4.4.4.4", "1.1.1.1", base),
        (REQUIRED.replace("FOO", "FOO:BAR"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},url="), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},url=https://u:p@robot/failover/4.4.4.4"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},url=robot/failover/4.4.4.4"), "4.4.4.4", "1.1.1.1", base),
        (
            format!("{REQUIRED},url=127.0.0.1:80/failover/4.4.4.4"),
            "4.4.4.4",
            "1.1.1.1",
            "http://127.0.0.1:80/failover/4.4.4.4",
        ),
        (format!("{REQUIRED},url= {base} "), "4.4.4.4", "1.1.1.1", base),
        (REQUIRED.replace("4.4.4.4", "main") + ",url=" + base, "4.4.4.4", "1.1.1.1", base),
        (REQUIRED.replace("4.4.4.4", "5.5.5.5") + ",url=" + base, "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},timeout=0"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},timeout=soon"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},ssl_no_verify="), "4.4.4.4", "1.1.1.1", base),
    ] {
        let parsed = parse(&argument);
        let doubts: Vec<&Remark> = parsed.remarks.iter().collect();
        assert!(!doubts.is_empty(), "without a word: {argument}");
        assert!(doubts.iter().all(|remark| remark.weight == Weight::Doubtful), "{argument}: {doubts:?}");
        let [one] = &parsed.options[..] else { panic!("{argument}") };
        assert_eq!(one.ip.to_string(), ip, "{argument}");
        assert_eq!(one.active_ip.map(|target| target.to_string()).as_deref(), Some(target), "{argument}");
        assert_eq!(one.url, url, "{argument}");
        assert!(!one.ssl_no_verify, "{argument}");
    }
    // What it needed, or could never have worked with.
    for key in ["username", "password", "ip"] {
        let argument = REQUIRED.split(',').filter(|item| !item.starts_with(&format!("{key}=")));
        assert!(bad(&argument.collect::<Vec<_>>().join(","))[0].starts_with(&format!("{key} is missing")));
    }
}

#[test]
fn deadline_and_verify_have_defaults_and_bounds() {
    let options = good(&format!("{REQUIRED},timeout=7"));
    assert_eq!((options.deadline, options.verify), (Duration::from_secs(21), Duration::from_secs(300)));
    let options = good(&format!("{REQUIRED},deadline=2.5,verify=0"));
    assert_eq!((options.deadline, options.verify), (Duration::from_millis(2500), Duration::ZERO));
    check_bad(
        &format!("{REQUIRED},deadline=0"),
        "deadline=0 is no deadline: expected seconds, whole or decimal, above 0 and at most 86400",
    );
    check_bad(
        &format!("{REQUIRED},verify=never"),
        "verify=never is no verify: expected 0 (never), or seconds, whole or decimal, above 0 and at most 86400",
    );
}

#[test]
fn rejects_a_url_without_showing_it() {
    for url in [
        "ftp://host/",
        "https:///x",
        "http://u:hunter2@ho st/",
        "http://ho st/",
        "http://host:99999/",
        "http://[::1]:0/",
    ] {
        for problem in bad(&format!("{REQUIRED},url={url}")) {
            assert!(problem.starts_with("url ") && !problem.contains("hunter2"), "{problem}");
        }
    }
    let url = "https://host:8080/failover/4.4.4.4?x=y";
    assert_eq!(good(&format!("{REQUIRED},url={url}")).url, url);
}

#[test]
fn routes_to_this_host_where_nothing_else_is_said() {
    assert_eq!(good("user=u,pass=p,ip=4.4.4.4").active_ip, None);
    assert_eq!(good("user=u,pass=p,ip=2a01:4f8:fff1::").active_ip, None);
}

#[test]
fn a_failover_ip_is_not_routed_to_itself() {
    check_bad(
        "user=u,pass=p,ip=4.4.4.4;5.5.5.5,active_ip=5.5.5.5",
        "ip=5.5.5.5 and active_ip=5.5.5.5 are the same address: a failover IP cannot be routed to itself; expected the \
         main IP of the server to route to, like 1.1.1.1, or for IPv6 its main net, like 2a01:4f8:0:5176::",
    );
    let problem = &bad("user=u,pass=p,ip=2a01:4f8:fff1::,active_ip=2a01:4f8:fff1:0:1::")[0];
    assert!(
        problem.starts_with("ip=2a01:4f8:fff1:: and active_ip=2a01:4f8:fff1:0:1:: are of one /64 net: "),
        "{problem}"
    );
}

#[test]
fn one_hook_may_have_several_ips() {
    let several = "user=u,pass=p,ip=4.4.4.4;2a01:4f8:fff1::;5.5.5.5,active_ip=2a01:4f8::;1.1.1.1";
    let found = all(several);
    let pairs: Vec<String> =
        found.iter().map(|one| format!("{} → {}", one.ip, one.active_ip.unwrap())).collect();
    assert_eq!(pairs, ["4.4.4.4 → 1.1.1.1", "2a01:4f8:fff1:: → 2a01:4f8::", "5.5.5.5 → 1.1.1.1"]);
    assert_eq!(all(&format!("{several},url=http://h/x/{{ip}}"))[1].url, "http://h/x/2a01:4f8:fff1::");
    check_bad(
        &format!("{several},url=http://h/x"),
        "url leads to one place, but there are several IPs: write {ip} where it stands",
    );
    check_bad("user=u,pass=p,ip=4.4.4.4;4.4.4.4,active_ip=1.1.1.1", "ip=4.4.4.4;4.4.4.4 names 4.4.4.4 twice");
    check_bad(
        "user=u,pass=p,ip=4.4.4.4,active_ip=1.1.1.1;2.2.2.2",
        "active_ip=1.1.1.1;2.2.2.2 has more than one of IPv4: keep one",
    );
}

#[test]
fn a_password_may_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let argument = format!("user=u,password_file={},ip=4.4.4.4,active_ip=1.1.1.1", path.display());
    let expected = "No such file or directory (os error 2): expected a file that holds the password";
    check_bad(&argument, &format!("password_file={}: {expected}", path.display()));
    for (content, expected) in
        [("hunter2\n", "hunter2"), ("hunter2\r\n", "hunter2"), ("a\n\n", "a\n"), ("b", "b")]
    {
        std::fs::write(&path, content).unwrap();
        assert_eq!(password(&good(&argument)), expected.as_bytes());
    }
    std::fs::write(&path, "\n").unwrap();
    assert!(bad(&argument)[0].contains("it is empty"));
    std::fs::write(&path, "x".repeat(5000)).unwrap();
    assert!(bad(&argument)[0].contains("too long for a password"));
    std::fs::write(&path, "x").unwrap();
    check_bad(&format!("{argument},pass=x"), "password and password_file are both given: keep one");
}
