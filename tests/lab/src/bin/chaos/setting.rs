//! The nodes of a plan: their inis, and what else they find when they start.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use lab::clock;
use lab::command;
use lab::legion::{LEGION, Legion};
use lab::service::Page;

use crate::hoster::{COMMAND, Hoster, Login};
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

/// The nodes, none of them started, with the plugin built for their uWSGI or another one. `origin` is where the API is.
pub fn legion(plan: &Plan, origin: &str, plugin: Option<&Path>) -> Legion {
    let mut legion = Legion::of(plan.uwsgi(), plan.nodes).with_links();
    if plan.site.second {
        legion = legion.with_second(SECOND);
    }
    for node in 1..=plan.nodes {
        let folder = legion.folder(node);
        let login = login(plan, node, origin, &folder);
        let hooks = hooks(plan, node, origin, &login, &folder);
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

/// The key of a node's login. What it needs of files is put into its folder.
fn login(plan: &Plan, node: usize, origin: &str, folder: &Path) -> String {
    let Login { secret, key, file_key } = plan.hoster.login(plan, node, origin, folder);
    if plan.hoster == Hoster::Command {
        symlink(command::program(), folder.join(COMMAND)).expect("the folder is empty");
    }
    let file = folder.join("secret");
    let in_file = |secret: String| {
        fs::write(&file, secret + "\n").expect("the folder is writable");
        format!("{file_key}={}", file.display())
    };
    if !plan.site.uid {
        return match key {
            Some(key) => format!("{key}={secret}"),
            None => in_file(secret),
        };
    }
    let others = folder.parent().expect("it is in that of all nodes");
    fs::set_permissions(others, fs::Permissions::from_mode(0o755)).expect("it is ours");
    chown(folder, Some(USER), Some(USER)).expect("this is root");
    // That user's group may read the ini, which is written into this file: a reload reads it as that user.
    let ini = folder.join("node.ini");
    File::create(&ini).and_then(|_| chown(&ini, None, Some(USER))).expect("this is root");
    if let Some(key) = key.filter(|_| plan.foreign) {
        return format!("{key}={secret}");
    }
    let given = in_file(secret);
    let mode = if plan.user_reads_password(node) { 0o640 } else { 0o600 };
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("it is ours");
    chown(&file, Some(0), Some(USER)).expect("this is root");
    given
}

/// The lines for the hooks of a node.
fn hooks(plan: &Plan, node: usize, origin: &str, login: &str, folder: &Path) -> String {
    let hook = |ips: &[IpAddr]| plan.hoster.hook(node, ips, origin, login, folder) + &plan.keys();
    let of = |legion: &'static str| {
        promises(plan).into_iter().filter(move |it| it.legion == legion).map(|it| it.ip)
    };
    let ips: Vec<IpAddr> = of(LEGION).collect();
    // Another plugin knows no hook with several IPs.
    let first = if plan.site.ips == Ips::OneHook && !plan.foreign {
        vec![hook(&ips)]
    } else {
        ips.iter().map(|ip| hook(&[*ip])).collect()
    };
    let second = of(SECOND).next().map(|ip| hook(&[ip]));
    // Nor one that releases.
    plan.site.hooks(plan.hoster.action(), &first, second.as_deref(), !plan.foreign)
}
