//! One running uWSGI: its ini, its log, its state in the stats server.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::log::PipedLog;
use super::process::{self, Keeper};
use super::uwsgi::Uwsgi;
use super::{assert_no_secret, wait_until};

/// The ini of a vassal, in the folder of its node.
const VASSAL: &str = "vassals/node.ini";

/// A real uWSGI master. Dropped, it is killed with all its workers, and its log is searched for secrets.
pub struct Node {
    child: Child,
    folder: PathBuf,
    /// Whether it is the vassal of an Emperor, which is the child then.
    is_vassal: bool,
    /// Where its log is a pipe.
    piped: Option<PipedLog>,
    /// Frozen, it answers nobody.
    is_frozen: AtomicBool,
    /// Where it changes its user.
    _keeper: Option<Keeper>,
}

impl Node {
    /// Starts `uwsgi` in `folder`, which must exist, with the lines of `ini` and what every node needs.
    pub fn start(uwsgi: Uwsgi, folder: &Path, ini: &str, env: &[(&str, &str)]) -> Node {
        Node::start_by(Command::new(uwsgi.program()), uwsgi, folder, ini, env)
    }

    /// The same by a command of the caller's, which becomes that `uwsgi` and is given its arguments.
    pub fn start_by(command: Command, uwsgi: Uwsgi, folder: &Path, ini: &str, env: &[(&str, &str)]) -> Node {
        let log = open_log(folder);
        Node::start_logging(
            command,
            write_ini(uwsgi, folder, "node.ini", ini),
            folder,
            ini,
            env,
            log.into(),
            None,
        )
    }

    /// The same as [`Node::start`], but as the vassal of an Emperor, whose log it shares.
    pub fn start_vassal(uwsgi: Uwsgi, folder: &Path, ini: &str, env: &[(&str, &str)]) -> Node {
        fs::create_dir_all(folder.join("vassals")).expect("the folder is writable");
        write_ini(uwsgi, folder, VASSAL, ini);
        let emperor = "[uwsgi]\nmaster = true\nno-orphans = true\nemperor = vassals\nemperor-freq = 1\n";
        let file = folder.join("emperor.ini");
        fs::write(&file, emperor).expect("the folder is writable");
        let (log, command) = (open_log(folder).into(), Command::new(uwsgi.program()));
        let mut node = Node::start_logging(command, file, folder, ini, env, log, None);
        node.is_vassal = true;
        node
    }

    /// The same as [`Node::start`], but with a log that can be blocked.
    pub fn start_piped(uwsgi: Uwsgi, folder: &Path, ini: &str, env: &[(&str, &str)]) -> Node {
        let (piped, log) = PipedLog::to(open_log(folder)).expect("a descriptor is free");
        let file = write_ini(uwsgi, folder, "node.ini", ini);
        Node::start_logging(Command::new(uwsgi.program()), file, folder, ini, env, log, Some(piped))
    }

    fn start_logging(
        mut command: Command,
        file: PathBuf,
        folder: &Path,
        ini: &str,
        env: &[(&str, &str)],
        log: OwnedFd,
        piped: Option<PipedLog>,
    ) -> Node {
        command.arg("--ini").arg(&file).current_dir(folder);
        // The proxies and CAs of whoever runs the tests are none of theirs.
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        // Nor is what others of this machine note there.
        command.env("TMPDIR", folder);
        command.envs(env.iter().copied());
        command.stdout(log.try_clone().expect("a descriptor is free")).stderr(log);
        let child = process::spawn(&mut command).expect("uWSGI starts");
        let changes_user = ini.lines().any(|line| line.starts_with("uid"));
        let keeper = changes_user.then(|| Keeper::of(child.id()).expect("there is a shell"));
        let is_frozen = AtomicBool::new(false);
        Node { child, folder: folder.into(), is_vassal: false, piped, is_frozen, _keeper: keeper }
    }

    /// The ini that it reads when it is reloaded.
    pub fn ini(&self) -> PathBuf {
        self.folder.join(if self.is_vassal { VASSAL } else { "node.ini" })
    }

    /// The id of the master, which stays the same over a reload. A vassal must answer.
    #[track_caller]
    pub fn master(&self) -> u32 {
        if !self.is_vassal {
            return self.child.id();
        }
        let answered = self.stats().and_then(|stats| stats["pid"].as_u64());
        answered.and_then(|id| id.try_into().ok()).expect("the vassal answers")
    }

    /// The id of the master, or of the Emperor.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has logged, also in earlier runs in the same folder.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// The lines that the plugin has logged, without what stands at the start of each.
    pub fn lines(&self) -> Vec<String> {
        let log = self.log();
        log.lines()
            .filter_map(|line| line.strip_prefix("[hetzner-failoverip] "))
            .map(str::to_string)
            .collect()
    }

