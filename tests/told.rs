//! Where what is told at start can be found when whoever starts uWSGI throws away what it prints, as Debian's init script
//! does.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use lab::legion::LEGION;
use lab::node::free_address;
use lab::process::{SIGKILL, signal};
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, PASSWORD, USERNAME, assert_no_secret, wait_until};

/// Takes the place of the C library's, since no test has the system's log for itself.
const SYSLOG: &str = r#"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
static const char *name = "";
void openlog(const char *ident, int options, int facility) { name = ident; }
void syslog(int priority, const char *format, ...) {
	va_list list;
	FILE *file = fopen(getenv("SYSLOG_FILE"), "a");
	va_start(list, format);
	fprintf(file, "%s: ", name);
	vfprintf(file, format, list);
	fputc('\n', file);
	va_end(list);
	fclose(file);
}
"#;

/// The keys that decide about logs, and a name of the place that is meant.
fn ini(uwsgi: Uwsgi, folder: &Path, ip: &str, lines: &str) -> String {
    let ini = format!(
        "[uwsgi]\nplugins-dir = {}\nplugin = hetzner\nmaster = true\nprocesses = 1\nsocket = 127.0.0.1:0\n\
         pidfile = {}\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\nlegion-lord = {LEGION} hetzner-failoverip:username=\
         {USERNAME},password={PASSWORD},ip={ip},active_ip=127.0.0.1,url=http://127.0.0.1:9/x\n{lines}",
        uwsgi.plugins().display(),
        folder.join("pid").display(),
        free_address(),
    );
    let path = folder.join("node.ini");
    fs::write(&path, ini).expect("a writable folder");
    path.to_str().expect("UTF-8").into()
}

fn uwsgi_with(uwsgi: Uwsgi, ini: &str) -> Command {
    let mut command = Command::new(uwsgi.program());
    command.args(["--ini", ini]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

const PROBLEM: &str = "[hetzner-failoverip] Legion failover, legion-lord: ip=nowhere is not an IP address";

#[test]
fn a_refused_start_is_told_where_uwsgi_would_have_logged() {
    for uwsgi in Uwsgi::ALL {
        // Whether uWSGI opens the file itself as root: one that it opens as the user is not made for it.
        for (key, made) in [("logto", true), ("daemonize", true), ("logto2", false), ("daemonize2", false)] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path();
            let file = path.join("log");
            let ini = ini(uwsgi, path, "nowhere", &format!("{key} = {}\n", file.display()));
            let start = || {
                let status = uwsgi_with(uwsgi, &ini).status().expect("uWSGI starts");
                assert_eq!(status.code(), Some(1), "{uwsgi} {key}");
                fs::read_to_string(&file).unwrap_or_default()
            };
            let told = |log: &str| log.lines().filter(|line| line.starts_with(PROBLEM)).count();
            let log = start();
            assert_eq!(told(&log), usize::from(made), "{uwsgi} {key}: {log}");
            assert_eq!(file.exists(), made, "{uwsgi} {key}");
            if made {
                let mode = fs::metadata(&file).expect("it is there").permissions().mode();
                assert_eq!(mode & 0o007, 0, "{uwsgi} {key}: {mode:o}");
            }
            // What stands there stays.
            fs::write(&file, "before\n").expect("a writable folder");
            let log = start();
            assert!(log.starts_with("before\n") && told(&log) == 1, "{uwsgi} {key}: {log}");
            assert_no_secret(&log);
            // Into a link that is not root's own nothing is written as root.
            let target = path.join("target");
            fs::write(&target, "").expect("a writable folder");
            fs::remove_file(&file).expect("our own file");
            symlink(&target, &file).expect("a writable folder");
            assert_eq!(told(&start()), usize::from(made), "{uwsgi} {key}");
        }
    }
}

#[test]
fn what_is_printed_into_the_log_is_not_told_twice() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("log");
    let ini = ini(Uwsgi::Pypi, folder.path(), "nowhere", &format!("logto = {}\n", file.display()));
    let log = fs::File::options().create(true).append(true).open(&file).expect("a writable folder");
    uwsgi_with(Uwsgi::Pypi, &ini).stderr(log).status().expect("uWSGI starts");
    let log = fs::read_to_string(&file).expect("it is there");
    assert_eq!(log.matches("ip=nowhere is not an IP address").count(), 1, "{log}");
}

#[test]
fn a_refused_start_is_told_to_the_systems_log_and_a_command_is_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("syslog.c"), SYSLOG).expect("a writable folder");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(at("syslog.so")).arg(at("syslog.c"));
    assert!(compiler.status().expect("cc starts").success());
    for uwsgi in Uwsgi::ALL {
        let ini = ini(uwsgi, folder.path(), "nowhere", "");
        let told = |options: &[&str]| {
            let _ = fs::remove_file(at("told"));
            let mut command = uwsgi_with(uwsgi, &ini);
            command.args(options).env("LD_PRELOAD", at("syslog.so")).env("SYSLOG_FILE", at("told"));
            assert_eq!(command.status().expect("uWSGI starts").code(), Some(1));
            fs::read_to_string(at("told")).unwrap_or_default()
        };
        let log = told(&[]);
        let expected = "uwsgi-hetzner: Legion failover, legion-lord: ip=nowhere is not an IP address";
        assert!(log.starts_with(expected) && log.lines().count() == 1, "{uwsgi}: {log}");
        assert_no_secret(&log);
        assert_eq!(told(&["--hetzner-check"]), "");
    }
}

#[test]
fn warnings_are_in_the_log_wherever_that_is() {
    for uwsgi in Uwsgi::ALL {
        for key in ["logto", "daemonize", "logto2", "daemonize2"] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path();
            let file = path.join("log");
            // One that uWSGI opens as the user it has to make, or find.
            fs::write(&file, "").expect("a writable folder");
            let ini = ini(uwsgi, path, "127.0.0.9", &format!("{key} = {}\n", file.display()));
            let mut child = uwsgi_with(uwsgi, &ini).spawn().expect("uWSGI starts");
            let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
            let count = |text: &str| read(&file).matches(text).count();
            let up = wait_until(LIMIT, || count("spawned uWSGI worker 1 ") > 0);
            let warned = count("[hetzner-failoverip] warning: legion-death-on-lord-error is unset");
            // The master is the child, or a child of its child that is in the background.
            if let Ok(pid) = read(&path.join("pid")).trim().parse() {
                let group = format!("/proc/{pid}/task/{pid}/children");
                let workers = read(Path::new(&group));
                signal(pid, SIGKILL);
                workers
                    .split_whitespace()
                    .filter_map(|id| id.parse().ok())
                    .for_each(|id| signal(id, SIGKILL));
            }
            child.wait().expect("a child of ours");
            assert!(up, "{uwsgi} {key}: {}", read(&file));
            assert_eq!(warned, 1, "{uwsgi} {key}: {}", read(&file));
        }
    }
}
