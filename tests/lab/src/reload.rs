//! Reloads: the ways to ask a master for one, and apps that take their time before they serve, or before they let go.
//!
//! No language plugin is needed, since Debian's `uwsgi-core` has none: the app is a script that uWSGI runs where it
//! would load one, and the test may write another before the next image does.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::legion::Legion;
use crate::node::Node;
use crate::process::{self, SIGCONT, SIGHUP, SIGSTOP, SIGTERM};
use crate::wait_until;

/// How a master is told to reload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Hup,
    Touch,
    Fifo,
    /// Brutal: requests that are served are broken off.
    FifoBrutal,
    /// Brutal too; without `die-on-term`.
    Term,
    /// The ini is touched, which the Emperor sees.
    Emperor,
}

impl Way {
    /// All that need no Emperor.
    pub const ALL: [Way; 5] = [Way::Hup, Way::Touch, Way::Fifo, Way::FifoBrutal, Way::Term];
}

/// The files in a node's folder that its reloads go by.
const TOUCHED: &str = "touched";
const FIFO: &str = "fifo";
const APP: &str = "app.sh";
/// The environment of the master when its app is loaded, and of its workers.
const ENVIRONMENTS: [&str; 2] = ["env.master", "env.worker"];

impl Legion {
    /// Gives node N what every way to reload needs, and an app; before it is started.
    pub fn make_reloadable(&mut self, node: usize) {
        let folder = self.folder(node);
        fs::write(folder.join(TOUCHED), "").expect("our own folder");
        self.set_app(node, "");
        let [master, worker] = ENVIRONMENTS.map(|name| folder.join(name));
        let (app, folder) = (folder.join(APP), folder.display());
        let more = format!(
            "touch-reload = {folder}/{TOUCHED}\nmaster-fifo = {folder}/{FIFO}\nexec-pre-app = exec sh {}\n\
             exec-post-app = env > {}\nhook-post-fork = exec:env > {}\nreload-mercy = 20\n",
            app.display(),
            master.display(),
            worker.display(),
        );
        *self.ini_mut(node) += &more;
    }

    /// The script that the next image of node N runs where it loads its app: if it fails, uWSGI ends.
    pub fn set_app(&self, node: usize, script: &str) {
        let path = self.folder(node).join(APP);
        fs::write(&path, script).expect("our own folder");
    }

    /// Tells node N to reload. A master that does not serve yet would wait for its worker in vain.
    pub fn ask_for_reload(&self, node: usize, way: Way) {
        let folder = self.folder(node);
        match way {
            Way::Hup => process::signal(self.node(node).master(), SIGHUP),
            Way::Term => process::signal(self.node(node).master(), SIGTERM),
            Way::Touch => touch(&folder.join(TOUCHED)),
            Way::Emperor => touch(&self.node(node).ini()),
            Way::Fifo => write(&folder.join(FIFO), "r"),
            Way::FifoBrutal => write(&folder.join(FIFO), "R"),
        }
    }

    /// The names of the variables that the app and the worker of node N find in their environment.
    pub fn environments(&self, node: usize) -> Vec<String> {
        let read = |name| fs::read_to_string(self.folder(node).join(name)).expect("it was written");
        let texts = ENVIRONMENTS.map(read);
        let lines = texts.iter().flat_map(|text| text.lines());
        let mut names: Vec<String> =
            lines.filter_map(|line| Some(line.split_once('=')?.0.to_string())).collect();
        names.sort();
        names
    }
}

/// Seconds count here, so that two touches within one are none.
fn touch(path: &Path) {
    let file = File::options().write(true).open(path).expect("our own file");
    let before = file.metadata().and_then(|data| data.modified()).expect("it has one");
    let later = before.max(SystemTime::now()) + Duration::from_secs(2);
    file.set_modified(later).expect("our own file");
}

fn write(fifo: &Path, command: &str) {
    // It fails where nobody reads, instead of waiting.
    let mut fifo = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(fifo).expect("a master");
    fifo.write_all(command.as_bytes()).expect("there is room");
}

impl Node {
    /// How many images of uWSGI have begun so far, that of an Emperor among them.
    pub fn images(&self) -> usize {
        self.log().matches("*** Starting uWSGI ").count()
    }

    /// Whether it answers, and its workers accept requests: from then on it may be told to reload.
    pub fn serves(&self) -> bool {
        let stats = self.stats().unwrap_or_default();
        let workers = stats["workers"].as_array().cloned().unwrap_or_default();
        !workers.is_empty() && workers.iter().all(|worker| worker["accepting"] == 1)
    }

    /// Lets its workers do nothing, so that a reload has to wait for them; returns who they are.
    pub fn stop_workers(&self) -> Vec<u32> {
        let workers = self.workers();
        workers.iter().for_each(|worker| process::signal(*worker, SIGSTOP));
        workers
    }
}

/// Ends what [`Node::stop_workers`] began.
pub fn let_go_on(workers: &[u32]) {
    workers.iter().for_each(|worker| process::signal(*worker, SIGCONT));
}

/// Waits for the end of node N's master; returns when that was.
#[track_caller]
pub fn death(legion: &mut Legion, node: usize, limit: Duration) -> Instant {
    assert!(legion.wait_for_exit(node, limit), "it does not end: {}", legion.node(node).log());
    Instant::now()
}

/// Waits until node N serves again as another image than the first `images`.
#[track_caller]
pub fn wait_for_image(legion: &Legion, node: usize, images: usize, limit: Duration) {
    let again = || legion.node(node).images() > images && legion.node(node).serves();
    assert!(wait_until(limit, again), "node {node} does not serve again:\n{}", legion.logs());
}
