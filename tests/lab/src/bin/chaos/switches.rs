//! Each switch costs up to a minute in which the IP is nowhere: which of them nobody needed.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::fault::{APART, Fault};
use crate::plan::Plan;
use crate::site::Preempt;
use crate::stage::{Lords, Stage};

/// How long before a POST its IP's node must have been well, and Lord, for a switch that nobody needed.
const WELL: Duration = Duration::from_secs(5);

/// How long before a POST nothing must have been wrong anywhere, for a switch that had no reason at all. Until then a node
/// that was away may still find out who is Lord.
const CALM: Duration = Duration::from_secs(15);

/// What was changed by hand was noted so soon.
const BY_HAND: Duration = Duration::from_millis(50);

/// An IP that was moved by a POST.
pub struct Switch {
    /// When that was sent.
    pub at: Instant,
    pub ip: IpAddr,
    pub to: usize,
    pub needed: bool,
    /// Whether nothing was wrong, and had not been for a while, with any node, link or the API.
    pub in_calm: bool,
}

/// A fault, and when it was in force.
struct InForce<'a> {
    fault: &'a Fault,
    from: Instant,
    until: Instant,
}

/// All switches that the nodes have asked for.
pub fn switches(stage: &Stage) -> Vec<Switch> {
    let (plan, journal, history) = (stage.plan, stage.api.journal(), stage.api.moves());
    let faults: Vec<InForce> = stage
        .played
        .iter()
        .map(|played| InForce {
            fault: &plan.faults[played.number].fault,
            from: played.from,
            until: played.until.unwrap_or_else(Instant::now),
        })
        .collect();
    let keeps = !plan.foreign && plan.site.preempt == Preempt::Never;
    let mut switches = Vec::new();
    for (legion, ip) in stage.watched.iter().map(|watched| (watched.promise.legion, watched.promise.ip)) {
        let legion = plan.legions().iter().position(|name| *name == legion).expect("one of these");
        let changes: Vec<_> = history.iter().filter(|(_, changed, _)| *changed == ip).collect();
        for (number, (done, _, route)) in changes.iter().enumerate() {
            let by_hand =
                stage.moved.iter().any(|moved| moved.max(done).duration_since(*moved.min(done)) < BY_HAND);
            let Some(to) = route.filter(|_| !by_hand) else { continue };
            let mut posts = journal.iter().filter(|request| request.method == "POST" && request.at <= *done);
            let Some(post) = posts.rfind(|post| plan.hoster.asked(plan, post) == Some((to, ip))) else {
                continue;
            };
            let from = number.checked_sub(1).and_then(|before| changes[before].2);
            let next = changes.get(number + 1).map(|(at, ..)| *at);
            let lords = |from, until| of_legion(&stage.lords, legion, from, until);
            // In the first Legion the first node has the highest valor, in the second the last.
            let ranks_higher = |one: usize, other: usize| if legion == 0 { one < other } else { one > other };
            // It may have been stopped before it was Lord.
            let is_rightful = || {
                !keeps
                    && from.is_some_and(|from| ranks_higher(to, from))
                    && (lords(post.at, next).any(|lords| lords.contains(&to))
                        || is_interrupted(&faults, to, post.at, next.unwrap_or_else(Instant::now)))
            };
            let was_well = from.is_some_and(|from| {
                let before = post.at.checked_sub(WELL).unwrap_or(post.at);
                is_well(plan, &faults, from, before, post.at)
                    && lords(before, Some(post.at)).any(|lords| *lords == [from])
            });
            let needed = !was_well || is_rightful();
            let in_calm = stage.started + CALM <= post.at
                && is_calm(&faults, plan.nodes, post.at.checked_sub(CALM).unwrap_or(post.at), post.at);
            switches.push(Switch { at: post.at, ip, to, needed, in_calm });
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

/// Whether nothing was wrong with a node, or had just been, between two times.
fn is_well(plan: &Plan, faults: &[InForce], node: usize, from: Instant, until: Instant) -> bool {
    let wrong = |it: &InForce| it.fault.concerns(node) || plan.foreign && it.fault.node() == Some(node);
    let overlaps = |it: &InForce| it.from <= until && it.until + APART >= from;
    // Since it was reloaded it may not read its password any more.
    let is_locked_out = |it: &InForce| {
        plan.site.uid
            && it.fault.reloads() == Some(node)
            && it.from <= until
            && !plan.user_reads_password(node)
    };
    !faults.iter().any(|it| wrong(it) && overlaps(it) || is_locked_out(it))
}

/// Whether something has begun to happen to a node between two times, also a reload.
fn is_interrupted(faults: &[InForce], node: usize, from: Instant, until: Instant) -> bool {
    let befalls = |it: &InForce| it.fault.concerns(node) || it.fault.node() == Some(node);
    faults.iter().any(|it| befalls(it) && (from..=until).contains(&it.from))
}

/// Whether nothing was wrong at all between two times, with so many nodes.
fn is_calm(faults: &[InForce], nodes: usize, from: Instant, until: Instant) -> bool {
    !faults.iter().any(|it| it.fault.disturbs(nodes) && it.from <= until && it.until >= from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::hoster::Hoster;
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
        let (began, seconds) = (Instant::now(), Duration::from_secs);
        let at = |time| began + seconds(time);
        let mut plan = Plan::draw(1, false, &Kinds::read("old", Hoster::Robot).expect("a word of its own"));
        let in_force = |fault, from, until| InForce { fault, from: at(from), until: at(until) };
        let pause = Fault::Pause(2);
        let faults = [in_force(&pause, 10, 20)];
        let is_well = |node, from, until| is_well(&plan, &faults, node, at(from), at(until));
        assert!(is_well(1, 0, 60) && is_well(2, 0, 9) && is_well(2, 30, 60));
        assert!(!is_well(2, 0, 10) && !is_well(2, 12, 13) && !is_well(2, 24, 30));
        // A reload is no excuse, but where the plugin is another one.
        let reload = Fault::Deploy(2, seconds(8));
        let faults = [in_force(&reload, 10, 20)];
        assert!(super::is_well(&plan, &faults, 2, at(12), at(13)));
        plan.foreign = true;
        assert!(!super::is_well(&plan, &faults, 2, at(12), at(13)));
        assert!(super::is_well(&plan, &faults, 1, at(12), at(13)));
    }

    #[test]
    fn a_node_is_interrupted_by_what_begins_meanwhile_also_by_a_reload() {
        let began = Instant::now();
        let at = |time| began + Duration::from_secs(time);
        for fault in [Fault::Reload(2), Fault::Kill(2), Fault::Sick(vec![1, 2])] {
            let faults = [InForce { fault: &fault, from: at(10), until: at(20) }];
            let is_interrupted = |node, from, until| is_interrupted(&faults, node, at(from), at(until));
            assert!(is_interrupted(2, 9, 11));
            assert!(!is_interrupted(3, 9, 11) && !is_interrupted(2, 11, 19) && !is_interrupted(2, 0, 9));
        }
    }

    #[test]
    fn it_is_calm_while_nothing_is_a_reason_for_a_switch() {
        let began = Instant::now();
        let at = |time| began + Duration::from_secs(time);
        let (all, some) = (Fault::Sick(vec![1, 2, 3]), Fault::Sick(vec![1, 2]));
        let (reload, drain) = (Fault::Reload(1), Fault::Drain(3));
        let is_calm = |fault, from, until| {
            let faults = [InForce { fault, from: at(10), until: at(20) }];
            is_calm(&faults, 3, at(from), at(until))
        };
        assert!(is_calm(&all, 0, 60) && is_calm(&reload, 0, 60));
        assert!(!is_calm(&some, 15, 16) && !is_calm(&drain, 0, 10) && !is_calm(&drain, 20, 30));
        assert!(is_calm(&some, 0, 9) && is_calm(&some, 21, 30));
    }
}
