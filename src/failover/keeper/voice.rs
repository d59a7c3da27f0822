//! What this node says to a Legion, and when.
//!
//! uWSGI announces a node itself, but falls silent while datagrams come in faster than `legion-freq`, and says that the node
//! is dead whenever it reloads. So while the keeper runs, uWSGI's announcements go nowhere, and the voice announces the
//! node: at each `legion-freq`, as long as uWSGI's Legion thread is alive, and when this node votes for another Lord.
//!
//! For its peers a node with another valor is another node. So the new one is announced first, and then, when all have heard
//! it, that the old one is dead.

use std::time::{Duration, Instant};

use crate::uwsgi::{self, Announcer, Legion, Uuid, View};

/// For how long a node says farewell, since one datagram may be lost.
const FAREWELLS: Duration = Duration::from_secs(2);
/// How often a change is announced at once, for the same reason.
const REPEATS: u32 = 3;
/// How much later than its `legion-freq` uWSGI's Legion thread may be.
const LATE: Duration = Duration::from_millis(1500);

pub struct Voice {
    legion: Legion,
    /// None if OpenSSL gives no second cipher: then uWSGI announces this node.
    announcer: Option<Announcer>,
    announced: Instant,
    /// Whether this node was ever announced.
    is_known: bool,
    /// When uWSGI's Legion thread was last seen at work.
    alive: Instant,
    /// How often the last change is still to be announced.
    repeats: u32,
    began: Instant,
    /// As uWSGI had them when they were last looked at.
    lord_since: i64,
    vote: (u64, Uuid, u64),
    is_dead: bool,
    left: Vec<Left>,
}

/// A valor that this node no longer has.
struct Left {
    valor: u64,
    /// When it was given up; and since when its farewell is said.
    since: Instant,
    said: Option<Instant>,
}

/// When to say farewell with a valor that is given up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    AtOnce,
    /// When all peers know the new valor: until then the node would be away for those who have not heard it.
    OnceKnown,
}

impl Voice {
    /// Before uWSGI starts its Legions.
    pub fn new(legion: Legion) -> Voice {
        let now = Instant::now();
        let announcer = Announcer::new(legion);
        Voice {
            legion,
            announcer,
            announced: now,
            is_known: false,
            alive: now,
            repeats: 0,
            began: now,
            lord_since: 0,
            vote: (0, [0; 36], 0),
            is_dead: false,
            left: Vec::new(),
        }
    }

    /// From now on this voice announces the node, and uWSGI does not.
    pub fn begin(&mut self, now: Instant) {
        if let Some(announcer) = &mut self.announcer {
            announcer.silence_uwsgi();
            (self.began, self.alive) = (now, now);
            self.announce(now);
        }
    }

    /// From now on uWSGI announces the node again.
    pub fn end(&mut self) {
        self.announcer.iter_mut().for_each(Announcer::let_uwsgi_speak);
    }

    /// Whether uWSGI is silenced.
    pub fn speaks(&self) -> bool {
        self.announcer.as_ref().is_some_and(Announcer::has_silenced_uwsgi)
    }

    /// Announces the node, if that is due. Called several times a second.
    pub fn tick(&mut self, view: &View, now: Instant) {
        self.say_farewells(Some(view), now);
        let is_suspended = view.suspended_until > uwsgi::now();
        // uWSGI says that itself, but nobody hears it.
        if view.dead && !std::mem::replace(&mut self.is_dead, view.dead) {
            self.leave(self.legion.valor(), Farewell::AtOnce, now);
        }
        self.is_dead = view.dead;
        // A node whose Legion thread is stuck must not seem alive.
        let round = uwsgi::round();
        if self.legion.mark() || view.silence().is_some_and(|silence| silence <= round) {
            self.alive = now;
        }
        if view.dead || is_suspended || now.duration_since(self.alive) > round + LATE {
            return;
        }
        if std::mem::replace(&mut self.lord_since, view.lord_since) != view.lord_since {
            self.repeats = self.repeats.max(1);
        }
        // So that the nodes soon agree on the next Lord. But nodes that start together hear each other first.
        if std::mem::replace(&mut self.vote, view.vote) != view.vote
            && now.duration_since(self.began) > uwsgi::tolerance()
        {
            self.repeats = self.repeats.max(2);
        }
        if self.repeats > 0 || now.duration_since(self.announced) >= round {
            self.repeats = self.repeats.saturating_sub(1);
            self.announce(now);
        }
    }

    /// The same while uWSGI reloads, when its Legion thread has ended; `speaks` if the node remains a member.
    pub fn tick_in_reload(&mut self, speaks: bool, now: Instant) {
        self.say_farewells(None, now);
        if speaks && now.duration_since(self.announced) >= uwsgi::round() {
            self.announce(now);
        }
    }

    pub fn announce(&mut self, now: Instant) {
        (self.announced, self.is_known) = (now, true);
        self.announcer.iter_mut().for_each(Announcer::announce);
    }

    /// Gives this node another valor, and so another rank in its Legion.
    pub fn change_valor(&mut self, valor: u64, farewell: Farewell, now: Instant) {
        let before = self.legion.valor();
        if before == valor {
            return;
        }
        self.legion.set_valor(valor);
        if !self.is_known {
            return;
        }
        // It may be one of those that it had a moment ago.
        self.left.retain(|left| left.valor != valor);
        self.repeats = REPEATS;
        self.announce(now);
        self.leave(before, farewell, now);
    }

    /// A suspended node is a member again, with this valor.
    pub fn rejoin(&mut self, valor: u64, now: Instant) {
        self.left.retain(|left| left.valor != valor);
        let before = self.legion.valor();
        self.legion.set_valor(valor);
        self.legion.revive();
        self.is_dead = false;
        self.repeats = REPEATS;
        self.announce(now);
        if before != valor {
            self.leave(before, Farewell::AtOnce, now);
        }
    }

    /// Says farewell for this node with a valor.
    pub fn leave(&mut self, valor: u64, farewell: Farewell, now: Instant) {
        let said = (farewell == Farewell::AtOnce).then_some(now);
        if said.is_some() {
            self.announcer.iter_mut().for_each(|announcer| announcer.say_farewell(valor));
        }
        self.left.retain(|left| left.valor != valor);
        self.left.push(Left { valor, since: now, said });
    }

    fn say_farewells(&mut self, view: Option<&View>, now: Instant) {
        let own = (self.legion.valor(), self.legion.uuid());
        let longest = 2 * uwsgi::round() + Duration::from_secs(1);
        for left in &mut self.left {
            let is_known = || view.is_none_or(|view| is_known_to_all(view, own, left.valor));
            if left.said.is_none() && (now.duration_since(left.since) >= longest || is_known()) {
                left.said = Some(now);
            }
            if left.said.is_some() {
                self.announcer.iter_mut().for_each(|announcer| announcer.say_farewell(left.valor));
            }
        }
        self.left.retain(|left| left.said.is_none_or(|said| now.duration_since(said) < FAREWELLS));
    }
}

/// Whether each peer counts this node with its valor of today among its nodes: the checksum that a peer announces is made of
/// the valor and uuid of all the nodes that it knows.
fn is_known_to_all(view: &View, (valor, uuid): (u64, Uuid), before: u64) -> bool {
    let now = view.checksum(valor, &uuid);
    let with_both = now.wrapping_add(uwsgi::checksum_part(before, &uuid));
    view.peers.iter().all(|peer| peer.checksum == now || peer.checksum == with_both)
}
