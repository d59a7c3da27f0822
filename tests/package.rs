//! Installing: `make install`, and the Debian package, from what it says to what is left when it is removed.
//!
//! The package is built with the plugin that the other tests load, so nothing is compiled here. Without debhelper and
//! uwsgi-dev its tests are skipped, with a message.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Write as _, stderr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::OnceLock;

use lab::node::free_address;
use lab::process::{self, SIGINT, SIGKILL};
use lab::uwsgi::{Uwsgi, checkout};
use lab::{LIMIT, wait_until};
use tempfile::TempDir;

const NAME: &str = "uwsgi-plugin-hetzner";
/// What the package is for.
const UWSGI_CORE: &str = "/usr/bin/uwsgi-core";
/// The folder that is compiled into Debian's uwsgi-core.
const PLUGINS: &str = "/usr/lib/uwsgi/plugins";
fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// What a command that must succeed prints.
#[track_caller]
fn ask(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_string()
}

/// Says why something was not tested, past the harness, which shows what a test prints only when it fails.
fn skipped(why: &str) {
    let _ = writeln!(stderr(), "tests/package.rs: skipped: {why}");
}

fn plugin(uwsgi: Uwsgi) -> PathBuf {
    uwsgi.plugins().join("hetzner_plugin.so")
}

/// Whether packages can be built here; if not, says why.
fn can_be_made() -> bool {
    let installed = Command::new("sh")
        .args(["-c", "command -v dpkg-buildpackage && command -v dh && command -v dh_uwsgi"])
        .output();
    let header = Command::new(UWSGI_CORE).arg("--dot-h").output();
    let why = match () {
        () if !installed.is_ok_and(|it| it.status.success()) => "no debhelper, or no uwsgi-dev",
        () if !header.is_ok_and(|it| it.stdout == Uwsgi::Debian.ask("--dot-h").as_bytes()) => {
            "uwsgi-core is not the one that is tested"
        }
        () => return true,
    };
    skipped(&format!("the Debian package: {why}"));
    false
}

/// A command that runs in a copy of the package's sources, in `folder`. Its cargo only copies the plugin that was built for
/// `uwsgi`. Build dependencies are not checked: `can_be_made` has done that.
fn in_a_copy(folder: &Path, uwsgi: Uwsgi, command: &[&str]) -> Command {
    let copy = folder.join("copy");
    fs::create_dir_all(&copy).expect("a writable folder");
    let parts = ["Cargo.toml", "Makefile", "README.md", "debian", "examples"];
    ask(Command::new("cp").arg("--recursive").args(parts.map(|name| checkout().join(name))).arg(&copy));
    // The package is for Debian's uWSGI, whatever the environment says.
    let (plugin, other) = (plugin(uwsgi), Uwsgi::Pypi.program().display().to_string());
    let cargo = format!(
        "[ \"$UWSGI\" = {UWSGI_CORE} ] && mkdir -p target/release && cp '{}' target/release/",
        plugin.display()
    );
    for (name, line) in [("cargo", cargo.as_str()), ("dpkg-checkbuilddeps", "true")] {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).expect("a writable folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    }
    let mut command_there = Command::new(command[0]);
    command_there.args(&command[1..]).current_dir(copy);
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    command_there.env("PATH", path).env("UWSGI", &other).env("MAKEFLAGS", format!(" -- UWSGI={other}"));
    for name in ["MFLAGS", "MAKELEVEL", "DESTDIR", "PLUGIN_DIR", "DEB_DIR", "DEB_BUILD_OPTIONS"] {
        command_there.env_remove(name);
    }
    command_there
}

const BUILD: [&str; 4] = ["dpkg-buildpackage", "--build=binary", "--unsigned-source", "--unsigned-changes"];

/// As Debian writes it: 1.0~rc.1 is before 1.0.
fn version() -> String {
    env!("CARGO_PKG_VERSION").replace('-', "~")
}

/// The package's file in the folder where it is left.
fn left_in(folder: &Path) -> PathBuf {
    let architecture = ask(Command::new("dpkg").arg("--print-architecture"));
    folder.join(format!("{NAME}_{}_{architecture}.deb", version()))
}

/// The package, built once for all tests, if it can be built here.
fn package() -> Option<PathBuf> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
        let _ = fs::remove_dir_all(&folder);
        ask(&mut in_a_copy(&folder, Uwsgi::Debian, &BUILD));
        left_in(&folder)
    };
    MADE.get_or_init(|| can_be_made().then(make)).clone()
}

fn field(package: &Path, name: &str) -> String {
    ask(Command::new("dpkg-deb").arg("--field").arg(package).arg(name))
}

