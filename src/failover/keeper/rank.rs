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
/// The bits that are the rank.
const BITS: u64 = HEALTHY | KEEPS;

/// Until a node's new rank is known to the others.
const HEARD: Duration = Duration::from_millis(500);

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
    /// Whether the node is Lord, or is about to be and takes the IPs over.
    pub is_lord: bool,
    /// Whether the failover IPs are here.
    pub has_ips: bool,
    /// Whether it is healthy, and not drained.
    pub is_well: bool,
    pub is_drained: bool,
    pub peers: &'a [Peer],
}

/// The rank of this node in a Legion that ranks its nodes.
#[derive(Default)]
pub struct Rank {
    pub preempt: Preempt,
    /// For how long a sick Lord waits, because the others may be as sick and only find it out a little later.
    patience: Duration,
    /// Since when this node has been a sick Lord with a healthy one in sight.
    healthier_since: Option<Instant>,
    /// The healthy nodes in sight with a higher valor, and since when they have been there.
    higher: Vec<(Uuid, Instant)>,
}

impl Rank {
    /// `interval` is that of the checks: nodes that become sick, or well, at the same time know it within that time.
    pub fn new(preempt: Preempt, interval: Duration) -> Rank {
        Rank { preempt, patience: interval + HEARD, healthier_since: None, higher: Vec::new() }
    }

    /// The valor to announce.
    pub fn valor(&mut self, standing: &Standing<'_>, now: Instant) -> u64 {
        let plain = standing.valor;
        self.note_higher(standing, now);
        let hands_over = self.hands_over(standing, now);
        match (standing.is_well, standing.is_lord) {
            (false, false) => plain,
            (false, true) if hands_over => plain,
            // Also a sick Lord: a switch would help nobody.
            (_, true) if standing.has_ips && !self.makes_room(now) => plain | HEALTHY | KEEPS,
            _ => plain | HEALTHY,
        }
    }

    /// Whether a Lord that is not well leaves the IP to a healthy node.
    fn hands_over(&mut self, standing: &Standing<'_>, now: Instant) -> bool {
        if standing.is_well || !standing.is_lord || !standing.peers.iter().any(is_healthy) {
            self.healthier_since = None;
            return false;
        }
        let since = *self.healthier_since.get_or_insert(now);
        standing.is_drained || now.duration_since(since) >= self.patience
    }

    fn note_higher(&mut self, standing: &Standing<'_>, now: Instant) {
        let own = (standing.valor, standing.uuid);
        let is_higher = |peer: &&Peer| is_healthy(peer) && (peer.valor & !BITS, &peer.uuid) > own;
        let seen: Vec<Uuid> = standing.peers.iter().filter(is_higher).map(|peer| peer.uuid).collect();
        self.higher.retain(|(uuid, _)| seen.contains(uuid));
        for uuid in seen {
            if self.higher.iter().all(|(known, _)| *known != uuid) {
                self.higher.push((uuid, now));
            }
        }
    }

    /// Whether a Lord leaves the IP to a higher node.
    fn makes_room(&self, now: Instant) -> bool {
        match self.preempt {
            Preempt::AtOnce => true,
            Preempt::After(delay) => self.higher.iter().any(|(_, since)| now.duration_since(*since) >= delay),
            Preempt::Never => false,
        }
    }
}

fn is_healthy(peer: &Peer) -> bool {
    peer.valor & BITS != 0
}

/// The same rank with another configured valor.
pub fn with_valor(ranked: u64, valor: u64) -> u64 {
    valor | ranked & BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u64 = 5;
    const INTERVAL: Duration = Duration::from_secs(5);

    fn peer(number: u8, valor: u64) -> Peer {
        Peer { uuid: [number; 36], valor, votes_for_us: false, checksum: 0, last_seen: 0 }
    }

    fn standing(is_lord: bool, is_well: bool, peers: &[Peer]) -> Standing<'_> {
        Standing { valor: OWN, uuid: &[5; 36], is_lord, has_ips: is_lord, is_well, is_drained: false, peers }
    }

    #[test]
    fn the_rank_of_a_node_by_what_it_is() {
        let (sick, well, keeps) = ([peer(9, 9)], [peer(9, 9 | HEALTHY)], [peer(9, 9 | BITS)]);
        let (now, never) = (Instant::now(), Preempt::Never);
        for (name, preempt, is_lord, is_well, peers, expected) in [
            ("a healthy node", never, false, true, &well, OWN | HEALTHY),
            ("a sick one", never, false, false, &sick, OWN),
            ("a healthy Lord", Preempt::AtOnce, true, true, &well, OWN | HEALTHY),
            ("that keeps the IP", never, true, true, &well, OWN | BITS),
            ("though another says so too", never, true, true, &keeps, OWN | BITS),
            ("a sick Lord with a healthy peer", never, true, false, &well, OWN),
            ("or another Lord", never, true, false, &keeps, OWN),
            ("a sick Lord among sick ones", Preempt::AtOnce, true, false, &sick, OWN | HEALTHY),
            ("that keeps the IP", never, true, false, &sick, OWN | BITS),
        ] {
            let mut rank = Rank::new(preempt, INTERVAL);
            rank.valor(&standing(is_lord, is_well, peers), now);
            let valor = rank.valor(&standing(is_lord, is_well, peers), now + INTERVAL + HEARD);
            assert_eq!(valor, expected, "{name}");
        }
        let without_ip = Standing { has_ips: false, ..standing(true, true, &well) };
        assert_eq!(
            Rank::new(never, INTERVAL).valor(&without_ip, now),
            OWN | HEALTHY,
            "a Lord without the IP"
        );
    }

    #[test]
    fn a_sick_lord_waits_whether_the_others_are_as_sick() {
        let (sick, well) = ([peer(9, 9)], [peer(9, 9 | HEALTHY)]);
        for (preempt, kept) in [(Preempt::Never, OWN | BITS), (Preempt::AtOnce, OWN | HEALTHY)] {
            let (mut rank, start) = (Rank::new(preempt, INTERVAL), Instant::now());
            let mut at = |tenths: u64, is_well, peers| {
                rank.valor(&standing(true, is_well, peers), start + Duration::from_millis(100 * tenths))
            };
            assert_eq!(at(0, false, &well), kept);
            assert_eq!(at(54, false, &well), kept);
            assert_eq!(at(54, false, &sick), kept, "they are");
            assert_eq!(at(900, false, &sick), kept, "for any length of time");
            assert_eq!(at(900, false, &well), kept, "they are well again a little earlier");
            assert_eq!(at(910, true, &well), kept, "than this one");
            assert_eq!(at(1000, false, &well), kept);
            assert_eq!(at(1054, false, &well), kept);
            assert_eq!(at(1055, false, &well), OWN, "they are not");
        }
        let drained = Standing { is_drained: true, ..standing(true, false, &well) };
        assert_eq!(Rank::new(Preempt::Never, INTERVAL).valor(&drained, Instant::now()), OWN);
    }

    #[test]
    fn a_higher_node_has_to_be_there_without_a_break() {
        let delay = Duration::from_secs(60);
        let (higher, lower) = (peer(9, 9 | HEALTHY), peer(1, 1 | HEALTHY));
        let (mut rank, start) = (Rank::new(Preempt::After(delay), INTERVAL), Instant::now());
        let mut at = |seconds: u64, peers: &[Peer]| {
            rank.valor(&standing(true, true, peers), start + Duration::from_secs(seconds))
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
    fn another_configured_valor_has_the_same_rank() {
        assert_eq!(with_valor(OWN | BITS, 7), 7 | BITS);
        assert_eq!(with_valor(OWN, 7), 7);
    }
}
