//! What happens in that month, and what is ideal.

use std::time::Duration;

use lab::process::SIGHUP;

use crate::site::{NODES, SWITCH, Site, TOLERANCE};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How long an app loads that loads slowly.
const SLOW: Duration = seconds(8);
/// Between the end of one process and the start of the next, so that in all it is less than the tolerance.
const RESTART: Duration = seconds(2);
/// For how long a machine is away that is rebooted.
const REBOOT: Duration = seconds(20);
/// For how long the Lord's service answers 404.
const SICK: Duration = seconds(40);
/// For how long all are sick.
const ALL_SICK: Duration = seconds(20);
/// How long a node is stopped for maintenance.
const MAINTENANCE: Duration = seconds(10);
/// How long somebody who has drained a node waits for the IP to leave it.
const DRAINED: Duration = seconds(30);
/// Three checks, a second apart, and an election.
const NOTICED: Duration = seconds(5);

/// One thing that happens.
pub struct Event {
    pub name: &'static str,
    /// How often the IP has to be moved.
    pub switches: usize,
    /// For how long nobody can serve, at the least; to be compared, not kept to.
    pub dark: Duration,
    pub play: fn(&mut Site),
}

pub const EVENTS: [Event; 9] = [
    Event { name: "deploy on the Lord", switches: 0, dark: Duration::ZERO, play: deploy },
    Event { name: "deploy on the Lord, 8 s", switches: 0, dark: Duration::ZERO, play: slow_deploy },
    Event { name: "reload of all at once", switches: 0, dark: Duration::ZERO, play: reload_all },
    Event {
        name: "restart of the Lord",
        switches: 0,
        dark: RESTART.saturating_add(seconds(1)),
        play: restart,
    },
    Event {
        name: "reboot of the Lord",
        switches: 1,
        dark: TOLERANCE.saturating_add(seconds(2)).saturating_add(SWITCH),
        play: reboot_lord,
    },
    Event { name: "reboot of a backup", switches: 0, dark: Duration::ZERO, play: reboot_backup },
    Event {
        name: "404 on the Lord, 40 s",
        switches: 1,
        dark: NOTICED.saturating_add(SWITCH),
        play: sick_lord,
    },
    Event { name: "404 on all, 20 s", switches: 0, dark: ALL_SICK, play: all_sick },
    Event { name: "drain, stop, start", switches: 1, dark: SWITCH, play: drain },
];

fn deploy(site: &mut Site) {
    let lord = site.lord();
    let images = site.images(lord);
    site.touch(lord);
    site.wait_for_images(lord, images + 1);
}

fn slow_deploy(site: &mut Site) {
    let lord = site.lord();
    site.page(lord).load_for(SLOW);
    deploy(site);
    // It is the same app still.
    site.page(lord).load_for(Duration::ZERO);
}

fn reload_all(site: &mut Site) {
    let images: Vec<usize> = (1..=NODES).map(|node| site.images(node)).collect();
    (1..=NODES).for_each(|node| site.legion.node(node).signal(SIGHUP));
    (1..=NODES).for_each(|node| site.wait_for_images(node, images[node - 1] + 1));
}

fn restart(site: &mut Site) {
    let lord = site.lord();
    site.stop(lord);
    site.watch(RESTART, |_| false);
    site.start_node(lord);
}

fn reboot_lord(site: &mut Site) {
    let lord = site.lord();
    reboot(site, lord);
}

fn reboot_backup(site: &mut Site) {
    let lord = site.lord();
    reboot(site, if lord == NODES { NODES - 1 } else { NODES });
}

fn sick_lord(site: &mut Site) {
    let lord = site.lord();
    site.page(lord).remove();
    site.watch(SICK, |_| false);
    site.page(lord).serve();
}

fn all_sick(site: &mut Site) {
    (1..=NODES).for_each(|node| site.page(node).remove());
    site.watch(ALL_SICK, |_| false);
    (1..=NODES).for_each(|node| site.page(node).serve());
}

fn drain(site: &mut Site) {
    let lord = site.lord();
    site.drain(lord, true);
    site.watch(DRAINED, |site| site.leads_to() != Some(lord) && site.leads_to().is_some());
    site.stop(lord);
    site.watch(MAINTENANCE, |_| false);
    site.start_node(lord);
    site.drain(lord, false);
}

fn reboot(site: &mut Site, node: usize) {
    site.kill(node);
    site.watch(REBOOT, |_| false);
    site.start_node(node);
}
