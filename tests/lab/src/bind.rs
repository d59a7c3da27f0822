//! A real DNS server: Debian's BIND on loopback, the primary of one zone, in which a TSIG key may change the record that
//! examples/dns-record keeps at the Lord.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Write as _, stderr};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;

use super::hoster::Hosted;
use super::legion::{address, target};
use super::process;
use super::standin::Request;
use super::uwsgi::checkout;
use super::{LIMIT, PASSWORD, wait_until};

pub const ZONE: &str = "example.test";
/// The record of every hook. It is not there at the start.
pub const NAME: &str = "www.example.test";
/// Is a CNAME, of which the key may make something else.
pub const ALIAS: &str = "alias.example.test";
/// What the key may not change.
pub const OTHER: &str = "other.example.test";
/// Another server's, of which this one knows nothing but where that is.
pub const DELEGATED: &str = "www.sub.example.test";
/// A zone that the server has not got, for its file is missing.
pub const BROKEN: &str = "broken.test";
/// Whose queries are ours, so that the server's log can tell them from the command's.
const OURS: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 53);
/// The key that the command has, and one that may change all, as somebody does it by hand.
const KEYS: [&str; 2] = ["failover", "hand"];

/// `named`, running. Dropped, it is ended.
pub struct Bind {
    folder: TempDir,
    address: SocketAddr,
    child: Option<Child>,
    /// Frozen, it answers nobody.
    is_frozen: AtomicBool,
}

/// BIND's programs, where `tests/lab/get-uwsgi.py` has unpacked them.
fn unpacked() -> PathBuf {
    checkout().join("target/uwsgi/bind/usr")
}

/// The secret of each key: as base64 the password that nothing may show.
fn secret() -> String {
    BASE64.encode(PASSWORD)
}

fn key(name: &str, secret: &str) -> String {
    format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n")
}

/// What is tested.
pub fn script() -> PathBuf {
    checkout().join("examples/dns-record")
}

/// What that says of itself.
fn head() -> String {
    let text = fs::read_to_string(script()).expect("it is there");
    text.split("\"\"\"").nth(1).expect("a docstring").to_string()
}

fn replaced(text: &str, before: &str, after: &str) -> String {
    assert!(text.contains(before), "there is no {before} in:\n{text}");
    text.replace(before, after)
}

/// What is needed to run them.
fn environment() -> [(&'static str, OsString); 2] {
    let libraries = fs::read_dir(unpacked().join("lib")).expect("it was unpacked");
    let libraries = libraries.filter_map(|entry| Some(entry.ok()?.path()));
    let libraries = libraries.filter(|path| path.to_string_lossy().contains("-linux-"));
    let path = env::var_os("PATH").unwrap_or_default();
    let programs = [unpacked().join("bin"), unpacked().join("sbin")].into_iter();
    [
        ("PATH", env::join_paths(programs.chain(env::split_paths(&path))).expect("no colons")),
        ("LD_LIBRARY_PATH", env::join_paths(libraries).expect("no colons")),
    ]
}

/// `named` listens on addresses of interfaces alone, and so not on all of 127.0.0.0/8. Of these ports the kernel gives none
/// away, so that it is still free when the server comes back.
fn free_port() -> SocketAddr {
    let ports =
        std::iter::repeat_with(|| SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(10_000..30_000))));
    let mut free = ports.filter(|at| UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok());
    free.next().expect("there is no end of them")
}

impl Bind {
    /// `None`, and why, where there is no Debian to have it from.
    pub fn start() -> Option<Bind> {
        if !unpacked().exists() {
            assert!(
                !Path::new("/usr/bin/apt-get").exists(),
                "{} is missing: run `make test`",
                unpacked().display()
            );
            // Past the harness, which shows what a test prints only when it fails.
            let _ = writeln!(stderr(), "skipped: no Debian, and so no BIND");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut bind = Bind { folder, address: free_port(), child: None, is_frozen: AtomicBool::new(false) };
        bind.write_files();
        bind.come_back();
        Some(bind)
    }

    fn write_files(&self) {
        let (folder, ip, port) = (self.folder.path().display(), self.address.ip(), self.address.port());
        let mut conf = String::new();
        for name in KEYS {
            conf += &key(name, &secret());
            self.write(&format!("{name}.key"), &key(name, &secret()));
        }
        // As the script's head says it, with more for the tests.
        let (head, example) = (head(), "example.com");
        let (_, zone) = head.split_once("    zone ").expect("a zone in the head");
        let (zone, _) = zone.split_once("\n    };").expect("its end");
        let zone = replaced(zone, example, ZONE);
        let zone = replaced(&zone, &format!("/var/lib/bind/{ZONE}"), "zone");
        let policy = format!("grant failover name {ALIAS} A AAAA; grant hand zonesub ANY; }};");
        let zone = replaced(&zone, "};", &policy);
        let _ = write!(
            conf,
            "options {{ directory \"{folder}\"; listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }};\n\
             pid-file none; session-keyfile none; recursion no; dnssec-validation no; notify no; querylog yes; }};\n\
             controls {{ }};\nzone {zone}\n}};\n\
             zone \"{BROKEN}\" {{ type primary; file \"missing\"; update-policy {{ grant failover zonesub ANY; }}; }};\n"
        );
        self.write("named.conf", &conf);
        let zone =
            "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\nalias CNAME www\n";
        self.write("zone", &format!("{zone}sub NS ns.elsewhere.test.\n"));
    }

    /// A file in a folder of its own; returns where it is.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a writable folder");
        path
    }

