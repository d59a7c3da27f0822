//! The options of a Legion: what is told of them at start, what the commands say of them, and what a node's checks find.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::slice::from_ref;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lab::legion::LEGION;
use lab::node::{Node, free_address};
use lab::process::{SIGHUP, SIGINT, is_root};
use lab::robot::Config;
use lab::scene::on_each_uwsgi;
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, wait_until};

use crate::commands::{document, hook, robot, run_in, stdout};
use crate::startup::{NO_WARNING, right, start};

on_each_uwsgi! {
    every_problem_with_an_option_is_told
    options_stand_anywhere_above_the_plugin_or_on_the_command_line
    what_is_doubtful_is_a_warning
    commands_and_folders_are_judged_as_who_uwsgi_will_be
    a_reload_with_wrong_options_goes_on_without_them
    the_commands_say_how_this_node_is
    the_commands_check_as_who_uwsgi_will_be
    a_node_says_when_it_is_sick_and_when_it_is_well
    no_check_holds_up_another
    uwsgi_notices_no_command_and_none_outlives_it
}

const CHECK_EACH_SECOND: &str =
    "legion-check-interval = failover 1\nlegion-check-fall = failover 1\nlegion-check-rise = failover 1\n";

/// A service that answers each request with this status; 0: not at all.
struct Service {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn start(status: u16) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (status, asked) = (Arc::new(AtomicU16::new(status)), Arc::<Mutex<Vec<String>>>::default());
        let service = Service { address, status: Arc::clone(&status), asked: Arc::clone(&asked) };
        thread::spawn(move || {
            let mut silent = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                asked.lock().expect("no panic").push(request);
                match status.load(Ordering::Relaxed) {
                    0 => silent.push(stream),
                    status => answer(stream, status),
                }
            }
        });
        service
    }

    fn url(&self) -> String {
        format!("http://{}/health?token=NOT-A-REAL-TOKEN", self.address)
    }

    fn set(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }
}

fn answer(mut stream: TcpStream, status: u16) {
    let _ =
        write!(stream, "HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
}

/// An address that refuses.
fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn every_problem_with_an_option_is_told(uwsgi: Uwsgi) {
    let of = "Legion failover, ";
    let cases = [
        ("legion-check = nope /bin/true", "legion-check: there is no Legion nope: expected failover"),
        ("legion-nopreempt =", "legion-nopreempt: the name of the Legion is missing"),
        ("legion-check = failover", "legion-check: what to check is missing"),
        ("legion-check = failover https://127.0.0.1/", "legion-check: https is not supported"),
        ("legion-check = failover ftp://127.0.0.1/", "legion-check: ftp:// is no check"),
        ("legion-check = failover tcp://127.0.0.1", "legion-check: the URL has no port"),
        ("legion-check = failover http://a:NOT-A-REAL-PASSWORD@b/", "legion-check: the URL contains a login"),
        ("legion-check = failover bin/true", "legion-check: \"bin/true\" is no check"),
        (
            "legion-check = failover /nonexistent/x -a",
            "legion-check: cannot run /nonexistent/x: No such file",
        ),
        ("legion-check = failover /etc/passwd", "legion-check: cannot run /etc/passwd: Permission denied"),
        ("legion-check = failover /etc", "legion-check: cannot run /etc: Permission denied"),
        (
            "legion-check-timeout = failover 0",
            "legion-check-timeout: \"0\" is not valid: expected a whole number",
        ),
        ("legion-preempt-delay = failover 1.5", "legion-preempt-delay: \"1.5\" is not valid"),
        (
            "legion-check-fall = failover 2\nlegion-check-fall = failover 4",
            "legion-check-fall: given twice with different values: keep one",
        ),
        ("legion-drain-file = failover drain", "legion-drain-file: \"drain\" is relative"),
    ];
    let lines: String = cases.iter().map(|(line, _)| format!("{line}\n")).collect();
    let told = start(uwsgi, &right(), &format!("{NO_WARNING}{lines}"), true);
    for (line, expected) in cases {
        let whole = if line.contains("failover") { format!("{of}{expected}") } else { expected.into() };
        assert_eq!(told.iter().filter(|told| told.starts_with(&whole)).count(), 1, "{whole}: {told:#?}");
    }
    assert_eq!(told.len(), cases.len(), "{told:#?}");

    for (option, valor, expected) in [
        (
            "legion-drain-file = failover /nonexistent/drain",
            1,
            "cannot look into its folder /nonexistent: No such file",
        ),
        (
            "legion-drain-file = failover /etc/passwd/drain",
            1,
            "cannot look into its folder /etc/passwd: Not a directory",
        ),
        (
            "legion-nopreempt = failover",
            16_384,
            "this node's valor is 16384: with this option it has to be from 1 to 16383",
        ),
        ("legion-preempt-delay = failover 3", 70_000, "this node's valor is 70000"),
        ("legion-check = failover /bin/true", 0, "this node's valor is 0 (an arbiter)"),
        ("legion-drain-file = failover /tmp/drain", 65_535, "this node's valor is 65535"),
    ] {
        let told = start_with(uwsgi, valor, option, true);
        let name = option.split(' ').next().expect("an option");
        let [line] = &told[..] else { panic!("{option}: {told:?}") };
        assert!(line.starts_with(&format!("{of}{name}: {expected}")), "{line}");
    }
    // What ranks nothing leaves the valor as it was.
    assert_eq!(start_with(uwsgi, 65_535, "legion-silent-stop = failover", false), [""; 0]);
    assert_eq!(start_with(uwsgi, 16_383, "legion-nopreempt = failover", false), [""; 0]);
}

/// The same as [`start`], with this valor.
fn start_with(uwsgi: Uwsgi, valor: u64, options: &str, ends: bool) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(uwsgi, folder.path(), &ini(valor, options), &[]);
    if ends {
        let status = node.wait_for_exit(LIMIT).unwrap_or_else(|| panic!("it goes on:\n{}", node.log()));
        assert_eq!(status.code(), Some(1), "{}", node.log());
        return node.lines();
    }
    node.wait_for_log("spawned uWSGI worker 1", LIMIT);
    // What it says once it is up is about its membership.
    let log = node.log();
    let before = log.split("spawned uWSGI").next().unwrap_or_default();
    before.lines().filter_map(|line| line.strip_prefix("[hetzner-failoverip] ")).map(str::to_string).collect()
}

