//! Several nodes in one Legion, configured as the README's example.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::links::Links;
use super::node::{Node, free_address};
use super::process;
use super::robot::Robot;
use super::uwsgi::Uwsgi;
use super::{PASSWORD, USERNAME, wait_until};

/// The name of the Legion in every test.
pub const LEGION: &str = "failover";

/// Between two hooks of ours, which are run side by side where nothing stands between them.
pub const APART: &str = "legion-lord = failover log:the next hook\n";

/// The secret of that Legion, and of the second one.
pub const SECRETS: [&str; 2] = ["secret1", "secret2"];

/// Node N's valor is this less N.
const HIGHEST: u64 = 10_000;

/// What a node adds to its valor for its rank is a multiple of this.
pub const RANK: u64 = 16_384;

/// Where node N (from 1) wants the IP routed, as in the README: 1.1.1.1, 2.2.2.2, 3.3.3.3; then 14.14.14.14 and on, for
/// the failover IPs are 4.4.4.4 and 5.5.5.5.
pub fn address(node: usize) -> String {
    let node = if node < 4 { node } else { node + 10 };
    [node.to_string().as_str(); 4].join(".")
}

/// The failover IP of every hook that [`hook`] makes.
pub fn failover_ip() -> IpAddr {
    [4, 4, 4, 4].into()
}

/// [`address`] as one.
pub fn target(node: usize) -> IpAddr {
    crate::ip(&address(node))
}

/// As the stand-in says it.
pub fn route_of(node: usize) -> Option<IpAddr> {
    Some(target(node))
}

/// A hook's argument for node N, with the stand-in's URL and what else is given.
pub fn hook(node: usize, url: &str, more: &str) -> String {
    let active_ip = address(node);
    format!("username={USERNAME},password={PASSWORD},ip=4.4.4.4,active_ip={active_ip},url={url}{more}")
}

/// Nodes 1 to N; node 1 has the highest valor. Each can be started, killed and started again.
pub struct Legion {
    uwsgi: Uwsgi,
    folder: TempDir,
    addresses: Vec<SocketAddr>,
    /// What each ini says beside the Legion itself.
    inis: Vec<String>,
    env: Vec<(String, String)>,
    /// What only one node has in its environment.
    own_env: Vec<Vec<(String, String)>>,
    how: Vec<How>,
    nodes: Vec<Option<Node>>,
    /// Between every two nodes, where the test wants to cut them.
    links: Option<Links>,
    /// Another Legion of the same nodes.
    second: Option<Second>,
    /// Whether all nodes have the same valor.
    are_equal: bool,
}

/// How a node is run.
#[derive(Clone)]
enum How {
    Plain,
    /// Its log is a pipe that can be blocked.
    Piped,
    Vassal,
    /// By this copy of its uWSGI.
    Copied(PathBuf),
    /// By these words, which become its uWSGI.
    By(Vec<OsString>),
}

/// A second Legion, in which the last node has the highest valor.
struct Second {
    name: String,
    addresses: Vec<SocketAddr>,
    links: Links,
}

impl Legion {
    /// A Legion of as many nodes as there are `hooks`, none of them started. `options` are lines for every ini.
    pub fn new(uwsgi: Uwsgi, hooks: &[String], options: &str) -> Legion {
        Legion::of_action(uwsgi, Robot::ACTION, hooks, options)
    }

    /// The same, with the action of another hoster.
    pub fn of_action(uwsgi: Uwsgi, action: &str, hooks: &[String], options: &str) -> Legion {
        let inis = hooks
            .iter()
            .map(|hook| format!("plugin = hetzner\nlegion-lord = {LEGION} {action}:{hook}\n{options}"));
        Legion { inis: inis.collect(), ..Legion::of(uwsgi, hooks.len()) }
    }

    /// A Legion of so many nodes, whose inis say nothing beside it until [`Legion::set_ini`].
    pub fn of(uwsgi: Uwsgi, nodes: usize) -> Legion {
        Legion {
            uwsgi,
            folder: tempfile::tempdir().expect("a temporary folder"),
            addresses: (0..nodes).map(|_| free_address()).collect(),
            inis: vec![String::new(); nodes],
            env: Vec::new(),
            own_env: vec![Vec::new(); nodes],
            how: vec![How::Plain; nodes],
            nodes: (0..nodes).map(|_| None).collect(),
            links: None,
            second: None,
            are_equal: false,
        }
    }

    /// What the ini of node N says beside the Legion itself, from its next start on.
    pub fn set_ini(&mut self, node: usize, lines: String) {
        self.inis[node - 1] = lines;
    }

