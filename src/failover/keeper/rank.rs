//! A node's rank in its Legion: who has the IP and keeps it comes before who is healthy, and then the configured valor
//! decides.
//!
//! The rank is made by the valor that is announced, so that nodes without this plugin understand it. Peers store 16 bits of
//! it: the highest two are the rank, and the configured valor has the rest.

use std::time::{Duration, Instant};

use crate::uwsgi::{Peer, Uuid};

/// Added to the valor of a healthy node, and to that of one that keeps the IP.
const HEALTHY: u64 = 1 << 14;
const KEEPS: u64 = 1 << 15;
/// How long it may take until a node's new rank is known to another one.
const SIGHT: Duration = Duration::from_secs(1);
/// The bits that are the rank.
const BITS: u64 = HEALTHY | KEEPS;

/// Whether a healthier node may take the IP from this one only because its valor is higher.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Preempt {
    #[default]
    AtOnce,
    /// When it has been there for so long.
    After(Duration),
    Never,
}

/// What decides the rank now.
pub struct Standing<'a> {
    pub valor: u64,
    pub uuid: &'a Uuid,
    /// Whether the node is Lord.
    pub is_lord: bool,
    /// Whether the failover IPs are here.
    pub has_ips: bool,
    pub health: Health,
    /// What it announces so far.
    pub announced: u64,
    pub peers: &'a [Peer],
    /// How long a node may be silent without being lost, in seconds.
    pub tolerance: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    Well,
    /// Sick, and so long must pass until others with the same trouble must know it; or drained, with no such time.
    Sick(Duration),
    Unknown,
}

/// A node that may take the IP from a Lord when it was there for long enough.
struct Higher {
    uuid: Uuid,
    since: Instant,
    last_seen: i64,
}

/// The rank of this node in a Legion that ranks its nodes.
#[derive(Default)]
pub struct Rank {
    pub preempt: Preempt,
    /// The healthy nodes in sight with a higher valor.
    higher: Vec<Higher>,
    /// Since when this node has been sick, and since when a healthy one has been in sight.
    sick_since: Option<Instant>,
    healthy_since: Option<Instant>,
}

impl Rank {
    pub fn new(preempt: Preempt) -> Rank {
        Rank { preempt, ..Rank::default() }
    }

    /// The valor to announce.
    pub fn valor(&mut self, standing: &Standing<'_>, now: Instant) -> u64 {
        let plain = standing.valor;
        self.note_higher(standing, now);
        let is_sick = matches!(standing.health, Health::Sick(_));
        note(&mut self.sick_since, is_sick, now);
        note(&mut self.healthy_since, healthy(standing.peers).next().is_some(), now);
        match (standing.health, standing.is_lord) {
            (Health::Well, true) if standing.has_ips && !self.makes_room(now) => plain | HEALTHY | KEEPS,
            (Health::Well, _) => plain | HEALTHY,
            (Health::Sick(patience), true) if self.is_sicker(patience, now) => plain,
            // A switch would help nobody: it remains above the other sick ones.
            (_, true) => plain | (standing.announced & BITS).max(HEALTHY),
            (_, false) => plain,
        }
    }

    /// Whether a healthy node is in sight, while this one is sick. What ails this node may ail all, and what is over may be
    /// over for all.
    fn is_sicker(&self, patience: Duration, now: Instant) -> bool {
        let patience = if patience.is_zero() { patience } else { patience + SIGHT };
        let long_ago = |since: Option<Instant>| since.is_some_and(|since| now - since >= patience);
        long_ago(self.sick_since) && long_ago(self.healthy_since)
    }

    fn note_higher(&mut self, standing: &Standing<'_>, now: Instant) {
        let own = (standing.valor, standing.uuid);
        let is_higher = |peer: &&Peer| (peer.valor & !BITS, &peer.uuid) > own;
        let seen: Vec<&Peer> = healthy(standing.peers).filter(is_higher).collect();
        self.higher.retain(|known| seen.iter().any(|peer| peer.uuid == known.uuid));
        for Peer { uuid, last_seen, .. } in seen {
            let Some(known) = self.higher.iter_mut().find(|known| known.uuid == *uuid) else {
                self.higher.push(Higher { uuid: *uuid, since: now, last_seen: *last_seen });
                continue;
            };
            // It may have been lost and be back since this was last looked at. A node that is just being added has no time.
            if known.last_seen > 0 && *last_seen - known.last_seen > standing.tolerance {
                known.since = now;
            }
            known.last_seen = known.last_seen.max(*last_seen);
        }
    }