#[test]
fn depends_on_what_the_plugin_needs() {
    let Some(package) = package() else { return };
    let folder = folder();
    let architecture = ask(Command::new("dpkg").arg("--print-architecture"));
    assert_eq!(field(&package, "Package"), NAME);
    assert_eq!(field(&package, "Version"), version());
    assert_eq!(field(&package, "Architecture"), architecture);

    let header = folder.path().join("uwsgi.h");
    fs::write(&header, Uwsgi::Debian.ask("--dot-h")).expect("a writable folder");
    let sum = ask(Command::new("md5sum").arg(header));
    let abi = format!("uwsgi-abi-{}", sum.split(' ').next().expect("a sum"));
    let depends = field(&package, "Depends");
    let (libraries, others) = depends.split_at(depends.find("uwsgi-abi").expect("that of uwsgi-core"));
    assert_eq!(others, format!("{abi}, ca-certificates"));

    // What dpkg-dev says of the libraries that the plugin itself needs, and what uwsgi-core says of itself.
    fs::create_dir(folder.path().join("debian")).expect("a writable folder");
    fs::write(folder.path().join("debian/control"), "Source: a\n\nPackage: b\nArchitecture: any\n")
        .expect("a writable folder");
    let mut shlibdeps = Command::new("dpkg-shlibdeps");
    let said = ask(shlibdeps.arg("-O").arg(plugin(Uwsgi::Debian)).current_dir(folder.path()));
    assert_eq!(said, format!("shlibs:Depends={}", libraries.trim_end_matches(", ")));
    if is_installed("uwsgi-core") {
        let provides = ask(Command::new("dpkg-query").args(["-Wf", "${Provides}", "uwsgi-core"]));
        assert_eq!(provides, abi);
    } else {
        skipped("no uwsgi-core is installed to compare the dependency on it with");
    }
}

#[test]
fn holds_the_plugin_and_its_documents_as_roots_files() {
    let Some(package) = package() else { return };
    let listed = ask(Command::new("dpkg-deb").arg("--contents").arg(package));
    let files: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    let held: Vec<String> = files.iter().map(|file| format!("{} {} {}", file[0], file[1], file[5])).collect();
    assert_eq!(
        held,
        [
            "drwxr-xr-x root/root ./",
            "drwxr-xr-x root/root ./usr/",
            "drwxr-xr-x root/root ./usr/lib/",
            "drwxr-xr-x root/root ./usr/lib/uwsgi/",
            "drwxr-xr-x root/root ./usr/lib/uwsgi/plugins/",
            "-rw-r--r-- root/root ./usr/lib/uwsgi/plugins/hetzner_plugin.so",
            "drwxr-xr-x root/root ./usr/share/",
            "drwxr-xr-x root/root ./usr/share/doc/",
            "drwxr-xr-x root/root ./usr/share/doc/uwsgi-plugin-hetzner/",
            "-rw-r--r-- root/root ./usr/share/doc/uwsgi-plugin-hetzner/README.md",
            "-rw-r--r-- root/root ./usr/share/doc/uwsgi-plugin-hetzner/changelog.gz",
            "-rw-r--r-- root/root ./usr/share/doc/uwsgi-plugin-hetzner/copyright",
            "drwxr-xr-x root/root ./usr/share/doc/uwsgi-plugin-hetzner/examples/",
            "-rw-r--r-- root/root ./usr/share/doc/uwsgi-plugin-hetzner/examples/arbiter.ini",
            "-rwxr-xr-x root/root ./usr/share/doc/uwsgi-plugin-hetzner/examples/dns-record",
            "-rwxr-xr-x root/root ./usr/share/doc/uwsgi-plugin-hetzner/examples/exoscale-eip",
            "-rw-r--r-- root/root ./usr/share/doc/uwsgi-plugin-hetzner/examples/failover.ini",
            "-rwxr-xr-x root/root ./usr/share/doc/uwsgi-plugin-hetzner/examples/ovh-ip",
            "-rw-r--r-- root/root ./usr/share/doc/uwsgi-plugin-hetzner/examples/uwsgi-failover.service",
        ]
    );
    let changelog = fs::read_to_string(checkout().join("debian/changelog")).expect("it is there");
    let newest = format!("{NAME} ({}) ", version());
    assert!(changelog.starts_with(&newest), "debian/changelog does not begin with {newest}");
}

#[test]
fn lintian_finds_nothing_to_complain_of() {
    let Some(package) = package() else { return };
    let mut lintian = Command::new("lintian");
    // It warns of being run by root.
    lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(package);
    match lintian.output() {
        Ok(output) => assert!(output.status.success(), "{}", text(&output)),
        Err(_) => skipped("no lintian to look at the package"),
    }
}

