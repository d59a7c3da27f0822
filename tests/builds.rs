//! The two ways to build, their one result, and what each says where it cannot build.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use lab::uwsgi::{Uwsgi, checkout};

/// Builds share cargo's folder, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// `uwsgi --build-plugin FOLDER` in `cwd`, with `path` as PATH where it is given.
fn build_plugin(uwsgi: Uwsgi, cwd: &Path, folder: &str, path: Option<&OsStr>) -> Output {
    let mut command = Command::new(uwsgi.program());
    command.args(["--build-plugin", folder]).current_dir(cwd).env("PYTHON", python());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    command.output().expect("uWSGI starts")
}

/// By its path, so that a test may take everything else off PATH.
fn python() -> PathBuf {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    String::from_utf8(output.expect("python3 starts").stdout).expect("UTF-8").trim().into()
}

fn cargo_build(uwsgi: &OsStr, path: Option<&OsStr>) -> Output {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--release", "--locked"]).current_dir(checkout());
    command.env("UWSGI", uwsgi).env_remove("HETZNER_UWSGI_SUM");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    command.output().expect("cargo starts")
}

fn script(folder: &Path, name: &str, lines: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("a writable folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    path
}

fn lines_of(program: &str, arguments: &[&str], file: &Path) -> Vec<String> {
    let output = Command::new(program).args(arguments).arg(file).output().expect("binutils is there");
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_string).collect()
}

#[test]
fn exports_one_symbol_and_needs_next_to_nothing() {
    for uwsgi in Uwsgi::ALL {
        let plugin = uwsgi.plugins().join("hetzner_plugin.so");
        let symbols = lines_of("nm", &["-D", "--defined-only", "--format=posix"], &plugin);
        let names: Vec<&str> = symbols.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ["hetzner_plugin"], "{uwsgi}");
        let needed = lines_of("readelf", &["-d"], &plugin);
        for line in needed.iter().filter(|line| line.contains("(NEEDED)")) {
            let known =
                ["[libc.so.6]", "[libgcc_s.so.1]", "[ld-linux-"].iter().any(|name| line.contains(name));
            assert!(known, "{uwsgi}: {line}");
        }
    }
}

#[test]
fn both_ways_to_build_end_in_the_same_file() {
    let _turn = turn();
    for uwsgi in Uwsgi::ALL {
        let output = cargo_build(uwsgi.program().as_os_str(), None);
        assert!(output.status.success(), "{uwsgi}: {}", text(&output));
        let by_cargo = checkout().join("target/release/hetzner_plugin.so");
        // From inside the checkout, where .gitignore knows the result.
        let output = build_plugin(uwsgi, checkout(), ".", None);
        assert!(output.status.success(), "{uwsgi}: {}", text(&output));
        let inside = checkout().join("hetzner_plugin.so");
        let elsewhere = uwsgi.plugins().join("hetzner_plugin.so");
        let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(read(&by_cargo) == read(&inside), "{uwsgi}: cargo and --build-plugin differ");
        assert!(read(&inside) == read(&elsewhere), "{uwsgi}: --build-plugin here and elsewhere differ");
        fs::remove_file(inside).expect("our own file");
    }
}

/// An upgrade, as dpkg does it: the same path holds another uWSGI, whose file is older than what was built.
fn upgrade(uwsgi: Uwsgi, path: &Path) {
    let _ = fs::remove_file(path);
    fs::copy(uwsgi.program(), path).expect("a writable folder");
    make_old(path);
}

fn make_old(path: &Path) {
    let years_ago = SystemTime::now() - Duration::from_secs(3 * 365 * 24 * 3600);
    fs::File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_modified(years_ago))
        .expect("our own file");
}

/// For which uWSGI a plugin was built.
fn built_for(plugin: &Path) -> Vec<Uwsgi> {
    let plugin = fs::read(plugin).unwrap_or_else(|error| panic!("{}: {error}", plugin.display()));
    let holds = |flags: &str| plugin.windows(flags.len()).any(|window| window == flags.as_bytes());
    Uwsgi::ALL.into_iter().filter(|uwsgi| holds(uwsgi.ask("--cflags").trim())).collect()
}