    /// Whether a Lord leaves the IP to a higher node.
    fn makes_room(&self, now: Instant) -> bool {
        match self.preempt {
            Preempt::AtOnce => true,
            Preempt::After(delay) => self.higher.iter().any(|known| now.duration_since(known.since) >= delay),
            Preempt::Never => false,
        }
    }
}

/// Notes since when something is so.
fn note(since: &mut Option<Instant>, is_so: bool, now: Instant) {
    *since = is_so.then(|| since.unwrap_or(now));
}

/// The healthy ones. A node whose valor changes is in sight with both for a moment, and may have become sick.
fn healthy(peers: &[Peer]) -> impl Iterator<Item = &Peer> {
    let is_sick = |node: &Uuid| peers.iter().any(|peer| peer.uuid == *node && !is_healthy(peer));
    peers.iter().filter(move |peer| !is_sick(&peer.uuid))
}

fn is_healthy(peer: &Peer) -> bool {
    peer.valor & BITS != 0
}

/// Whether all peers still vote for a node that keeps the IP and has this configured valor, and none of them is that node.
pub fn is_still_lord(valor: u64, peers: &[Peer]) -> bool {
    let lord = valor | BITS;
    !peers.is_empty() && peers.iter().all(|peer| peer.votes_for == lord && peer.valor != lord)
}