    /// Waits until the log holds `text`; fails the test when it does not within `limit`.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str, limit: Duration) {
        let found = wait_until(limit, || self.log().contains(text));
        assert!(found, "no \"{text}\" within {limit:?} in this log:\n{}", self.log());
    }

    /// Whether it says that it is Lord of `legion`. A node that does not answer is none.
    pub fn is_lord(&self, legion: &str) -> bool {
        self.legion(legion).is_some_and(|state| state["i_am_the_lord"].as_i64() > Some(0))
    }

    /// The Legions that it says it is Lord of.
    pub fn lord_of(&self) -> Vec<String> {
        let stats = self.stats().unwrap_or_default();
        let legions = stats["legions"].as_array().into_iter().flatten();
        let reigned = legions.filter(|state| state["i_am_the_lord"].as_i64() > Some(0));
        reigned.filter_map(|state| state["legion"].as_str()).map(str::to_string).collect()
    }

    /// What the stats server says of `legion`.
    pub fn legion(&self, legion: &str) -> Option<Value> {
        self.stats()?["legions"].as_array()?.iter().find(|state| state["legion"] == legion).cloned()
    }

    /// All that the stats server says; `None` from a node that does not answer.
    pub fn stats(&self) -> Option<Value> {
        if self.is_frozen.load(Ordering::Relaxed) {
            return None;
        }
        let mut stats = UnixStream::connect(self.folder.join("stats.sock")).ok()?;
        stats.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let mut text = String::new();
        stats.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Sends a signal to the master alone.
    pub fn signal(&self, number: i32) {
        process::signal(self.child.id(), number);
    }

    /// SIGSTOP to the master and its workers, as when the machine hangs.
    pub fn freeze(&self) {
        self.is_frozen.store(true, Ordering::Relaxed);
        process::signal_group(self.child.id(), process::SIGSTOP);
    }

    /// Ends what [`Node::freeze`] began.
    pub fn thaw(&self) {
        process::signal_group(self.child.id(), process::SIGCONT);
        self.is_frozen.store(false, Ordering::Relaxed);
    }

    /// From now on nobody reads its log, until [`Node::read_log_on`]; one of [`Node::start_piped`].
    pub fn block_log(&self) {
        self.piped.as_ref().expect("its log is a pipe").block();
    }

    /// Ends what [`Node::block_log`] began.
    pub fn read_log_on(&self) {
        self.piped.as_ref().expect("its log is a pipe").read_on();
    }

    /// The ids of the workers.
    pub fn workers(&self) -> Vec<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.master());
        let children = fs::read_to_string(children).unwrap_or_default();
        children.split_whitespace().filter_map(|id| id.parse().ok()).collect()
    }

    /// SIGKILL to the master and its workers at once, as when the machine dies.
    pub fn kill(&mut self) {
        process::signal_group(self.child.id(), process::SIGKILL);
        self.child.wait().expect("a child of ours");
    }

    /// Waits for the master's end.
    pub fn wait_for_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        wait_until(limit, || {
            status = self.child.try_wait().expect("a child of ours");
            status.is_some()
        });
        status
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        // It reads what is left.
        self.piped = None;
        if !std::thread::panicking() {
            assert_no_secret(&self.log());
        }
    }
}

/// Writes what uWSGI is to read: the lines of `ini` and what every node needs.
fn write_ini(uwsgi: Uwsgi, folder: &Path, name: &str, ini: &str) -> PathBuf {
    let plugins = uwsgi.plugins();
    let (stats, plugins) = (folder.join("stats.sock"), plugins.display());
    let whole = format!(
        "[uwsgi]\nplugins-dir = {plugins}\nmaster = true\nno-orphans = true\nprocesses = 1\nsocket = 127.0.0.1:0\n\
         stats = {}\n{ini}\n",
        stats.display()
    );
    let file = folder.join(name);
    fs::write(&file, whole).expect("the folder is writable");
    // As the README asks it of what holds a password.
    fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("our own file");
    file
}

/// The file that a log goes on in.
fn open_log(folder: &Path) -> File {
    File::options().create(true).append(true).open(folder.join("log")).expect("the folder is writable")
}

/// An address for a Legion that no other test has: a port that was free a moment ago may be another's now, and that
/// other's nodes would be heard as peers. All of 127.0.0.0/8 is this machine's.
pub fn free_address() -> SocketAddr {
    let host = Ipv4Addr::new(127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255));
    (host, 2000).into()
}
