//! What is started beside an instance that runs with the same ini, a command or a start that is refused, touches nothing
//! of that instance.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use lab::legion::LEGION;
use lab::node::{Node, free_address};
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, PASSWORD, USERNAME, wait_until};

/// What an instance with `vacuum` removes at its end.
const FILES: [&str; 5] = ["pidfile", "pidfile2", "safe-pidfile", "safe-pidfile2", "web.sock"];

/// Every file in the folder but what was started leaves there itself, with its content.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: &str| (name.to_string(), fs::read(folder.join(name)).unwrap_or_default());
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("our own folder")
        .map(|entry| entry.expect("as above").file_name().into_string().expect("UTF-8"))
        // To read the FIFO or the log would wait, or show what the instance itself does meanwhile.
        .filter(|name| name != "uwsgi.log" && name != "fifo")
        .collect();
    names.sort();
    names.iter().map(|name| read(name)).collect()
}

/// Runs uWSGI to its end with this ini.
fn run(uwsgi: Uwsgi, ini: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(uwsgi.program());
    command.arg("--ini").arg(ini).args(options).current_dir(ini.parent().expect("in a folder"));
    command.output().expect("uWSGI starts")
}

#[test]
fn commands_and_refused_starts_touch_nothing_of_the_instance_that_runs() {
    for uwsgi in Uwsgi::ALL {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path();
        let in_folder = |name: &str| path.join(name).display().to_string();
        let mut ini = format!(
            "plugin = hetzner\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\nlegion-death-on-lord-error = 30\n\
             legion-lord = {LEGION} hetzner-failoverip:username={USERNAME},password={PASSWORD},ip=127.0.0.9,\
             active_ip=127.0.0.1,url=http://127.0.0.1:9/x,timeout=1,deadline=60\n\
             vacuum = true\nlogto = {}\nlog-truncate = true\nmaster-fifo = {}\n\
             hook-asap = write:{} started\nexec-asap = echo started >> {}\n",
            free_address(),
            in_folder("uwsgi.log"),
            in_folder("fifo"),
            in_folder("asap"),
            in_folder("asap2"),
        );
        for name in &FILES[..4] {
            ini += &format!("{name} = {}\n", in_folder(name));
        }
        ini += &format!("socket = {}\n", in_folder("web.sock"));
        ini += &format!("hook-as-user-atexit = write:{} ended\n", in_folder("ended"));
        ini += &format!("exec-as-user-atexit = echo ended >> {}\n", in_folder("ended2"));
        let node = Node::start(uwsgi, path, &ini, &[]);
        let all_there = || FILES.iter().all(|name| path.join(name).exists());
        assert!(wait_until(LIMIT, || all_there() && node.stats().is_some()), "{}", node.log());
        let before = content(path);
        let log = || fs::read_to_string(path.join("uwsgi.log")).expect("it logs there");
        let first_line = log().lines().next().expect("it has logged").to_string();

        let whole = fs::read_to_string(path.join("node.ini")).expect("Node writes it");
        let elsewhere = tempfile::tempdir().expect("a temporary folder");
        let right = elsewhere.path().join("right.ini");
        fs::write(&right, &whole).expect("a writable folder");
        let wrong = elsewhere.path().join("wrong.ini");
        fs::write(&wrong, whole.replace("ip=127.0.0.9", "ip=nowhere")).expect("a writable folder");
        let check = |ini: &Path, options: &[&str], codes: &[i32]| {
            let output = run(uwsgi, ini, options);
            let said = [&output.stdout[..], &output.stderr[..]].concat();
            let said = String::from_utf8_lossy(&said);
            let what = format!("{uwsgi} {options:?} {:?}: {said}", output.status);
            assert!(output.status.code().is_some_and(|code| codes.contains(&code)), "{what}");
            assert!(said.contains("127.0.0.9") || said.contains("ip=nowhere"), "nothing is said: {what}");
            assert_eq!(content(path), before, "{what}");
            assert!(log().starts_with(&first_line), "the log is cut: {what}");
        };
        for option in ["check", "status", "release"] {
            check(&right, &[&format!("--hetzner-{option}")], &[1]);
            check(&right, &[&format!("--hetzner-{option}"), "--hetzner-json"], &[1]);
            check(&wrong, &[&format!("--hetzner-{option}")], &[1]);
        }
        check(&wrong, &[], &[1]);
        assert!(node.stats().is_some(), "it serves no more: {}", node.log());
    }
}
