//! Single arguments: what each is read as, and the remarks about it.

use super::*;
use crate::config::Weight;

const REQUIRED: &str = "username=FOO,password=BAR,ip=4.4.4.4,active_ip=1.1.1.1";

fn read(argument: &str) -> Parsed {
    parse(argument.as_bytes())
}

fn texts(parsed: &Parsed) -> Vec<String> {
    parsed.remarks.iter().map(|remark| remark.to_string()).collect()
}

/// Read without a remark.
#[track_caller]
fn all(argument: &str) -> Vec<Options> {
    let parsed = read(argument);
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
    let parsed = read(argument);
    let refused = parsed.remarks.iter().any(|remark| remark.weight() != Weight::Doubtful);
    assert!(refused, "{argument} was accepted");
    texts(&parsed)
}

/// Accepted, with one remark.
#[track_caller]
fn check_doubt(argument: &str, expected: &str) -> Options {
    let mut parsed = read(argument);
    assert_eq!(texts(&parsed), [expected], "{argument}");
    assert_eq!(parsed.remarks[0].weight(), Weight::Doubtful, "{argument}");
    parsed.options.remove(0)
}

/// Refused, with one remark.
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
    assert_eq!(options.url, "https://robot-ws.your-server.de/failover/4.4.4.4");
    let url = "https://host:8080/failover/4.4.4.4?x=y";
    assert_eq!(good(&format!("{REQUIRED},url={url}")).url, url);
    let common = read(REQUIRED).common;
    assert_eq!((common.timeout, common.deadline), (Duration::from_secs(60), Duration::from_secs(180)));
    assert!(common.verify == Duration::from_secs(300) && !common.ssl_no_verify && common.alarm.is_none());
}

#[test]
fn knows_the_older_spellings() {
    let options = good("user=u,pass=p\\,q=r,ip=2a01:4f8:fff1::,active_server_ip=2a01:4f8:0:5176::");
    assert_eq!(password(&options), b"p,q=r");
    assert_eq!(options.active_ip, Some("2a01:4f8:0:5176::".parse().unwrap()));
    good(&format!("{REQUIRED},user=FOO,,"));
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
    let how = "set password to the webservice user's password, or password_file to a file that contains it";
    let empty = REQUIRED.replace("BAR", "");
    check_bad(&empty, &format!("password is empty: {how}"));
    let expected = [
        "unknown key \"usrname\": did you mean username?",
        "username is missing: set username to the Robot webservice user",
    ];
    assert_eq!(bad(&REQUIRED.replace("username", "usrname")), expected);
}

#[test]
fn never_shows_a_piece_of_the_password() {
    let hidden = "unknown key right after password, not shown because it may be part of the password: write a comma in \
                  the password as \\,";
    for rest in ["hunter2", "user"] {
        check_doubt(&REQUIRED.replace("BAR", &format!("BAR,{rest}")), hidden);
    }
    let twice = "password/pass is given twice with different values: the last one is used";
    assert_eq!(password(&check_doubt(&format!("{REQUIRED},pass=hunter2"), twice)), b"hunter2");
}

#[test]
fn rejects_an_invalid_address_and_one_of_the_other_family() {
    check_bad(
        "username=FOO,password=BAR,ip=2a01:4f8:fff1::/64,active_ip=2a01:4f8::",
        "ip=2a01:4f8:fff1::/64 is not an IP address: expected the failover IP, like 4.4.4.4 or \
         2a01:4f8:fff1::, without a prefix length",
    );
    check_bad(
        "username=FOO,password=BAR,ip=4.4.4.4,active_ip=2a01:4f8::",
        "ip=4.4.4.4 and active_ip=2a01:4f8:: have different address families: active_ip needs one address for each \
         family of ip",
    );
}

/// Everything that the C plugin accepted and that could still work, with what it is read as.
#[test]
fn what_the_c_plugin_took_still_starts() {
    let base = &*format!("{BASE_URL}4.4.4.4");
    // Which IP is routed where, by which URL.
    for (argument, ip, target, url) in [
        (format!("{REQUIRED},colour=red"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},colour"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},url"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED}, ip=5.5.5.5"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},ip=5.5.5.5"), "5.5.5.5", "1.1.1.1", &base.replace("4.4.4.4", "5.5.5.5")),
        (format!("{REQUIRED},active_server_ip=2.2.2.2"), "4.4.4.4", "2.2.2.2", base),
        (REQUIRED.replace("=1.1.1.1", "= 1.1.1.1"), "4.4.4.4", "1.1.1.1", base),
        (REQUIRED.replace("=4.4.4.4", "=4.4.4.4 "), "4.4.4.4", "1.1.1.1", base),
        (REQUIRED.replace("FOO", "FOO:BAR"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},url="), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},url={}", base.replace("//", "//u:p@")), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},url={}", base.replace("https://", "")), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},url=127.0.0.1:80/x"), "4.4.4.4", "1.1.1.1", "http://127.0.0.1:80/x"),
        (format!("{REQUIRED},url= {base} "), "4.4.4.4", "1.1.1.1", base),
        (REQUIRED.replace("4.4.4.4", "main") + ",url=" + base, "4.4.4.4", "1.1.1.1", base),
        (REQUIRED.replace("4.4.4.4", "5.5.5.5") + ",url=" + base, "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},timeout=0"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},timeout=soon"), "4.4.4.4", "1.1.1.1", base),
        (format!("{REQUIRED},ssl_no_verify="), "4.4.4.4", "1.1.1.1", base),
    ] {
        let parsed = read(&argument);
        let doubts = &parsed.remarks;
        assert!(!doubts.is_empty(), "no remark: {argument}");
        assert!(doubts.iter().all(|remark| remark.weight() == Weight::Doubtful), "{argument}: {doubts:?}");
        let [one] = &parsed.options[..] else { panic!("{argument}") };
        assert_eq!(one.ip.to_string(), ip, "{argument}");
        assert_eq!(one.active_ip.map(|target| target.to_string()).as_deref(), Some(target), "{argument}");
        assert_eq!(one.url, url, "{argument}");
        assert!(!parsed.common.ssl_no_verify, "{argument}");
    }
    // It could never work without these.
    for key in ["username", "password", "ip"] {
        let argument = REQUIRED.split(',').filter(|item| !item.starts_with(&format!("{key}=")));
        assert!(bad(&argument.collect::<Vec<_>>().join(","))[0].starts_with(&format!("{key} is missing")));
    }
}

#[test]
fn routes_to_this_host_by_default() {
    assert!(all("user=u,pass=p,ip=4.4.4.4;2a01:4f8:fff1::").iter().all(|one| one.active_ip.is_none()));
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
        problem.starts_with("ip=2a01:4f8:fff1:: and active_ip=2a01:4f8:fff1:0:1:: are in the same /64 net: "),
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
        "url is the same for all failover IPs of the hook: write {ip} in place of the address",
    );
    check_bad(
        "user=u,pass=p,ip=4.4.4.4,active_ip=1.1.1.1;2.2.2.2",
        "active_ip=1.1.1.1;2.2.2.2 has more than one IPv4 address: keep one",
    );
}

#[test]
fn a_remark_about_several_ips_is_made_once() {
    let hook = "user=u,pass=p,ip=4.4.4.4;2a01:4f8:fff1::;5.5.5.5;2a01:4f8:fff2::";
    let expected = [
        "url has an invalid port: expected 1 to 65535",
        "url is not a valid URL: expected http://HOST/PATH or https://HOST/PATH",
    ];
    assert_eq!(bad(&format!("{hook},url=http://{{ip}}:99999/")), expected);
}