fn ini(valor: u64, options: &str) -> String {
    let (address, hook) = (free_address(), right());
    format!(
        "plugin = hetzner\nenable-metrics = true\nlegion-freq = 1\nlegion = {LEGION} {address} {valor} \
         aes-128-cbc:secret1\nlegion-lord = {LEGION} {hook}\n{NO_WARNING}{options}\n"
    )
}

fn options_stand_anywhere_above_the_plugin_or_on_the_command_line(uwsgi: Uwsgi) {
    let robot = robot(Config::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let service = Service::start(200);
    let check = format!("{LEGION} {}", service.url());
    let checked = |output: std::process::Output| {
        let said = stdout(&output);
        let line = format!("ok       failover: http://{}/health: HTTP 200", service.address);
        assert!(said.lines().any(|known| known == line), "{output:?}");
    };
    // `command_in` puts `plugin` first, and uWSGI puts what stands on the command line last.
    checked(run_in(
        uwsgi,
        folder.path(),
        from_ref(&hook(&robot)),
        "",
        &["--legion-check", &check, "--hetzner-check"],
    ));
    let mut command = crate::commands::command_in(uwsgi, folder.path(), from_ref(&hook(&robot)), "");
    let file = folder.path().join("node.ini");
    let ini = fs::read_to_string(&file)
        .expect("it is there")
        .replace("[uwsgi]\n", &format!("[uwsgi]\nlegion-check = {check}\nlegion-check-rise = {LEGION} 3\n"));
    fs::write(&file, ini).expect("our own file");
    checked(command.arg("--hetzner-check").output().expect("uWSGI starts"));
    let shown = command.arg("--show-config").output().expect("uWSGI starts");
    let shown = format!("{}{}", stdout(&shown), String::from_utf8_lossy(&shown.stderr));
    assert!(!shown.contains("unknown option"), "{shown}");
}

fn what_is_doubtful_is_a_warning(uwsgi: Uwsgi) {
    for (options, expected) in [
        (
            "legion-check-interval = failover 2",
            "Legion failover, legion-check-interval is set, but there is no legion-check",
        ),
        (
            "legion-nopreempt = failover\nlegion-preempt-delay = failover 2",
            "Legion failover, legion-preempt-delay has no effect, because legion-nopreempt is set",
        ),
        (
            "legion-check = failover /bin/true\nlegion-check-timeout = failover 9",
            "Legion failover, legion-check-timeout is 9 s and legion-check-interval 5 s",
        ),
        (
            "legion-check = failover /bin/true >/dev/null",
            "Legion failover, legion-check: /bin/true is run without a shell, so >/dev/null is an argument",
        ),
        ("legion-chek = failover /bin/true", "unknown option legion-chek: did you mean legion-check?"),
    ] {
        let told = start_with(uwsgi, 1, options, false);
        let [line] = &told[..] else { panic!("{options}: {told:?}") };
        assert!(line.starts_with(&format!("warning: {expected}")), "{line}");
    }
}

fn commands_and_folders_are_judged_as_who_uwsgi_will_be(uwsgi: Uwsgi) {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own");
    mode(folder.path(), 0o755);
    let (closed, program) = (folder.path().join("closed"), folder.path().join("check"));
    fs::create_dir(&closed).expect("a writable folder");
    fs::write(&program, "#!/bin/sh\nexit 0\n").expect("a writable folder");
    mode(&closed, 0o700);
    mode(&program, 0o750);
    let options = format!(
        "uid = nobody\ngid = 65534\nlegion-check = failover {}\nlegion-drain-file = failover {}/drain",
        program.display(),
        closed.display()
    );
    let told = start_with(uwsgi, 1, &options, true);
    for what in [
        format!("legion-check: cannot run {} as uid 65534: Permission denied", program.display()),
        format!(
            "legion-drain-file: cannot look into its folder {} as uid 65534: Permission denied",
            closed.display()
        ),
    ] {
        assert!(told.iter().any(|line| line.starts_with(&format!("Legion failover, {what}"))), "{told:?}");
    }
    for path in [&closed, &program] {
        chown(path, None, Some(65534)).expect("root may");
    }
    mode(&closed, 0o710);
    let told = start_with(uwsgi, 1, &options, false);
    let ours = |line: &&String| line.contains("legion-check") || line.contains("legion-drain-file");
    assert_eq!(told.iter().filter(ours).count(), 0, "{told:?}");
}

fn a_reload_with_wrong_options_goes_on_without_them(uwsgi: Uwsgi) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let alarms = folder.path().join("alarms");
    let ini = ini(1, &format!("alarm = pager cmd:cat >> {}", alarms.display()))
        .replace("active_ip=", "alarm=pager,active_ip=");
    let node = Node::start(uwsgi, folder.path(), &ini, &[]);
    assert!(wait_until(LIMIT, || node.stats().is_some()), "{}", node.log());
    let path = folder.path().join("node.ini");
    let whole = fs::read_to_string(&path).expect("Node writes it");
    fs::write(&path, format!("{whole}legion-check = failover ftp://x/\n")).expect("our own file");
    node.signal(SIGHUP);
    let problem = "Legion failover, legion-check: ftp:// is no check";
    node.wait_for_log(problem, LIMIT);
    let starts = || node.log().matches("spawned uWSGI worker 1 ").count();
    assert!(wait_until(LIMIT, || starts() > 1 && node.stats().is_some()), "{}", node.log());
    let line = node.lines().into_iter().find(|line| line.starts_with(problem)).expect("it was there");
    assert!(line.ends_with("(this is a reload, so uWSGI keeps running)"), "{line}");
    let alarmed = || fs::read_to_string(&alarms).unwrap_or_default().contains(problem);
    assert!(wait_until(LIMIT, alarmed), "{}", node.log());
}