/// The same rank with another configured valor.
pub fn with_valor(ranked: u64, valor: u64) -> u64 {
    valor | ranked & BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u64 = 5;

    fn peer(number: u8, valor: u64) -> Peer {
        Peer { uuid: [number; 36], valor, votes_for_us: false, votes_for: 0, checksum: 0, last_seen: 0 }
    }

    const DRAINED: Health = Health::Sick(Duration::ZERO);
    const SICK: Health = Health::Sick(Duration::from_secs(5));

    fn standing(is_lord: bool, health: Health, peers: &[Peer]) -> Standing<'_> {
        Standing {
            valor: OWN,
            uuid: &[5; 36],
            is_lord,
            has_ips: is_lord,
            health,
            announced: OWN | HEALTHY,
            peers,
            tolerance: 3,
        }
    }

    #[test]
    fn the_rank_of_a_node_by_what_it_is() {
        let (sick, well, keeps) = ([peer(9, 9)], [peer(9, 9 | HEALTHY)], [peer(9, 9 | BITS)]);
        let changes = [peer(9, 9 | HEALTHY), peer(9, 9)];
        let (now, never, at_once) = (Instant::now(), Preempt::Never, Preempt::AtOnce);
        for (name, preempt, is_lord, health, peers, expected) in [
            ("a healthy node", never, false, Health::Well, &well[..], OWN | HEALTHY),
            ("a sick one", never, false, SICK, &sick, OWN),
            ("a drained one", never, false, DRAINED, &sick, OWN),
            ("one that does not know yet", never, false, Health::Unknown, &sick, OWN),
            ("a healthy Lord", at_once, true, Health::Well, &well, OWN | HEALTHY),
            ("that keeps the IP", never, true, Health::Well, &well, OWN | BITS),
            ("though another says so too", never, true, Health::Well, &keeps, OWN | BITS),
            ("a drained Lord with a healthy peer", never, true, DRAINED, &well, OWN),
            ("or another Lord", never, true, DRAINED, &keeps, OWN),
            ("a drained Lord whose peer becomes sick", at_once, true, DRAINED, &changes, OWN | HEALTHY),
            ("a drained Lord among sick ones", at_once, true, DRAINED, &sick, OWN | HEALTHY),
            ("a sick Lord among sick ones", at_once, true, SICK, &sick, OWN | HEALTHY),
        ] {
            let valor = Rank::new(preempt).valor(&standing(is_lord, health, peers), now);
            assert_eq!(valor, expected, "{name}");
        }
        let without_ip = Standing { has_ips: false, ..standing(true, Health::Well, &well) };
        assert_eq!(Rank::new(never).valor(&without_ip, now), OWN | HEALTHY, "a Lord without the IP");
        let kept = Standing { announced: OWN | BITS, ..standing(true, SICK, &sick) };
        assert_eq!(Rank::new(never).valor(&kept, now), OWN | BITS, "a sick Lord that has kept it");
        let elected = Standing { announced: OWN, ..standing(true, SICK, &sick) };
        assert_eq!(Rank::new(never).valor(&elected, now), OWN | HEALTHY, "one that was elected sick");
    }

    /// A switch that all would need again a moment later helps nobody.
    #[test]
    fn a_sick_lord_waits_for_one_more_result_of_the_others() {
        let (well, sick) = ([peer(9, 9 | HEALTHY)], [peer(9, 9)]);
        let (mut rank, start) = (Rank::new(Preempt::Never), Instant::now());
        let mut at = |seconds: u64, health, peers: &[Peer]| {
            rank.valor(&standing(true, health, peers), start + Duration::from_secs(seconds)) == OWN
        };
        assert!(!at(0, Health::Well, &well) && !at(10, SICK, &well) && !at(15, SICK, &well));
        assert!(at(16, SICK, &well), "only this one is sick");
        assert!(!at(17, SICK, &sick), "all are");
        assert!(!at(60, SICK, &well) && !at(65, SICK, &well) && at(66, SICK, &well), "another is well again");
        assert!(!at(67, Health::Well, &well) && !at(68, SICK, &well) && at(69, DRAINED, &well));
    }

    #[test]
    fn a_higher_node_has_to_be_there_without_a_break() {
        let delay = Duration::from_secs(60);
        let (higher, lower) = (peer(9, 9 | HEALTHY), peer(1, 1 | HEALTHY));
        let (mut rank, start) = (Rank::new(Preempt::After(delay)), Instant::now());
        let mut at = |seconds: u64, peers: &[Peer]| {
            rank.valor(&standing(true, Health::Well, peers), start + Duration::from_secs(seconds))
        };
        assert_eq!(at(0, &[higher.clone(), lower.clone()]), OWN | BITS);
        assert_eq!(at(59, std::slice::from_ref(&higher)), OWN | BITS);
        assert_eq!(at(59, std::slice::from_ref(&lower)), OWN | BITS);
        assert_eq!(at(60, std::slice::from_ref(&higher)), OWN | BITS, "it was away");
        assert_eq!(at(100, &[peer(9, 9)]), OWN | BITS, "it was sick");
        assert_eq!(at(101, &[higher.clone(), lower.clone()]), OWN | BITS);
        assert_eq!(at(160, &[higher.clone(), lower.clone()]), OWN | BITS);
        assert_eq!(at(161, &[lower.clone(), higher]), OWN | HEALTHY);
        assert_eq!(at(300, &[lower]), OWN | BITS, "a lower one never");
    }

    #[test]
    fn a_higher_node_that_was_lost_and_is_back_between_two_looks_was_not_there() {
        let (mut rank, start) = (Rank::new(Preempt::After(Duration::from_secs(60))), Instant::now());
        let mut at = |seconds: u64, last_seen: i64| {
            let higher = Peer { last_seen, ..peer(9, 9 | HEALTHY) };
            rank.valor(&standing(true, Health::Well, &[higher]), start + Duration::from_secs(seconds))
        };
        assert_eq!(at(0, 1000), OWN | BITS);
        assert_eq!(at(30, 1003), OWN | BITS, "silent, but not lost");
        assert_eq!(at(31, 0), OWN | BITS, "just being added");
        assert_eq!(at(50, 1007), OWN | BITS, "lost");
        assert_eq!(at(109, 1009), OWN | BITS);
        assert_eq!(at(110, 1010), OWN | HEALTHY);
    }

    #[test]
    fn a_node_that_is_restarted_is_known_by_the_votes_for_what_it_was() {
        let voter = |votes_for| Peer { votes_for, ..peer(1, 1) };
        assert!(is_still_lord(OWN, &[voter(OWN | BITS), voter(OWN | BITS)]));
        let lord = Peer { votes_for: OWN | BITS, ..peer(9, OWN | BITS) };
        for others in [
            &[][..],
            &[voter(OWN | BITS), voter(9)],
            &[voter(OWN | HEALTHY)],
            &[voter(9 | BITS)],
            // Another one with the same valor is Lord.
            &[voter(OWN | BITS), lord],
        ] {
            assert!(!is_still_lord(OWN, others));
        }
    }

    #[test]
    fn another_configured_valor_has_the_same_rank() {
        assert_eq!(with_valor(OWN | BITS, 7), 7 | BITS);
        assert_eq!(with_valor(OWN, 7), 7);
    }
}
