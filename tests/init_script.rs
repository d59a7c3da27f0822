//! Debian's own init script, which throws away whatever uWSGI prints before it logs to its file: what is told at start
//! has to be found in that file all the same.
//!
//! The script is that of Debian's package `uwsgi`, with another root folder written into it.

use std::fs;
use std::io::{Write as _, stderr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::legion::LEGION;
use lab::node::free_address;
use lab::process::{self, SIGKILL};
use lab::scene::{LIMIT, on_each_uwsgi};
use lab::uwsgi::{Uwsgi, checkout};
use lab::{PASSWORD, wait_until};
use tempfile::TempDir;

on_each_uwsgi! {
    what_is_wrong_is_in_the_log_file
    what_is_right_starts_and_stops
}

/// The files of the package, and where they name each other and what is theirs.
const FILES: [&str; 6] = [
    "etc/init.d/uwsgi",
    "etc/default/uwsgi",
    "usr/share/uwsgi/init/snippets",
    "usr/share/uwsgi/init/do_command",
    "usr/share/uwsgi/init/specific_daemon",
    "usr/share/uwsgi/conf/default.ini",
];
const PLACES: [&str; 6] =
    ["/usr/bin/uwsgi", "/usr/share/uwsgi", "/etc/uwsgi", "/etc/default/", "/run/uwsgi", "/var/log/uwsgi"];

/// A Debian with one instance, `app/failover`.
struct Debian {
    root: TempDir,
    address: String,
}

impl Debian {
    /// `None` where there cannot be one. `hook` is the Legion's lord hook.
    fn new(uwsgi: Uwsgi, hook: &str) -> Option<Debian> {
        let package = checkout().join("target/uwsgi/init");
        let user = Command::new("id").arg("-u").output().expect("id is there");
        let why = match () {
            () if user.stdout != b"0\n" => "not root",
            () if !Path::new("/usr/bin/apt-get").exists() => "no Debian",
            () => "",
        };
        if !why.is_empty() {
            // Past the harness, which shows what a test prints only when it fails.
            let _ = writeln!(stderr(), "tests/init_script.rs: skipped: {why}");
            return None;
        }
        assert!(package.exists(), "{} is missing: run `make test`, which gets it", package.display());
        let root = tempfile::tempdir().expect("a temporary folder");
        // uWSGI is another user by the time it needs what is in there.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("our own");
        let debian = Debian { root, address: free_address().to_string() };
        for file in FILES {
            let mut text = fs::read_to_string(package.join(file)).expect("it is in the package");
            for place in PLACES {
                text = text.replace(place, &format!("{}{place}", debian.root.path().display()));
            }
            debian.write(file, &text);
        }
        for folder in ["var/log/uwsgi/app", "usr/bin"] {
            fs::create_dir_all(debian.path(folder)).expect("a writable folder");
        }
        symlink(uwsgi.program(), debian.path("usr/bin/uwsgi")).expect("a writable folder");
        let ini = format!(
            "[uwsgi]\nplugins-dir = {}\nneed-plugin = hetzner\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\n\
             legion-freq = 1\nlegion-lord = {LEGION} {hook}\n",
            uwsgi.plugins().display(),
            debian.address
        );
        debian.write("etc/uwsgi/apps-enabled/failover.ini", &ini);
        Some(debian)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a writable folder");
        fs::write(path, text).expect("a writable folder");
    }

    /// What the script prints, and whether it succeeds.
    fn script(&self, verb: &str) -> (String, bool) {
        let output = Command::new("bash").arg(self.path("etc/init.d/uwsgi")).arg(verb).output();
        let output = output.expect("bash is there");
        (
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            output.status.success(),
        )
    }

    fn log(&self) -> String {
        let log = fs::read(self.path("var/log/uwsgi/app/failover.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The id of the master that runs.
    fn master(&self) -> Option<u32> {
        let text = fs::read_to_string(self.path("run/uwsgi/app/failover/pid")).ok()?;
        let id = text.trim().parse().ok()?;
        let command = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let root = self.root.path().to_str().expect("UTF-8");
        String::from_utf8_lossy(&command).contains(root).then_some(id)
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        if let Some(id) = self.master() {
            // Its workers end with it: the script's ini has no-orphans.
            process::signal(id, SIGKILL);
        }
    }
}

fn what_is_wrong_is_in_the_log_file(uwsgi: Uwsgi) {
    let hook = format!("hetzner-failoverip:username=FOO,pasword={PASSWORD},timeout=soon");
    let Some(debian) = Debian::new(uwsgi, &hook) else { return };
    let (said, succeeded) = debian.script("start");
    assert!(!succeeded && said.contains("failed!"), "{said}");
    assert!(debian.master().is_none(), "it runs:\n{}", debian.log());
    for expected in [
        "[hetzner-failoverip] Legion failover, legion-lord: unknown key \"pasword\": did you mean password?",
        "[hetzner-failoverip] Legion failover, legion-lord: password is missing",
        "[hetzner-failoverip] Legion failover, legion-lord: ip is missing",
        "[hetzner-failoverip] Legion failover, legion-lord: timeout=soon is no",
    ] {
        assert!(debian.log().contains(expected), "{expected}:\n{}", debian.log());
    }
    assert!(!debian.log().contains(PASSWORD), "{}", debian.log());
}

fn what_is_right_starts_and_stops(uwsgi: Uwsgi) {
    let host = "127.0.0.1";
    let hook = format!(
        "hetzner-failoverip:username=FOO,password={PASSWORD},ip=127.0.0.9,active_ip={host},url=http://{host}:9/x"
    );
    let Some(debian) = Debian::new(uwsgi, &hook) else { return };
    let (said, succeeded) = debian.script("start");
    assert!(succeeded, "{said}\n{}", debian.log());
    let warned = "[hetzner-failoverip] warning: legion-death-on-lord-error is unset";
    assert!(wait_until(LIMIT, || debian.log().contains(warned)), "{}", debian.log());
    assert!(wait_until(LIMIT, || debian.log().contains("legion manager thread enabled")), "{}", debian.log());
    let id = debian.master().unwrap_or_else(|| panic!("it does not run:\n{}", debian.log()));
    let (said, succeeded) = debian.script("stop");
    assert!(succeeded, "{said}\n{}", debian.log());
    assert!(debian.log().contains("goodbye to uWSGI"), "it was killed:\n{}", debian.log());
    assert!(wait_until(LIMIT, || !Path::new(&format!("/proc/{id}")).exists()), "{}", debian.log());
}
