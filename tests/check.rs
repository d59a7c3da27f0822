//! `--hetzner-check` says all that the start says, and judges as who uWSGI will be.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Output;
use std::slice::from_ref;

use lab::PASSWORD;
use lab::ip;
use lab::node::free_address;
use lab::process::is_root;
use lab::robot::{Certificate, Config, Failover};
use lab::shim;
use lab::uwsgi::Uwsgi;

use crate::commands::{command_in, document, hook, robot, robot_of, run, run_in, stdout};

/// As in a sandbox: AF_NETLINK is not among the address families that are allowed.
const NO_NETLINK: &str = "#include <errno.h>\nstruct ifaddrs;\n\
    int getifaddrs(struct ifaddrs **all) { errno = EAFNOSUPPORT; return -1; }\n";

fn folder() -> tempfile::TempDir {
    // Another user has to pass through it.
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("our own folder");
    folder
}

fn check(uwsgi: Uwsgi, folder: &tempfile::TempDir, hook: &str, lines: &str) -> Output {
    run_in(uwsgi, folder.path(), &[hook.to_string()], lines, &["--hetzner-check"])
}

#[test]
fn what_cannot_be_told_is_not_called_right() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(Config::default());
        let folder = folder();
        let shim = shim::build(folder.path(), NO_NETLINK);
        let elsewhere = hook(&robot).replace("active_ip=127.0.0.1", "active_ip=198.51.100.7");
        let env = [("LD_PRELOAD", shim.to_str().expect("UTF-8"))];
        let output = run(uwsgi, from_ref(&elsewhere), &["--hetzner-check"], &env);
        let said = stdout(&output);
        let line =
            said.lines().find(|line| line.contains("198.51.100.7 is on")).unwrap_or_else(|| panic!("{said}"));
        assert!(
            line.starts_with("warning  failover 127.0.0.9: cannot tell whether active_ip 198."),
            "{said}"
        );
        assert_eq!(output.status.code(), Some(0), "{said}");
        // With netlink it is known.
        let said = stdout(&run(uwsgi, &[elsewhere], &["--hetzner-check"], &[]));
        assert!(said.contains("active_ip=198.51.100.7 is not on any interface"), "{said}");
        assert!(!said.contains("cannot tell"), "{said}");
    }
}

#[test]
fn check_says_all_that_the_start_says() {
    let ips = ["127.0.0.9", "127.0.0.8"].map(ip);
    let robot = robot_of(ips.map(|ip| Failover::new(ip, None)).to_vec(), Config::default());
    let folder = folder();
    let file = folder.path().join("password");
    fs::write(&file, PASSWORD).expect("a writable folder");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("our own file");
    let hook = hook(&robot)
        .replace(&format!("password={PASSWORD}"), &format!("password_file={}", file.display()))
        .replace("ip=127.0.0.9,active_ip=127.0.0.1", "ip=127.0.0.9,active_ip=198.51.100.7");
    let three =
        format!("legion-node = failover {}\nlegion-node = failover {}\n", free_address(), free_address());
    let other = format!("legion = other {} 1 aes-128-cbc:secret1\n", free_address());
    let for_other = format!(
        "{three}{other}legion-lord = other {}\n",
        hook.replace("198.51.100.7", "198.51.100.8").replace("127.0.0.9", "127.0.0.8")
    );
    let expected = [
        "Legion failover has no legion-quorum",
        "Legion failover, legion-lord: active_ip=198.51.100.7 is not on any interface",
        "Legion failover, legion-lord: deadline is 60 s",
        "Legion failover, legion-lord: password_file=",
        "Legion other, legion-lord: active_ip=198.51.100.8 is not on any interface",
    ];
    for uwsgi in Uwsgi::ALL {
        let output = check(uwsgi, &folder, &hook, &for_other);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = stdout(&output);
        for text in expected {
            let times = said.lines().filter(|line| line.starts_with(&format!("warning  {text}"))).count();
            assert_eq!(times, 1, "{text}: {said}");
        }
        let options = ["--hetzner-check", "--hetzner-json", "--hetzner-legion", "failover"];
        let json = document(&run_in(uwsgi, folder.path(), from_ref(&hook), &for_other, &options));
        let steps = json["steps"].as_array().expect("a list");
        let said = |text: &str| {
            steps.iter().any(|step| {
                step["result"] == "warning"
                    && step["text"].as_str().is_some_and(|said| said.starts_with(text))
            })
        };
        let [others @ .., _] = expected;
        assert!(others.iter().all(|text| said(text)) && !said("Legion other"), "{json}");
    }
}