#[test]
fn the_same_sources_make_the_same_package() {
    let Some(one) = package() else { return };
    let folder = folder();
    // Built again by somebody with another umask, in another time zone.
    let make = ["sh", "-c", "umask 077 && exec make deb"];
    ask(in_a_copy(folder.path(), Uwsgi::Debian, &make).env("TZ", "Asia/Tokyo"));
    let other = left_in(&folder.path().join("copy/target"));
    assert!(fs::read(one).expect("it is made") == fs::read(other).expect("it is made"));
}

#[test]
fn is_not_made_for_a_uwsgi_that_would_not_load_it() {
    if !can_be_made() {
        return;
    }
    let folder = folder();
    let output = in_a_copy(folder.path(), Uwsgi::Pypi, &BUILD).output().expect("it is installed");
    assert!(!output.status.success());
    let said = format!("hetzner_plugin.so was not built for {UWSGI_CORE}: build it anew");
    assert!(text(&output).contains(&said), "{}", text(&output));
    assert!(!left_in(folder.path()).exists());
}

fn make(uwsgi: Uwsgi, arguments: &[&str]) -> Output {
    let mut command = Command::new("make");
    // Those of the `make test` that runs us.
    command.env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("MAKELEVEL");
    command.env_remove("DESTDIR").env_remove("PLUGIN_DIR").env("UWSGI", uwsgi.program());
    command.args(arguments).current_dir(checkout()).output().expect("make is there")
}

#[test]
fn make_install_puts_it_where_uwsgi_looks() {
    for (uwsgi, arguments, place) in [
        (Uwsgi::Debian, &["DESTDIR=/stage"][..], "/stage/usr/lib/uwsgi/plugins/hetzner_plugin.so"),
        (Uwsgi::Pypi, &["PLUGIN_DIR=/opt/plugins"][..], "/opt/plugins/hetzner_plugin.so"),
    ] {
        // What it would do: it begins with a build, which would take its time.
        let output = make(uwsgi, &[&["--dry-run", "install"], arguments].concat());
        assert!(output.status.success(), "{uwsgi}: {}", text(&output));
        let last = format!("install -D -m 644 hetzner_plugin.so '{place}'\n");
        assert!(text(&output).ends_with(&last), "{uwsgi}: {}", text(&output));
    }
    let output = make(Uwsgi::Pypi, &["install"]);
    assert!(!output.status.success());
    let said = r#" looks for plugins in ".", which depends on where it is started: say the folder, "#;
    assert!(text(&output).contains(said), "{}", text(&output));
    assert!(!text(&output).contains("cargo"), "{}", text(&output));
}

