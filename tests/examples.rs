//! The files of examples/, run as a sysadmin would: copied, with the addresses and names changed, and nothing added.

use std::fs;
use std::io::{Write as _, stderr};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::legion::{LEGION, SECRETS, address, failover_ip, route_of};
use lab::links::Links;
use lab::node::{Node, free_address};
use lab::process::{SIGINT, is_root};
use lab::robot::{Config, Failover, Login, Robot};
use lab::scene::{LIMIT, on_each_uwsgi, seconds};
use lab::uwsgi::{Uwsgi, checkout};
use lab::{PASSWORD, wait_until};
use tempfile::TempDir;

on_each_uwsgi! {
    three_servers_with_the_examples_ini_follow_the_lord
    the_examples_ini_does_not_start_without_the_plugin
    of_two_servers_and_an_arbiter_one_is_lord
    a_handover_is_one_switch_where_the_valor_is_lowered
    what_the_unit_says_of_uwsgi_is_so
}

/// A user and a group that every Debian has, with next to no rights.
const USER: (&str, u32) = ("nobody", 65_534);
const GROUP: (&str, u32) = ("nogroup", 65_534);

fn example(name: &str) -> String {
    fs::read_to_string(checkout().join("examples").join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn replaced(text: &str, before: &str, after: &str) -> String {
    assert!(text.contains(before), "there is no {before} in:\n{text}");
    text.replace(before, after)
}

/// Servers 1.1.1.1 and 2.2.2.2, and 3.3.3.3, each with its ini.
struct Servers {
    uwsgi: Uwsgi,
    robot: Robot,
    links: Links,
    inis: Vec<String>,
    nodes: Vec<Option<Node>>,
    folder: TempDir,
}

impl Servers {
    /// `names` are the examples that the three have.
    fn new(uwsgi: Uwsgi, names: [&str; 3]) -> Servers {
        let failover = vec![Failover::new(failover_ip(), None)];
        let login = Some(Login::new("FOO", PASSWORD));
        let robot = Robot::start(Config { failover, login, ..Config::default() }).expect("a free port");
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Their user has to come in, as into /etc.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our own");
        let addresses = names.map(|_| free_address());
        let links = Links::between(&addresses, SECRETS[0]);
        let mut servers = Servers { uwsgi, robot, links, inis: Vec::new(), nodes: Vec::new(), folder };
        for (at, name) in names.into_iter().enumerate() {
            let ini = servers.ini(at + 1, example(name), &addresses);
            servers.inis.push(ini);
            servers.nodes.push(None);
        }
        servers
    }

    fn folder(&self, server: usize) -> std::path::PathBuf {
        let folder = self.folder.path().join(server.to_string());
        if !folder.exists() {
            fs::create_dir(&folder).expect("a writable folder");
            // For the socket of the stats server.
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("our own");
        }
        folder
    }

    /// The example as the sysadmin of that server changes it: its own address and valor first, the others' behind.
    fn ini(&self, server: usize, example: String, addresses: &[SocketAddr]) -> String {
        let folder = self.folder(server);
        let mut ini = example;
        if server == 2 {
            ini = replaced(&ini, "1.1.1.1", "own");
            ini = replaced(&replaced(&ini, "2.2.2.2", "1.1.1.1"), "own", "2.2.2.2");
        } else if server == 3 && ini.contains("active_ip=1.1.1.1") {
            ini = replaced(&ini, "1.1.1.1", "own");
            ini = replaced(&replaced(&ini, "3.3.3.3", "1.1.1.1"), "own", "3.3.3.3");
        }
        ini = ini.replace(" 9999 ", &format!(" {} ", 10_000 - server));
        for other in 1..=3 {
            let real =
                if other == server { addresses[server - 1] } else { self.links.address(server, other) };
            ini = replaced(&ini, &format!("{}:2000", address(other)), &real.to_string());
        }
        ini = replaced(&ini, "uid = uwsgi-failover", &format!("uid = {}", USER.0));
        ini = replaced(&ini, "gid = uwsgi-failover", &format!("gid = {}", GROUP.0));
        ini = replaced(&ini, "127.0.0.1:1717\n", &format!("{}/stats.sock\n", folder.display()));
        if ini.contains("hetzner-failoverip:") {
            let file = folder.join("robot-password");
            fs::write(&file, format!("{PASSWORD}\n")).expect("a writable folder");
            for_the_group(&file);
            ini = replaced(&ini, "/etc/uwsgi-failover/robot-password", &file.display().to_string());
            let active_ip = format!("active_ip={}", address(server));
            let url = self.robot.url(failover_ip());
            ini = replaced(&ini, &format!("{active_ip}\n"), &format!("{active_ip},url={url}\n"));
        }
        ini
    }

    fn start(&mut self, server: usize) {
        let command = Command::new(self.uwsgi.program());
        self.start_by(server, command, &[]);
    }

    /// By the beginning of a command to which the ini is added.
    fn start_by(&mut self, server: usize, command: Command, env: &[(&str, &str)]) {
        let folder = self.folder(server);
        let file = folder.join("failover.ini");
        fs::write(&file, &self.inis[server - 1]).expect("a writable folder");
        for_the_group(&file);
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().expect("UTF-8"))).collect();
        // What Node adds to the command are arguments of the shell's, which drops them.
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {} --ini failover.ini", words.join(" "))]);
        let plugins = self.uwsgi.plugins();
        let mut env = env.to_vec();
        env.push(("UWSGI_PLUGINS_DIR", plugins.to_str().expect("UTF-8")));
        self.nodes[server - 1] = Some(Node::start_by(shell, self.uwsgi, &folder, "", &env));
    }

    fn start_all(&mut self) {
        (1..=3).for_each(|server| self.start(server));
    }

    fn node(&self, server: usize) -> &Node {
        self.nodes[server - 1].as_ref().expect("it was started")
    }

    fn kill(&mut self, server: usize) {
        self.nodes[server - 1].as_mut().expect("it was started").kill();
    }

    /// As the unit stops it.
    fn stop(&mut self, server: usize) {
        assert!(unit("KillSignal") == ["SIGINT"]);
        let node = self.nodes[server - 1].as_mut().expect("it was started");
        node.signal(SIGINT);
        let status = node.wait_for_exit(LIMIT).unwrap_or_else(|| panic!("it goes on:\n{}", node.log()));
        assert!(status.success(), "{status}\n{}", node.log());
    }

    fn lords(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at + 1, node.as_ref()?)));
        nodes.filter(|(_, node)| node.is_lord(LEGION)).map(|(server, _)| server).collect()
    }

    fn is_at(&self, server: usize) -> bool {
        self.lords() == [server] && self.robot.route(failover_ip()) == route_of(server)
    }

    #[track_caller]
    fn wait_for(&self, server: usize, limit: Duration) {
        let found = wait_until(limit, || self.is_at(server));
        assert!(found, "not at server {server} within {limit:?}: {}", self.state());
    }

    /// The next seconds bring no change.
    #[track_caller]
    fn stays_at(&self, server: usize) {
        assert!(!wait_until(seconds(8), || !self.is_at(server)), "no more at {server}: {}", self.state());
    }

    fn posts(&self) -> usize {
        self.robot.journal().iter().filter(|request| request.method == "POST").count()
    }

    fn state(&self) -> String {
        let logs = self.nodes.iter().flatten().map(|node| format!("---\n{}", node.log()));
        let logs: String = logs.collect();
        format!("Lords {:?}, routes {:?}\n{logs}", self.lords(), self.robot.history())
    }
}

