//! Each switch costs up to a minute in which the IP is nowhere: which of them nobody needed.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::plan::{APART, Plan, Planned};
use crate::setting::{asked, route_of};
use crate::stage::{Lords, Stage};

/// How long before a POST its IP's node must have been well, and Lord, for a switch that nobody needed.
const WELL: Duration = Duration::from_secs(5);

/// What was changed by hand was noted so soon.
const BY_HAND: Duration = Duration::from_millis(50);

/// An IP that was moved by a POST.
pub struct Switch {
    /// When that was sent.
    pub at: Instant,
    pub ip: IpAddr,
    pub to: usize,
    pub needed: bool,
}

/// All switches that the nodes have asked for.
pub fn switches(stage: &Stage) -> Vec<Switch> {
    let (plan, journal, history) = (stage.plan, stage.robot.journal(), stage.robot.history());
    let node_at = |route: Option<IpAddr>| (1..=plan.nodes).find(|node| route == Some(route_of(*node)));
    let mut switches = Vec::new();
    for (legion, ip) in stage.watched.iter().map(|watched| (watched.promise.legion, watched.promise.ip)) {
        let legion = plan.legions().iter().position(|name| *name == legion).expect("one of these");
        let changes: Vec<_> = history.iter().filter(|(_, changed, _)| *changed == ip).collect();
        for (number, (done, _, route)) in changes.iter().enumerate() {
            let by_hand =
                stage.moved.iter().any(|moved| moved.max(done).duration_since(*moved.min(done)) < BY_HAND);
            let Some(to) = node_at(*route).filter(|_| !by_hand) else { continue };
            let mut posts = journal.iter().filter(|request| request.method == "POST" && request.at <= *done);
            let Some(post) = posts.rfind(|post| asked(plan, post) == Some((to, ip))) else {
                continue;
            };
            let from = number.checked_sub(1).and_then(|before| node_at(changes[before].2));
            let next = changes.get(number + 1).map(|(at, ..)| *at);
            let lords = |from, until| of_legion(&stage.lords, legion, from, until);
            // In the first Legion the first node has the highest valor, in the second the last.
            let ranks_higher = |one: usize, other: usize| if legion == 0 { one < other } else { one > other };
            let is_rightful = || {
                from.is_some_and(|from| ranks_higher(to, from))
                    && lords(post.at, next).any(|lords| lords.contains(&to))
            };
            let was_well = from.is_some_and(|from| {
                let before = post.at.checked_sub(WELL).unwrap_or(post.at);
                is_well(plan, from, before - stage.started.min(before), post.at - stage.started)
                    && lords(before, Some(post.at)).any(|lords| *lords == [from])
            });
            switches.push(Switch { at: post.at, ip, to, needed: !was_well || is_rightful() });
        }
    }
    switches
}

/// The Lords of a Legion as they were seen from then until then.
fn of_legion(
    seen: &[Lords],
    legion: usize,
    from: Instant,
    until: Option<Instant>,
) -> impl Iterator<Item = &Vec<usize>> {
    let first = seen.iter().rposition(|lords| lords.at <= from).unwrap_or(0);
    let until_then =
        seen[first..].iter().take_while(move |lords| until.is_none_or(|until| lords.at <= until));
    until_then.map(move |lords| &lords.of[legion])
}

/// Whether nothing was wrong with a node, or had just been, between two times of the schedule.
fn is_well(plan: &Plan, node: usize, from: Duration, until: Duration) -> bool {
    let overlaps = |planned: &&Planned| planned.from <= until && planned.until + APART >= from;
    !plan.faults.iter().filter(overlaps).any(|planned| planned.fault.concerns(node))
}