    /// Lets the nodes load another plugin than the one that was built for their uWSGI. Its path must end in
    /// `_plugin.so`, as uWSGI wants it. Before the first node is started.
    pub fn with_plugin(mut self, path: &Path) -> Legion {
        for ini in &mut self.inis {
            *ini = ini.replacen("plugin = hetzner\n", &format!("plugin = {}\n", path.display()), 1);
        }
        self
    }

    /// Lets all announcements pass through links that can be cut. Before the first node is started.
    pub fn with_links(mut self) -> Legion {
        self.links = Some(Links::between(&self.addresses, SECRETS[0]));
        self
    }

    /// Makes all nodes members of a second Legion too, in which the last one has the highest valor. It has links of
    /// its own. Before the first node is started.
    pub fn with_second(mut self, name: &str) -> Legion {
        let addresses: Vec<SocketAddr> = self.addresses.iter().map(|_| free_address()).collect();
        self.second =
            Some(Second { name: name.into(), links: Links::between(&addresses, SECRETS[1]), addresses });
        self
    }

    /// The links, which [`Legion::with_links`] has made.
    pub fn links(&self) -> &Links {
        self.links.as_ref().expect("the Legion has links")
    }

    /// The links of the first Legion, and those of the second where there is one.
    pub fn all_links(&self) -> impl Iterator<Item = &Links> {
        self.links.iter().chain(self.second.iter().map(|second| &second.links))
    }