#[test]
fn after_an_upgrade_of_uwsgi_the_plugin_is_built_anew() {
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let uwsgi = folder.path().join("uwsgi");
    let result = checkout().join("hetzner_plugin.so");
    let make = || {
        let mut command = Command::new("make");
        // Those of the `make test` that runs us.
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "HETZNER_UWSGI_SUM"] {
            command.env_remove(name);
        }
        // Wherever cargo is told to put things: what is installed has to be what was just built.
        command.env("CARGO_TARGET_DIR", folder.path().join("target"));
        // What is built is the question, not how well: the two files take a minute and more each otherwise.
        command.envs([("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")]);
        command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        let output = command.arg("all").current_dir(checkout()).env("UWSGI", &uwsgi).output();
        let output = output.expect("make is there");
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    for version in [Uwsgi::Debian, Uwsgi::Pypi] {
        upgrade(version, &uwsgi);
        let said = make();
        assert!(built_for(&result) == [version], "built for another uWSGI than {version}:\n{said}");
    }
    let said = make();
    assert!(!said.contains("Compiling"), "nothing has changed, and yet:\n{said}");
    fs::remove_file(&result).expect("our own file");

    // The same with cargo alone. That it asks again is seen by what a uWSGI says that nothing can be built for.
    let output = cargo_build(uwsgi.as_os_str(), None);
    assert!(output.status.success(), "{}", text(&output));
    fs::remove_file(&uwsgi).expect("our own file");
    script(folder.path(), "uwsgi", "echo '#error of another uWSGI'");
    make_old(&uwsgi);
    let output = cargo_build(uwsgi.as_os_str(), None);
    assert!(!output.status.success(), "cargo alone does not notice:\n{}", text(&output));
}

#[test]
fn a_cargo_that_is_missing_or_too_old_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let none = folder.path().join("none");
    fs::create_dir(&none).expect("a writable folder");
    let folder_name = checkout().to_str().expect("UTF-8");
    let output = build_plugin(Uwsgi::Pypi, folder.path(), folder_name, Some(none.as_os_str()));
    assert!(!output.status.success());
    let said =
        "building uwsgi-hetzner needs cargo 1.85 or newer, but no cargo was found on PATH: install one";
    assert!(text(&output).contains(said), "{}", text(&output));

    script(&none, "cargo", "echo 'cargo 1.65.0'");
    let output = build_plugin(Uwsgi::Pypi, folder.path(), folder_name, Some(none.as_os_str()));
    assert!(!output.status.success());
    let said = "building uwsgi-hetzner needs cargo 1.85 or newer, but this is cargo 1.65.0: install one";
    assert!(text(&output).contains(said), "{}", text(&output));
}

#[test]
fn a_uwsgi_that_is_missing_is_named() {
    let _turn = turn();
    let output = cargo_build(OsStr::new("/nonexistent/uwsgi"), None);
    assert!(!output.status.success());
    let said = "no uWSGI found that answers --cflags and --dot-h (tried: /nonexistent/uwsgi): install one (Debian: apt install \
         uwsgi-core uwsgi-dev)";
    assert!(text(&output).contains(said), "{}", text(&output));
}

/// The check of the layouts is worth something only if a uWSGI with another layout does not get through.
#[test]
fn a_struct_that_uwsgi_has_changed_does_not_compile() {
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let header = Uwsgi::Pypi.ask("--dot-h");
    fs::write(folder.path().join("cflags"), Uwsgi::Pypi.ask("--cflags")).expect("a writable folder");
    for (before, after, said) in [
        ("int quorum;", "long quorum;", "struct uwsgi_legion, field quorum"),
        ("time_t last_seen;", "int last_seen;", "struct uwsgi_legion_node, field last_seen"),
        ("char *log_msg;", "int added; char *log_msg;", "struct uwsgi_legion_action, field log_msg"),
        ("int shortcut;", "long shortcut;", "size of struct uwsgi_option"),
        (
            "void (*on_load) (void);",
            "void *a, *b; void (*on_load) (void);",
            "struct uwsgi_plugin, field on_load",
        ),
        ("void (*early_post_jail) (void);", "void *a[99];", "struct uwsgi_plugin has grown"),
    ] {
        let changed = header.replacen(before, after, 1);
        assert_ne!(changed, header, "{before}");
        fs::write(folder.path().join("uwsgi.h"), changed).expect("a writable folder");
        let path = folder.path().display();
        let uwsgi = script(
            folder.path(),
            "uwsgi",
            &format!("case $1 in --dot-h) cat {path}/uwsgi.h;; *) cat {path}/cflags;; esac"),
        );
        let output = cargo_build(uwsgi.as_os_str(), None);
        assert!(!output.status.success(), "{before} → {after} is accepted");
        let text = text(&output);
        assert!(
            text.contains(&format!("src/uwsgi/abi.rs does not match this uWSGI: {said}")),
            "{before}: {text}"
        );
        assert!(text.contains("src/uwsgi does not compile with this uWSGI"), "{text}");
    }
}