fn the_commands_say_how_this_node_is(uwsgi: Uwsgi) {
    let robot = robot(Config::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (service, refusing, drain) = (Service::start(200), refusing(), folder.path().join("drain"));
    let (url, shown) = (service.url(), format!("http://{}/health", service.address));
    let hook = hook(&robot);
    let sick = format!(
        "legion-check = {LEGION} {url}\nlegion-check = {LEGION} tcp://{refusing}\nlegion-check = {LEGION} /bin/sh -c \
         'exit 4' NOT-A-REAL-TOKEN\n"
    );
    let run = |lines: &str, options: &[&str]| run_in(uwsgi, folder.path(), from_ref(&hook), lines, options);

    service.set(302);
    let output = run(&sick, &["--hetzner-check"]);
    let said = stdout(&output);
    for line in [
        format!("ok       failover: {shown}: HTTP 302"),
        format!("ERROR    failover: tcp://{refusing}: connection refused"),
        "ERROR    failover: /bin/sh: exit status 4".into(),
    ] {
        assert!(said.lines().any(|known| known == line), "{line}: {said}");
    }
    assert!(!said.contains("NOT-A-REAL-TOKEN"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    let json = document(&run(&sick, &["--hetzner-check", "--hetzner-json"]));
    assert_eq!((&json["exit_status"], &json["legions"][0]["state"]), (&1.into(), &"sick".into()), "{json}");
    let reason = format!("tcp://{refusing}: connection refused; /bin/sh: exit status 4");
    assert_eq!(json["legions"][0]["reason"], reason, "{json}");
    assert_eq!(json["legions"][0]["steps"].as_array().map(Vec::len), Some(3), "{json}");

    // Where the IP is remains what the exit status tells.
    let output = run(&sick, &["--hetzner-status"]);
    let said = stdout(&output);
    assert!(said.starts_with(&format!("warning  failover: this node is sick: {reason}\n")), "{said}");
    assert_eq!(output.status.code(), Some(2), "{said}");

    let well = format!("legion-check = {LEGION} {url}\nlegion-drain-file = {LEGION} {}\n", drain.display());
    let said = stdout(&run(&well, &["--hetzner-status"]));
    assert!(said.starts_with("ok       failover: this node is healthy\n"), "{said}");
    let output = run(&well, &["--hetzner-check"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    File::create(&drain).expect("a writable folder");
    let said = stdout(&run(&well, &["--hetzner-status"]));
    let line =
        format!("warning  failover: this node is drained: the drain file {} is there\n", drain.display());
    assert!(said.starts_with(&line), "{said}");
    let output = run(&well, &["--hetzner-check", "--hetzner-json"]);
    let json = document(&output);
    assert_eq!((output.status.code(), &json["legions"][0]["state"]), (Some(0), &"drained".into()), "{json}");

    // Nothing is said where there is nothing to check, or of another Legion.
    for (lines, legion) in [("legion-nopreempt = failover\n", LEGION), (&sick, "another")] {
        let json = document(&run(lines, &["--hetzner-status", "--hetzner-json", "--hetzner-legion", legion]));
        assert_eq!(json["legions"].as_array().map(Vec::len), Some(0), "{json}");
    }
}

/// What only root can read is no proof of health.
fn the_commands_check_as_who_uwsgi_will_be(uwsgi: Uwsgi) {
    if !is_root() {
        return;
    }
    let robot = robot(Config::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let secret = folder.path().join("secret");
    fs::write(&secret, "").expect("a writable folder");
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own");
    mode(folder.path(), 0o755);
    mode(&secret, 0o600);
    let lines = format!("uid = 65534\ngid = 65534\nlegion-check = {LEGION} /bin/cat {}\n", secret.display());
    let hooks = [hook(&robot)];
    let state = |option: &str| {
        let json = document(&run_in(uwsgi, folder.path(), &hooks, &lines, &[option, "--hetzner-json"]));
        json["legions"][0]["state"].as_str().map(str::to_string)
    };
    for option in ["--hetzner-check", "--hetzner-status"] {
        mode(&secret, 0o600);
        assert_eq!(state(option).as_deref(), Some("sick"), "{option}");
        mode(&secret, 0o644);
        assert_eq!(state(option).as_deref(), Some("healthy"), "{option}");
    }
}

fn metric(node: &Node, name: &str) -> Option<i64> {
    node.stats()?["metrics"][format!("hetzner.failover.{name}")]["value"].as_i64()
}

fn a_node_says_when_it_is_sick_and_when_it_is_well(uwsgi: Uwsgi) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (service, drain) = (Service::start(200), folder.path().join("drain"));
    let options = format!(
        "{CHECK_EACH_SECOND}legion-check = {LEGION} {}\nlegion-drain-file = {LEGION} {}",
        service.url(),
        drain.display()
    );
    let node = Node::start(uwsgi, folder.path(), &ini(1, &options), &[]);
    let is = |health: i64, drained: i64| {
        let found = || (metric(&node, "health"), metric(&node, "drained"));
        let expected = (Some(health), Some(drained));
        assert!(wait_until(LIMIT, || found() == expected), "{expected:?}: {:?}\n{}", found(), node.log());
    };
    is(1, 0);
    assert!(!node.log().contains("this node is"), "it was healthy from the beginning:\n{}", node.log());
    service.set(404);
    is(0, 0);
    node.wait_for_log(
        &format!("failover: this node is sick: http://{}/health: HTTP 404\n", service.address),
        LIMIT,
    );
    File::create(&drain).expect("a writable folder");
    is(0, 1);
    node.wait_for_log(&format!("failover: this node is drained: {} is there\n", drain.display()), LIMIT);
    service.set(200);
    is(1, 1);
    fs::remove_file(&drain).expect("our own file");
    is(1, 0);
    node.wait_for_log(
        &format!("failover: this node is healthy: http://{}/health: HTTP 200\n", service.address),
        LIMIT,
    );
    let asked = service.asked.lock().expect("no panic").first().cloned().expect("it was asked");
    assert!(asked.starts_with("GET /health?token=NOT-A-REAL-TOKEN HTTP/1.1\r\n"), "{asked}");
    assert!(!node.log().contains("NOT-A-REAL-TOKEN"), "{}", node.log());
}

/// One that hangs is sick, and the others go on meanwhile.
fn no_check_holds_up_another(uwsgi: Uwsgi) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (hangs, answers, count) = (Service::start(0), Service::start(200), folder.path().join("count"));
    // The test is over long before a timeout of ten minutes is.
    let options = format!(
        "{CHECK_EACH_SECOND}legion-check-timeout = {LEGION} 600\nlegion-check = {LEGION} {}\nlegion-check = {LEGION} \
         /bin/sleep 1000\nlegion-check = {LEGION} {}\nlegion-check = {LEGION} /bin/sh -c 'echo >> {}'",
        hangs.url(),
        answers.url(),
        count.display()
    );
    let node = Node::start(uwsgi, folder.path(), &ini(1, &options), &[]);
    let times = || answers.asked.lock().expect("no panic").len();
    let runs = || fs::read(&count).map_or(0, |lines| lines.len());
    assert!(wait_until(LIMIT, || times() >= 4 && runs() >= 4), "{} {}: {}", times(), runs(), node.log());
    assert_eq!(hangs.asked.lock().expect("no panic").len(), 1, "{}", node.log());
    assert_eq!(metric(&node, "health"), Some(-1), "{}", node.log());
    drop(node);

    let options = options.replace("failover 600", "failover 1");
    let node = Node::start(uwsgi, folder.path(), &ini(1, &options), &[]);
    node.wait_for_log("failover: this node is sick: ", LIMIT);
    for (what, why) in
        [("/health", "no complete answer within 1 s"), ("/bin/sleep", "did not end within 1 s, killed")]
    {
        let said = || node.lines().iter().any(|line| line.contains(&format!("{what}: {why}")));
        assert!(wait_until(LIMIT, said), "{what}: {}", node.log());
    }
}

/// The processes whose arguments hold `mark`.
fn marked(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("procfs").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(mark)).count()
}

/// The zombies that `parent` has not waited for.
fn zombies(parent: u32) -> usize {
    let processes = fs::read_dir("/proc").expect("procfs").flatten();
    let stats = processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    stats.filter(|stat| stat.contains(&format!(") Z {parent} "))).count()
}

fn uwsgi_notices_no_command_and_none_outlives_it(uwsgi: Uwsgi) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (count, mark) = (folder.path().join("count"), format!("mark-{}", fastrand::u64(..)));
    let options = format!(
        "{CHECK_EACH_SECOND}legion-check-timeout = {LEGION} 600\nlegion-check = {LEGION} /bin/sh -c 'echo >> {}; exit \
         3'\nlegion-check = {LEGION} /bin/sh -c 'while :; do sleep 1; done' {mark}",
        count.display()
    );
    let mut node = Node::start(uwsgi, folder.path(), &ini(1, &options), &[]);
    // The stats server may show it, too: no more than its own argument.
    let runs = || fs::read(&count).map_or(0, |lines| lines.len());
    assert!(wait_until(LIMIT, || runs() >= 4 && marked(&mark) == 1), "{}", node.log());
    node.wait_for_log("/bin/sh: exit status 3", LIMIT);
    node.signal(SIGHUP);
    let starts = || node.log().matches("spawned uWSGI worker 1 ").count();
    assert!(wait_until(LIMIT, || starts() > 1 && node.stats().is_some()), "{}", node.log());
    let before = runs();
    assert!(wait_until(LIMIT, || runs() >= before + 4 && marked(&mark) == 1), "{}", node.log());
    let zombies = || zombies(node.id());
    // The one of a check that runs right now is waited for at once.
    assert!(wait_until(LIMIT, || zombies() == 0), "{} zombies:\n{}", zombies(), node.log());
    assert!(!node.log().contains("subprocess "), "{}", node.log());
    let began = Instant::now();
    node.signal(SIGINT);
    assert!(node.wait_for_exit(LIMIT).is_some(), "{}", node.log());
    // Its time is not over yet.
    assert!(wait_until(LIMIT, || marked(&mark) == 0) && began.elapsed() < Duration::from_secs(600));
}
