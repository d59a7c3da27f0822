//! The nodes of a plan: their inis, and what else they find when they start.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use lab::legion::{LEGION, Legion, address};
use lab::robot::{Config, Failover, Limits, Login, Request, Robot};
use lab::service::Page;
use lab::{PASSWORD, USERNAME, clock};

use crate::plan::Plan;
use crate::site::{Check, Ips, SECOND, USER};

/// No node has these for its own.
const FIRST_IP: [u8; 4] = [7; 4];
const MORE_IP: [u8; 4] = [8; 4];
const IP_OF_SECOND: [u8; 4] = [9; 4];

/// What has to be kept: this IP is where the Lord of that Legion is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promise {
    pub legion: &'static str,
    pub ip: IpAddr,
}

/// All promises of a plan.
pub fn promises(plan: &Plan) -> Vec<Promise> {
    let mut promises = vec![Promise { legion: LEGION, ip: FIRST_IP.into() }];
    if plan.site.ips != Ips::One {
        promises.push(Promise { legion: LEGION, ip: MORE_IP.into() });
    }
    if plan.site.second {
        promises.push(Promise { legion: SECOND, ip: IP_OF_SECOND.into() });
    }
    promises
}

/// The path under which node N asks for an IP. To the API they are all the same; a letter that is written as its code
/// tells in the journal who it was, which a GET does not say.
fn path(node: usize, ip: &str) -> String {
    let path = format!("/failover/{ip}");
    let (before, rest) = path.split_at(node);
    format!("{before}%{:02X}{}", rest.as_bytes()[0], &rest[1..])
}

/// Who has asked, and for which IP.
pub fn asked(plan: &Plan, request: &Request) -> Option<(usize, IpAddr)> {
    let nodes = 1..=plan.nodes;
    let all = nodes.flat_map(|node| promises(plan).into_iter().map(move |promise| (node, promise.ip)));
    all.into_iter().find(|(node, ip)| path(*node, &ip.to_string()) == request.path)
}

/// The stand-in, with every IP of a plan.
pub fn robot(plan: &Plan) -> Robot {
    let promises = promises(plan);
    let ips = u32::try_from(promises.len()).expect("a few");
    let limits = Limits::default();
    Robot::start(Config {
        login: Some(Login::new(USERNAME, PASSWORD)),
        failover: promises.iter().map(|promise| Failover::new(promise.ip, None)).collect(),
        switch: plan.switch,
        // All nodes have one address here, so that one node's wrong logins would lock out the others.
        lockout: Duration::ZERO,
        // As `verify` is much shorter than anybody's, one IP uses up what an account may ask for.
        limits: Limits { get: limits.get * ips, post: limits.post * ips, ..limits },
        accept_multipart: plan.foreign,
        ..Config::default()
    })
    .expect("loopback has a free port")
}

/// The nodes, none of them started, with the plugin built for their uWSGI or another one.
pub fn legion(plan: &Plan, robot: SocketAddr, plugin: Option<&Path>) -> Legion {
    let mut legion = Legion::of(plan.uwsgi(), plan.nodes).with_links();
    if plan.site.second {
        legion = legion.with_second(SECOND);
    }
    for node in 1..=plan.nodes {
        let folder = legion.folder(node);
        let login = login(plan, node, &folder);
        let hooks = hooks(plan, node, robot, &login);
        let plugin = plugin.map_or("hetzner".into(), |path| path.display().to_string());
        let user = if plan.site.uid { format!("uid = {USER}\ngid = {USER}\n") } else { String::new() };
        let more = more(plan, &page(&legion, node), &folder);
        legion.set_ini(node, format!("plugin = {plugin}\n{}{user}{more}{hooks}", plan.ini(node)));
        if plan.site.ahead(node) != 0 {
            legion.set_own_env(node, clock::environment(plan.site.ahead(node)));
        }
        if plan.blocks_log(node) {
            legion.pipe_log(node);
        }
    }
    // The nodes' logs have the time of day, and so has what is written down here.
    legion.set_env("TZ", "UTC");
    legion
}

/// What node N serves, where it serves anything.
pub fn page(legion: &Legion, node: usize) -> Page {
    Page::new(legion.address(node), &legion.folder(node))
}

/// The lines for the service of a node, and for what it means for the Legions.
fn more(plan: &Plan, page: &Page, folder: &Path) -> String {
    let site = &plan.site;
    let mut lines = String::new();
    if site.check == Some(Check::Http) {
        lines += &page.ini();
    }
    if site.deploys {
        lines += &page.app();
    }
    // Another plugin does not know them.
    for legion in plan.legions().iter().filter(|_| !plan.foreign) {
        lines += &site.rank(legion, folder, &page.url());
    }
    lines
}

/// The keys of a node's login. What it needs of files is put into its folder.
fn login(plan: &Plan, node: usize, folder: &Path) -> String {
    let wrong = if plan.wrong_login == Some(node) { "-AND-WRONG" } else { "" };
    let password = format!("{PASSWORD}{wrong}");
    if !plan.site.uid {
        return format!("username={USERNAME},password={password}");
    }
    let others = folder.parent().expect("it is in that of all nodes");
    fs::set_permissions(others, fs::Permissions::from_mode(0o755)).expect("it is ours");
    chown(folder, Some(USER), Some(USER)).expect("this is root");
    // That user's group may read the ini, which is written into this file: a reload reads it as that user.
    let ini = folder.join("node.ini");
    File::create(&ini).and_then(|_| chown(&ini, None, Some(USER))).expect("this is root");
    if plan.foreign {
        return format!("username={USERNAME},password={password}");
    }
    let file = folder.join("robot-password");
    fs::write(&file, password + "\n").expect("the folder is writable");
    let mode = if plan.user_reads_password(node) { 0o640 } else { 0o600 };
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("it is ours");
    chown(&file, Some(0), Some(USER)).expect("this is root");
    format!("username={USERNAME},password_file={}", file.display())
}

/// The lines for the hooks of a node.
fn hooks(plan: &Plan, node: usize, robot: SocketAddr, login: &str) -> String {
    let (active_ip, keys) = (address(node), plan.keys());
    // uWSGI takes a single % in an ini for its own.
    let url = |ip: &str| format!("http://{robot}{}", path(node, ip)).replace('%', "%%");
    let hook = |ip: &str, url: &str| format!("{login},ip={ip},active_ip={active_ip},url={url}{keys}");
    let of = |legion: &'static str| {
        promises(plan).into_iter().filter(move |it| it.legion == legion).map(|it| it.ip)
    };
    let ips: Vec<String> = of(LEGION).map(|ip| ip.to_string()).collect();
    // Another plugin knows no hook with several IPs.
    let first = if plan.site.ips == Ips::OneHook && !plan.foreign {
        vec![hook(&ips.join(";"), &url("{ip}"))]
    } else {
        ips.iter().map(|ip| hook(ip, &url(ip))).collect()
    };
    let second = of(SECOND).next().map(|ip| hook(&ip.to_string(), &url(&ip.to_string())));
    // Nor one that releases.
    plan.site.hooks(&first, second.as_deref(), !plan.foreign)
}