    /// Sets an environment variable for the nodes that start from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.into(), value.into()));
    }

    /// Sets environment variables for node N alone, from its next start on.
    pub fn set_own_env(&mut self, node: usize, env: impl IntoIterator<Item = (String, String)>) {
        self.own_env[node - 1].extend(env);
    }

    /// Makes the log of node N a pipe that can be blocked, from its next start on.
    pub fn pipe_log(&mut self, node: usize) {
        self.how[node - 1] = How::Piped;
    }

    /// Lets an Emperor run node N, from its next start on.
    pub fn make_vassal(&mut self, node: usize) {
        self.how[node - 1] = How::Vassal;
    }

    /// Lets node N run a copy of its uWSGI, from its next start on; returns where that is.
    pub fn copy_program(&mut self, node: usize) -> PathBuf {
        let copy = self.folder(node).join("uwsgi");
        process::copy_program(&self.uwsgi.program(), &copy).expect("a writable folder");
        self.how[node - 1] = How::Copied(copy.clone());
        copy
    }

    /// Lets these words run node N, from its next start on: they are given its uWSGI and its arguments, and become it.
    pub fn run_by(&mut self, node: usize, words: Vec<OsString>) {
        self.how[node - 1] = How::By(words);
    }

    /// Where nodes 1 to N listen, where they have networks of their own. Before the first node is started.
    pub fn listen_at(&mut self, addresses: Vec<SocketAddr>) {
        assert_eq!(addresses.len(), self.addresses.len());
        self.addresses = addresses;
    }

    /// Changes the ini that node N reads when it is reloaded.
    #[track_caller]
    pub fn edit(&self, node: usize, change: impl FnOnce(String) -> String) {
        let path = self.node(node).ini();
        let before = fs::read_to_string(&path).expect("it was written at the start");
        let after = change(before.clone());
        assert_ne!(after, before, "nothing is changed");
        let modified = fs::metadata(&path).and_then(|data| data.modified()).expect("it is there");
        // An Emperor that sees a change reloads its vassal: that is to be asked for.
        let file = File::options().write(true).truncate(true).open(&path).expect("our own file");
        (&file).write_all(after.as_bytes()).and_then(|()| file.set_modified(modified)).expect("our own file");
    }

    /// The ini of node N, without what the test setting adds.
    fn ini(&self, node: usize) -> String {
        let own = self.addresses[node - 1];
        let valor = HIGHEST - if self.are_equal { 1 } else { node as u64 };
        let [secret, second_secret] = SECRETS;
        let mut ini = format!("legion = {LEGION} {own} {valor} aes-128-cbc:{secret}\n");
        for peer in (1..=self.addresses.len()).filter(|peer| *peer != node) {
            let direct = self.addresses[peer - 1];
            let address = self.links.as_ref().map_or(direct, |links| links.address(node, peer));
            ini += &format!("legion-node = {LEGION} {address}\n");
        }
        if let Some(Second { name, addresses, links }) = &self.second {
            let (own, valor) = (addresses[node - 1], 10_000 + node);
            ini += &format!("legion = {name} {own} {valor} aes-128-cbc:{second_secret}\n");
            for peer in (1..=addresses.len()).filter(|peer| *peer != node) {
                ini += &format!("legion-node = {name} {}\n", links.address(node, peer));
            }
        }
        ini + &self.inis[node - 1]
    }

    /// Gives all nodes the same valor, before they are started.
    pub fn make_equal(&mut self) {
        self.are_equal = true;
    }

    /// What node N's ini says beside the Legion itself, to be changed before the node is started.
    pub fn ini_mut(&mut self, node: usize) -> &mut String {
        &mut self.inis[node - 1]
    }

    /// Where node N listens, which is its own address too.
    pub fn address(&self, node: usize) -> IpAddr {
        self.addresses[node - 1].ip()
    }

    /// The folder in which node N runs.
    pub fn folder(&self, node: usize) -> PathBuf {
        let folder = self.folder.path().join(node.to_string());
        fs::create_dir_all(&folder).expect("a writable folder");
        folder
    }

    /// Starts node N, or starts it again; its log goes on where it ended.
    pub fn start(&mut self, node: usize) {
        let folder = self.folder(node);
        let env = self.env.iter().chain(&self.own_env[node - 1]);
        let env: Vec<(&str, &str)> = env.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (uwsgi, ini) = (self.uwsgi, self.ini(node));
        self.nodes[node - 1] = Some(match &self.how[node - 1] {
            How::Plain => Node::start(uwsgi, &folder, &ini, &env),
            How::Piped => Node::start_piped(uwsgi, &folder, &ini, &env),
            How::Vassal => Node::start_vassal(uwsgi, &folder, &ini, &env),
            How::Copied(program) => Node::start_by(Command::new(program), uwsgi, &folder, &ini, &env),
            How::By(words) => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]).arg(uwsgi.program());
                Node::start_by(command, uwsgi, &folder, &ini, &env)
            }
        });
    }

    /// Starts all nodes.
    pub fn start_all(&mut self) {
        (1..=self.inis.len()).for_each(|node| self.start(node));
    }

    /// Node N, which must have been started.
    pub fn node(&self, node: usize) -> &Node {
        self.nodes[node - 1].as_ref().expect("the node was started")
    }

    /// Kills node N with SIGKILL.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node - 1].as_mut().expect("the node was started").kill();
    }

    /// Whether node N ends within `limit`.
    pub fn wait_for_exit(&mut self, node: usize, limit: Duration) -> bool {
        self.nodes[node - 1].as_mut().expect("the node was started").wait_for_exit(limit).is_some()
    }

    /// The nodes that say they are Lord.
    pub fn lords(&self) -> Vec<usize> {
        let started = self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at + 1, node.as_ref()?)));
        started.filter(|(_, node)| node.is_lord(LEGION)).map(|(number, _)| number).collect()
    }

    /// How many nodes it is of.
    pub fn size(&self) -> usize {
        self.inis.len()
    }

    /// The uuid of node N, which its peers know it by; `None` from a node that does not answer.
    pub fn uuid(&self, node: usize) -> Option<String> {
        Some(self.node(node).legion(LEGION)?["uuid"].as_str()?.to_string())
    }

    /// Whether node N counts the node with this uuid as a member.
    pub fn counts(&self, node: usize, uuid: &str) -> bool {
        let state = self.node(node).legion(LEGION).unwrap_or_default();
        state["members"].as_array().is_some_and(|members| members.iter().any(|member| member["uuid"] == uuid))
    }

    /// The nodes that node N counts as members, without itself, and what each adds to its valor, in 16,384s.
    pub fn ranks(&self, node: usize) -> Vec<(usize, u64)> {
        let state = self.node(node).legion(LEGION).unwrap_or_default();
        let members = state["members"].as_array().cloned().unwrap_or_default();
        let valors = members.iter().filter_map(|member| member["valor"].as_u64());
        let known = |valor| Some((usize::try_from(HIGHEST - valor % RANK).ok()?, valor / RANK));
        let mut members: Vec<_> = valors.filter_map(known).collect();
        members.sort_unstable();
        members
    }

    /// The nodes that node N counts as members, without itself.
    pub fn members(&self, node: usize) -> Vec<usize> {
        self.ranks(node).into_iter().map(|(member, _)| member).collect()
    }

    /// Waits until node N alone is Lord; fails the test when it is not within `limit`.
    #[track_caller]
    pub fn wait_for_lord(&self, node: usize, limit: Duration) {
        let found = wait_until(limit, || self.lords() == [node]);
        assert!(found, "after {limit:?} the Lords are {:?}, not [{node}]:\n{}", self.lords(), self.logs());
    }

    /// Whether one of the logs holds `text`.
    pub fn any_log_holds(&self, text: &str) -> bool {
        self.logs().contains(text)
    }

    /// All logs, for a test that fails.
    pub fn logs(&self) -> String {
        let started = self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at + 1, node.as_ref()?)));
        started.map(|(number, node)| format!("--- node {number}\n{}", node.log())).collect()
    }
}