    /// A key file, of the command's key or with something wrong.
    pub fn key_file(&self, name: &str, secret: &str) -> PathBuf {
        self.write(&format!("{name}-{}.key", secret.len()), &key(name, secret))
    }

    /// Starts it, or starts it again, with the records that it had.
    pub fn come_back(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a writable folder");
        let mut named = Command::new(unpacked().join("sbin/named"));
        named.envs(environment()).args(["-g", "-n", "1", "-c"]).arg(self.folder.path().join("named.conf"));
        named.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor is free")).stderr(log);
        self.child = Some(process::spawn(&mut named).expect("named starts"));
        assert!(wait_until(LIMIT, || self.addresses().is_some()), "named does not answer:\n{}", self.log());
    }

    /// It is there no more.
    pub fn go_away(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::signal_group(child.id(), process::SIGKILL);
            child.wait().expect("a child of ours");
        }
    }

    /// It is there, and answers nobody.
    pub fn freeze(&self) {
        self.is_frozen.store(true, Ordering::Relaxed);
        self.signal(process::SIGSTOP);
    }

    /// Ends what [`Bind::freeze`] began: it answers what it was asked meanwhile, too.
    pub fn thaw(&self) {
        self.signal(process::SIGCONT);
        self.is_frozen.store(false, Ordering::Relaxed);
    }

    fn signal(&self, number: i32) {
        process::signal_group(self.child.as_ref().expect("it runs").id(), number);
    }

    /// The lines of an env_file.
    pub fn settings(&self) -> Vec<(String, String)> {
        let server = format!("{} {}", self.address.ip(), self.address.port());
        let key_file = self.folder.path().join("failover.key").display().to_string();
        let own = [("DNS_SERVER", server), ("DNS_ZONE", ZONE.into()), ("DNS_KEY_FILE", key_file)];
        let tools = environment().map(|(name, value)| (name, value.into_string().expect("UTF-8")));
        own.into_iter().chain(tools).map(|(name, value)| (name.to_string(), value)).collect()
    }

    fn env_file(&self) -> PathBuf {
        let lines = self.settings().into_iter().map(|(name, value)| format!("{name}={value}\n"));
        self.write("env", &lines.collect::<String>())
    }

    /// By hand, with another key.
    pub fn update(&self, lines: &[&str]) {
        let mut nsupdate = Command::new(unpacked().join("bin/nsupdate"));
        nsupdate.envs(environment()).arg("-k").arg(self.folder.path().join("hand.key"));
        let script = format!(
            "server {} {}\nzone {ZONE}\n{}\nsend\n",
            self.address.ip(),
            self.address.port(),
            lines.join("\n")
        );
        let status = nsupdate.arg(self.write("by-hand", &script)).status().expect("nsupdate starts");
        assert!(status.success(), "{lines:?}:\n{}", self.log());
    }

    /// The addresses of the record, as the server says; `None` if it says nothing.
    pub fn addresses(&self) -> Option<Vec<IpAddr>> {
        self.ask(1).map(|found| {
            found.into_iter().map(|data| <[u8; 4]>::try_from(data).expect("an A").into()).collect()
        })
    }

    /// The same of IPv6.
    pub fn addresses6(&self) -> Option<Vec<IpAddr>> {
        self.ask(28).map(|found| {
            found.into_iter().map(|data| <[u8; 16]>::try_from(data).expect("an AAAA").into()).collect()
        })
    }

    /// The data of all records of a type (RFC 1035).
    fn ask(&self, kind: u8) -> Option<Vec<Vec<u8>>> {
        if self.is_frozen.load(Ordering::Relaxed) {
            return None;
        }
        let socket = UdpSocket::bind((OURS, 0)).expect("loopback has free ports");
        // Connected, it is told at once when nobody listens there.
        socket.connect(self.address).expect("loopback leads everywhere");
        socket.set_read_timeout(Some(LIMIT)).expect("not zero");
        let id = [fastrand::u8(..), fastrand::u8(..)];
        let mut query = vec![id[0], id[1], 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in NAME.split('.') {
            query.push(label.len() as u8);
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, kind, 0, 1]);
        socket.send(&query).ok()?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).ok()?;
        let (head, records) = answer[..length].split_at_checked(query.len())?;
        if head[..2] != id || !matches!(head[3] & 15, 0 | 3) {
            return None;
        }
        let mut found = Vec::new();
        let mut rest = records;
        // Of each record the name is a pointer to the question's; then type, class, TTL, length, data.
        for _ in 0..head[7] {
            let size = 12 + usize::from(rest[11]);
            if rest[3] == kind {
                found.push(rest[12..size].to_vec());
            }
            rest = &rest[size..];
        }
        Some(found)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        self.go_away();
    }
}