/// A uwsgi-core that runs an ini which names no folder of plugins. Dropped, it is killed.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(command: &mut Command, folder: &Path) -> Running {
        let log = folder.join("log");
        let file = File::create(&log).expect("a writable folder");
        command.current_dir(folder).stdout(file.try_clone().expect("a descriptor is free")).stderr(file);
        Running { child: process::spawn(command).expect("it starts"), log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asserts that it has loaded the plugin and runs, then ends it.
    #[track_caller]
    fn has_loaded_it_and_ends(mut self) {
        let id = self.child.id();
        let runs = wait_until(LIMIT, || self.log().contains("legion manager thread enabled"));
        let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap_or_default();
        assert!(runs && maps.contains("/hetzner_plugin.so"), "not loaded:\n{}", self.log());
        assert!(!self.log().contains("unable to find"), "{}", self.log());
        process::signal(id, SIGINT);
        let ends = wait_until(LIMIT, || self.child.try_wait().expect("a child of ours").is_some());
        assert!(ends, "SIGINT does not end it:\n{}", self.log());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            process::signal_group(self.child.id(), SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// The package's example, on an address and with files that this machine has, as whoever runs the test. Without the
/// other nodes it has no quorum, so that nobody becomes Lord, and nothing is asked of Hetzner.
fn example(root: &Path, folder: &Path) -> PathBuf {
    let packaged = root.join("usr/share/doc").join(NAME).join("examples/failover.ini");
    let ini = fs::read_to_string(packaged).expect("it is installed");
    let is_ours = |line: &&str| !line.starts_with('#') && !line.contains("id = uwsgi-failover");
    let mut ini: String = ini.lines().filter(is_ours).map(|line| format!("{line}\n")).collect();
    assert!(ini.contains("legion-quorum = failover 2\n") && !ini.contains("plugins-dir"));
    fs::write(folder.join("password"), "NOT-A-REAL-PASSWORD\n").expect("a writable folder");
    for (before, after) in [
        ("1.1.1.1:2000", free_address().to_string()),
        ("/etc/uwsgi-failover/robot-password", folder.join("password").display().to_string()),
        ("127.0.0.1:1717", folder.join("stats").display().to_string()),
    ] {
        assert!(ini.contains(before), "{before}");
        ini = ini.replace(before, &after);
    }
    let path = folder.join("failover.ini");
    fs::write(&path, ini).expect("a writable folder");
    path
}

fn dpkg() -> Command {
    let mut command = Command::new("dpkg");
    // It asks for ldconfig, which not everybody has on PATH.
    let path = [std::env::var("PATH").unwrap_or_default(), "/usr/sbin:/sbin".into()].join(":");
    command.env("PATH", path).env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_installed(package: &str) -> bool {
    let output = Command::new("dpkg-query").args(["-Wf", "${db:Status-Status}", package]).output();
    output.is_ok_and(|output| output.stdout == b"installed")
}

/// All files and folders below `root`, without dpkg's own.
fn files(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("ours").flatten() {
            if entry.path() != root.join("var/lib/dpkg") {
                found.insert(entry.path());
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                }
            }
        }
    }
    found
}

/// For any user, and without a trace on this machine: dpkg has a root of its own.
#[test]
fn is_installed_loaded_and_removed_in_a_root_of_its_own() {
    let Some(package) = package() else { return };
    let folder = folder();
    let root = folder.path().join("root");
    for name in ["info", "updates"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(name)).expect("a writable folder");
    }
    fs::write(root.join("var/lib/dpkg/status"), "").expect("a writable folder");
    let before = files(&root);
    let dpkg = |action: &str, what: &OsStr| {
        let mut command = dpkg();
        // That root holds no uwsgi-core; the machine's own is the one that loads the plugin.
        command.args(["--force-not-root", "--force-depends", "--log=/dev/null"]);
        command.arg("--root").arg(&root).arg(action).arg(what);
        ask(&mut command)
    };
    dpkg("--install", package.as_os_str());
    let plugins = root.join(PLUGINS.trim_start_matches('/'));
    let ini = example(&root, folder.path());

    let uwsgi = Uwsgi::Debian.program();
    let mut command = Command::new("unshare");
    let bind = format!("mount --bind \"$1\" {PLUGINS}");
    command.args(["--mount", "--map-root-user", "sh", "-c"]);
    command.arg(format!("{bind} && exec \"$2\" --ini \"$3\"")).arg("sh");
    command.args([&plugins, &uwsgi, &ini]);
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "--map-root-user", "sh", "-c", &bind, "sh"]).arg(&plugins);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        skipped("no mount namespace here: uWSGI is told the folder, instead of finding it at its own place");
        command = Command::new(&uwsgi);
        command.arg("--ini").arg(&ini).env("UWSGI_PLUGINS_DIR", &plugins);
    }
    Running::start(&mut command, folder.path()).has_loaded_it_and_ends();

    dpkg("--remove", NAME.as_ref());
    assert_eq!(files(&root), before);
    let status = fs::read_to_string(root.join("var/lib/dpkg/status")).expect("dpkg's");
    assert!(!status.contains(NAME), "{status}");
}

/// Removes the package, whatever becomes of the test.
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        let output = dpkg().args(["--remove", NAME]).output();
        if !output.as_ref().is_ok_and(|output| output.status.success()) {
            let _ = writeln!(stderr(), "tests/package.rs: {NAME} was not removed: {output:?}");
        }
    }
}

/// As a sysadmin does it, where that is allowed and takes nothing from anybody.
#[test]
fn is_installed_loaded_and_removed_by_root() {
    let root = ask(Command::new("id").arg("-u")) == "0";
    let plugin = Path::new(PLUGINS).join("hetzner_plugin.so");
    let why = match () {
        () if !root => "not root",
        () if !is_installed("uwsgi-core") => "uwsgi-core is not installed",
        () if !is_installed("ca-certificates") => "ca-certificates is not installed",
        () if is_installed(NAME) || plugin.exists() => "the plugin is installed already",
        () => "",
    };
    if !why.is_empty() {
        return skipped(&format!("installing the package on this machine: {why}"));
    }
    let Some(package) = package() else { return };
    let folder = folder();
    // Before it is tried: what dpkg could not configure is unpacked all the same.
    let installed = Installed;
    let mut output = None;
    // Somebody else may be installing something.
    wait_until(LIMIT, || {
        let done = dpkg().arg("--install").arg(&package).output().expect("dpkg is there");
        output.insert(done).status.success() || !output.as_ref().is_some_and(|it| text(it).contains("lock"))
    });
    let output = output.expect("it was tried");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(ask(dpkg().args(["--verify", NAME])), "");
    let ini = example(Path::new("/"), folder.path());
    let mut command = Command::new("/usr/bin/uwsgi-core");
    command.arg("--ini").arg(ini).env_remove("UWSGI_PLUGINS_DIR");
    Running::start(&mut command, folder.path()).has_loaded_it_and_ends();
    drop(installed);
    assert!(!plugin.exists() && !Path::new("/usr/share/doc").join(NAME).exists());
    assert!(!is_installed(NAME));
}