#[test]
fn check_judges_as_who_uwsgi_will_be() {
    let (user, name) = (65534, "nobody");
    for uwsgi in Uwsgi::ALL {
        let robot = robot(Config::default());
        let folder = folder();
        let file = folder.path().join("password");
        fs::write(&file, PASSWORD).expect("a writable folder");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("our own file");
        let by_file = hook(&robot)
            .replace(&format!("password={PASSWORD}"), &format!("password_file={}", file.display()));
        let says = |said: &str, line: &str| said.lines().any(|known| known.starts_with(line));
        let myself = stdout(&check(uwsgi, &folder, &by_file, ""));
        let own = fs::metadata("/proc/self").expect("procfs").uid();
        assert!(says(&myself, &format!("ok       checked as uid {own}")), "{myself}");
        let lines = format!("uid = {name}\ngid = 65534\n");
        let output = check(uwsgi, &folder, &by_file, &lines);
        let said = stdout(&output);
        if !is_root() {
            assert!(says(&said, &format!("warning  checked as uid {own}")), "{said}");
            assert!(said.contains(&format!("uWSGI will run as uid {user} ({name})")), "{said}");
            return;
        }
        assert!(
            says(&said, &format!("ok       checked as uid {user} ({name}), gid 65534, as uWSGI will run")),
            "{said}"
        );
        let told = |line: &str| {
            (line.starts_with("warning") || line.starts_with("ERROR")) && line.contains("password_file=")
        };
        assert!(said.lines().any(told), "{said}");
        // Readable for its group, as the README has it; and by `add-gid`.
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("our own file");
        std::os::unix::fs::chown(&file, None, Some(12345)).expect("root may");
        for (lines, readable) in [
            ("uid = nobody\ngid = 65534\n", false),
            ("uid = nobody\ngid = 12345\n", true),
            ("uid = nobody\ngid = 65534\nadd-gid = 12345\n", true),
            // The master stays root, and it is who reads it.
            ("uid = nobody\ngid = 65534\nmaster-as-root = true\n", true),
        ] {
            let said = stdout(&check(uwsgi, &folder, &by_file, lines));
            assert_eq!(!said.lines().any(told), readable, "{lines}{said}");
        }
        // In another root the file is another one, here none.
        let root = folder.path().join("root");
        fs::create_dir(&root).expect("a writable folder");
        let lines = format!("uid = nobody\ngid = 12345\nchroot = {}\n", root.display());
        let said = stdout(&check(uwsgi, &folder, &by_file, &lines));
        assert!(says(&said, "ok       checked as uid 65534 (nobody), gid 12345, in chroot "), "{said}");
        assert!(said.lines().any(told), "{said}");
        let output = check(uwsgi, &folder, &by_file, "uid = no-such-user\n");
        let said = stdout(&output);
        assert!(says(&said, "ERROR    uWSGI will not start: uid: there is none of that name"), "{said}");
        assert_eq!(output.status.code(), Some(1), "{said}");
        // Neither root nor that user.
        let mut command = command_in(uwsgi, folder.path(), from_ref(&hook(&robot)), "uid = daemon\n");
        let output = command.arg("--hetzner-check").uid(user).gid(user).output().expect("uWSGI starts");
        let said = stdout(&output);
        let expected =
            "warning  checked as uid 65534 (nobody), gid 65534, but uWSGI will run as uid 1 (daemon)";
        assert!(says(&said, expected), "{said}");
    }
}

/// What the server reads before its root changes, the check reads then, too.
#[test]
fn check_in_another_root_trusts_whom_the_server_trusts() {
    if !is_root() {
        return;
    }
    for uwsgi in Uwsgi::ALL {
        let robot = robot(Config { tls: Some(Certificate::Right), ..Config::default() });
        let folder = folder();
        let lines = format!("uid = nobody\ngid = nogroup\nchroot = {}\n", folder.path().display());
        let mut command = command_in(uwsgi, folder.path(), from_ref(&hook(&robot)), &lines);
        command.env("SSL_CERT_FILE", robot.ca_file().expect("with TLS"));
        let output = command.arg("--hetzner-check").output().expect("uWSGI starts");
        let said = stdout(&output);
        assert!(said.contains(": certificate verified") && said.contains("in chroot "), "{said}");
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
}