/// What is not asked here has no place in a DNS server: faults, a switch that takes its time.
impl Hosted for Bind {
    fn action(&self) -> &'static str {
        "failover-command"
    }

    fn hook(&self, node: usize, _: IpAddr, more: &str) -> String {
        let (head, script, env_file) = (head(), script(), self.env_file());
        let line = head
            .lines()
            .find_map(|line| line.trim().strip_prefix("legion-lord = failover failover-command:"));
        let mut hook = line.expect("an ini line in the head").to_string();
        for (before, after) in [
            ("/usr/local/sbin/dns-record", script.display().to_string()),
            ("www.example.com", NAME.into()),
            ("192.0.2.1", address(node)),
            ("/etc/uwsgi-failover/dns.env", env_file.display().to_string()),
        ] {
            hook = replaced(&hook, before, &after);
        }
        hook + more
    }

    fn target_of(&self, node: usize) -> String {
        address(node)
    }

    fn server_name(&self, node: usize) -> String {
        address(node)
    }

    fn node_at(&self, _: IpAddr) -> Option<usize> {
        let addresses = self.addresses()?;
        (1..=9).find(|node| addresses == [target(*node)])
    }

    fn move_to(&self, _: IpAddr, node: Option<usize>) {
        let delete = format!("update delete {NAME} A");
        let add = node.map(|node| format!("update add {NAME} 60 A {}", address(node)));
        self.update(&[&delete, add.as_deref().unwrap_or_default()]);
    }

    fn is_switching(&self, _: IpAddr) -> bool {
        false
    }

    fn set_switch(&self, _: Duration) {
        unimplemented!("an update takes no time");
    }

    fn rule(&self, rule: &str) {
        unimplemented!("{rule}: a real server has no faults to order");
    }

    fn clear_faults(&self) {}

    /// From the server's log: a `GET` for each query of the command, a `POST` for each address that it has added. When that
    /// was is not told.
    fn journal(&self) -> Vec<Request> {
        let at = Instant::now();
        let request = |method: &str, target: Option<&str>| Request {
            at,
            method: method.into(),
            path: NAME.into(),
            target: target.map(str::to_string),
            content_type: None,
            user_agent: None,
            user: None,
            ip: None,
            authorised: true,
            status: None,
            code: None,
            fault: None,
            done: None,
            peer_closed: false,
        };
        let log = self.log();
        let ours = format!(" {OURS}#");
        let queried = format!("query: {NAME} IN ");
        let added = format!("adding an RR at '{NAME}' A ");
        let mut last = None;
        let requests = log.lines().filter_map(|line| {
            let Some((client, target)) = line.split_once(&added) else {
                return (line.contains(&queried) && !line.contains(&ours)).then(|| request("GET", None));
            };
            // Of each client, which has a port of its own, one: what comes again had no answer in time.
            let client = client.split_once("/key failover:")?.0.rsplit(' ').next();
            let is_new = std::mem::replace(&mut last, client) != client;
            is_new.then(|| request("POST", Some(target.trim())))
        });
        requests.collect()
    }

    fn moves(&self) -> Vec<(Instant, IpAddr, Option<usize>)> {
        unimplemented!("the server's log has no times of ours");
    }
}
