//! What a schedule adds around the rank of a node: reloads, which change nothing of it; sickness, drains, and silent
//! stops.

use std::time::Duration;

use fastrand::Rng;

use super::{Plan, tenths};
use crate::fault::{Fault, Planned};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How long an app takes to load: at once, less than the tolerance, longer.
const LOADS: [Duration; 4] = [Duration::ZERO, seconds(2), seconds(8), seconds(12)];
/// After an app is loaded, until its node is surely elected again.
const ELECTED: Duration = seconds(2);
/// For so long nothing else is wrong before the last reload.
const CALM: Duration = seconds(25);

impl Plan {
    /// Some at any time, and some when nothing else is wrong: of one node, or of all at once.
    pub(super) fn draw_reloads(&mut self, rng: &mut Rng) {
        self.site.deploys = true;
        for _ in 0..rng.usize(1..=2) {
            let (node, load) = (self.any_node(rng), LOADS[rng.usize(..LOADS.len())]);
            self.place_for(rng, Fault::Deploy(node, load), load + ELECTED);
        }
        let (from, load) = (self.length + CALM, LOADS[rng.usize(..LOADS.len())]);
        let nodes = if rng.u8(..100) < 25 { (1..=self.nodes).collect() } else { vec![self.any_node(rng)] };
        self.length = from + load + ELECTED + seconds(10);
        for node in nodes {
            let fault = Fault::Deploy(node, load);
            self.faults.push(Planned { from, until: from + load + ELECTED, fault });
        }
    }

    /// Of some nodes or all, by one of two ways to check.
    pub(super) fn draw_sick(&mut self, rng: &mut Rng) {
        self.site.draw_check(rng);
        for _ in 0..rng.usize(1..=2) {
            let nodes = match rng.u8(..100) {
                0..35 => (1..=self.nodes).collect(),
                35..80 => vec![self.any_node(rng)],
                _ => (1..self.nodes).filter(|_| rng.bool()).chain([self.nodes]).collect(),
            };
            self.add(rng, Fault::Sick(nodes));
        }
    }

    pub(super) fn draw_drains(&mut self, rng: &mut Rng) {
        self.site.drains = true;
        for _ in 0..rng.usize(1..=2) {
            let node = self.any_node(rng);
            self.add(rng, Fault::Drain(node));
        }
    }

    /// Stops after which the node is there again within the tolerance, and others.
    pub(super) fn draw_silent(&mut self, rng: &mut Rng) {
        self.site.silent = true;
        for _ in 0..rng.usize(1..=2) {
            let node = self.any_node(rng);
            let away = if rng.bool() { seconds(1) } else { tenths(rng, seconds(6), seconds(20)) };
            self.place_for(rng, Fault::Stop(node), away);
        }
    }

    /// The one that is Lord as long as nothing is wrong more often than any other.
    fn any_node(&self, rng: &mut Rng) -> usize {
        if rng.u8(..100) < 50 { 1 } else { rng.usize(1..=self.nodes) }
    }

    /// A fault that may be in force beside any other.
    fn add(&mut self, rng: &mut Rng, fault: Fault) {
        let from = self.draw_time(rng);
        let until = tenths(rng, from + seconds(3), from + seconds(30)).min(self.length);
        self.faults.push(Planned { from, until, fault });
    }

    /// Finds a time for a fault that lasts so long. Where its node has no room for it, it is none.
    fn place_for(&mut self, rng: &mut Rng, fault: Fault, time: Duration) {
        for _ in 0..100 {
            let from = self.draw_time(rng);
            let planned = Planned { from, until: from + time, fault: fault.clone() };
            let free = !self.faults.iter().any(|other| planned.is_in_the_way_of(other));
            if free && planned.until <= self.length {
                self.faults.push(planned);
                return;
            }
        }
    }
}