/// Root's, and to be read by the group of the uWSGI that needs it, as the README says.
fn for_the_group(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o640)).expect("our own");
    if is_root() {
        chown(file, None, Some(GROUP.1)).expect("root may");
    }
}

fn three_servers_with_the_examples_ini_follow_the_lord(uwsgi: Uwsgi) {
    let mut servers = Servers::new(uwsgi, ["failover.ini"; 3]);
    servers.start_all();
    servers.wait_for(1, LIMIT);
    let stats = || servers.node(1).stats().expect("it runs");
    let route = || stats()["metrics"]["hetzner.failover.4.4.4.4.route"]["value"].as_i64();
    assert!(wait_until(LIMIT, || route() == Some(1)), "{}", stats());
    let stats = stats();
    assert!(stats["workers"].as_array().is_none_or(Vec::is_empty), "it serves nothing: {stats}");
    if is_root() {
        assert_eq!(stats["uid"], USER.1, "{stats}");
        assert_eq!(stats["gid"], GROUP.1, "{stats}");
    }
    assert!(!stats.to_string().contains(PASSWORD));
    servers.kill(1);
    servers.wait_for(2, LIMIT);
    // 4.4.4.4 is no address of this machine, and neither are 1.1.1.1 and so on. Nothing else is to be told.
    for server in 1..=3 {
        let lines = servers.node(server).lines();
        let warnings = lines.iter().filter(|line| line.starts_with("warning: "));
        let others: Vec<_> =
            warnings.filter(|line| !line.contains("is not on any interface of this host")).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}

/// A uWSGI whose plugin is not where it looks must not run as a node that takes nothing over.
fn the_examples_ini_does_not_start_without_the_plugin(uwsgi: Uwsgi) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (line, starts) in [("need-plugin = hetzner", false), ("plugin = hetzner", true)] {
        let ini = replaced(&example("failover.ini"), "need-plugin = hetzner", line);
        let ini = replaced(&ini, "1.1.1.1:2000", &free_address().to_string());
        let ini: String = ini
            .lines()
            .filter(|line| !line.contains("uwsgi-failover"))
            .map(|line| format!("{line}\n"))
            .collect();
        let ini = replaced(&ini, "127.0.0.1:1717", &format!("{}/stats.sock", folder.path().display()));
        fs::write(folder.path().join("failover.ini"), ini).expect("a writable folder");
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {} --ini failover.ini", uwsgi.program().display())]);
        let empty = [("UWSGI_PLUGINS_DIR", "/nonexistent")];
        let mut node = Node::start_by(shell, uwsgi, folder.path(), "", &empty);
        if starts {
            node.wait_for_log("legion manager thread enabled", LIMIT);
            continue;
        }
        let status = node.wait_for_exit(LIMIT).unwrap_or_else(|| panic!("it goes on:\n{}", node.log()));
        assert_eq!(status.code(), Some(1), "{}", node.log());
        assert!(node.log().contains("unable to load plugin \"hetzner\""), "{}", node.log());
    }
}

