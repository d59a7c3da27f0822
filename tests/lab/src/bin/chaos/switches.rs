//! Each switch costs up to a minute in which the IP is nowhere: which of them nobody needed.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::fault::{APART, Planned};
use crate::plan::Plan;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::kinds::Kinds;

    #[test]
    fn lords_are_known_from_the_last_look_before_on() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let lords = |seconds, lords: &[usize]| Lords { at: at(seconds), of: vec![vec![9], lords.to_vec()] };
        let seen = [lords(0, &[]), lords(3, &[1]), lords(10, &[]), lords(12, &[2])];
        let of = |from, until: Option<u64>| -> Vec<Vec<usize>> {
            of_legion(&seen, 1, at(from), until.map(at)).cloned().collect()
        };
        assert_eq!(of(5, Some(9)), [vec![1]]);
        assert_eq!(of(5, Some(10)), [vec![1], vec![]]);
        assert_eq!(of(11, None), [vec![], vec![2]]);
    }

    #[test]
    fn a_node_is_not_well_while_something_is_wrong_with_it_nor_soon_after() {
        let seconds = Duration::from_secs;
        let mut plan = Plan::draw(1, false, &Kinds::read("old").expect("a word of its own"));
        plan.faults = vec![Planned { from: seconds(10), until: seconds(20), fault: Fault::Pause(2) }];
        let is_well = |node, from, until| is_well(&plan, node, seconds(from), seconds(until));
        assert!(is_well(1, 0, 60) && is_well(2, 0, 9) && is_well(2, 30, 60));
        assert!(!is_well(2, 0, 10) && !is_well(2, 12, 13) && !is_well(2, 24, 30));
    }
}