/// README, "Two servers".
fn of_two_servers_and_an_arbiter_one_is_lord(uwsgi: Uwsgi) {
    let mut servers = Servers::new(uwsgi, ["failover.ini", "failover.ini", "arbiter.ini"]);
    assert!(!servers.inis[2].contains("plugin ="), "{}", servers.inis[2]);
    servers.start_all();
    servers.wait_for(1, LIMIT);
    // uWSGI's own word for a node that is never Lord.
    servers.node(1).wait_for_log("arbiter: ", LIMIT);
    servers.kill(1);
    servers.wait_for(2, LIMIT);
    servers.start(1);
    servers.wait_for(1, LIMIT);
    // Within a minute of an earlier lack of quorum uWSGI does not have a Lord step down for another one.
    servers.links.cut_off(1);
    servers.wait_for(2, LIMIT);
    servers.stays_at(2);
    servers.links.heal();
    servers.wait_for(1, LIMIT);
    let posts = servers.posts();
    servers.kill(3);
    servers.stays_at(1);
    assert_eq!(servers.posts(), posts, "the two are a majority without it: {}", servers.state());
}

/// README, "A planned handover".
fn a_handover_is_one_switch_where_the_valor_is_lowered(uwsgi: Uwsgi) {
    let mut servers = Servers::new(uwsgi, ["failover.ini"; 3]);
    servers.start_all();
    servers.wait_for(1, LIMIT);
    servers.stop(1);
    servers.wait_for(2, LIMIT);
    let told = servers.node(2).log();
    assert!(told.contains("announced its death"), "{told}");
    servers.inis[0] = replaced(&servers.inis[0], " 9999 ", " 9996 ");
    servers.start(1);
    servers.node(1).wait_for_log("WE HAVE QUORUM", LIMIT);
    servers.stays_at(2);
    assert_eq!(servers.posts(), 2, "{}", servers.state());
}

/// The values of a key in the unit.
fn unit(key: &str) -> Vec<String> {
    let text = example("uwsgi-failover.service");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let found = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    found.map(str::to_string).collect()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    // systemd asks whether the program is there, which need not be so here.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = replaced(
        &example("uwsgi-failover.service"),
        "/usr/bin/uwsgi-core",
        Uwsgi::Debian.program().to_str().expect("UTF-8"),
    );
    let file = folder.path().join("uwsgi-failover.service");
    fs::write(&file, text).expect("a writable folder");
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&file).output() else {
        // Past the harness, which shows what a test prints only when it fails.
        let _ = writeln!(stderr(), "tests/examples.rs: skipped: no systemd-analyze here");
        return;
    };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// What systemd would do, as far as it can be done without it: another user, no rights, a socket to be told on, and the
/// signals of the unit.
fn what_the_unit_says_of_uwsgi_is_so(uwsgi: Uwsgi) {
    let mut servers = Servers::new(uwsgi, ["failover.ini"; 3]);
    let folder = servers.folder(1);
    let socket = folder.join("notify.sock");
    let told = UnixDatagram::bind(&socket).expect("a free path");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).expect("our own");
    told.set_read_timeout(Some(LIMIT)).expect("not zero");

    assert_eq!(unit("ExecStart"), ["/usr/bin/uwsgi-core --ini /etc/uwsgi-failover/failover.ini"]);
    let mut command = Command::new("setpriv");
    if is_root() {
        assert_eq!(unit("CapabilityBoundingSet"), [""]);
        command.args(["--reuid", USER.0, "--regid", GROUP.0, "--clear-groups", "--bounding-set=-all"]);
    }
    assert_eq!(unit("NoNewPrivileges"), ["yes"]);
    command.arg("--no-new-privs").arg(uwsgi.program());
    servers.start_by(1, command, &[("NOTIFY_SOCKET", socket.to_str().expect("UTF-8"))]);

    assert_eq!(unit("Type"), ["notify"]);
    let mut message = [0; 1024];
    loop {
        let length = told.recv(&mut message).unwrap_or_else(|error| panic!("{error}: {}", servers.state()));
        if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "READY=1") {
            break;
        }
    }
    // There is no other process that may have said it, so the default of NotifyAccess does.
    assert_eq!(servers.node(1).workers(), [0; 0]);
    servers.start(2);
    servers.start(3);
    servers.wait_for(1, LIMIT);
    servers.stop(1);
    servers.node(2).wait_for_log("announced its death", LIMIT);
    servers.wait_for(2, LIMIT);
}
