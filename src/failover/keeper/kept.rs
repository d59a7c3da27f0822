//! One Legion, as the keeper keeps it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::LONGEST_RELOAD;
use super::comeback::{self, Comeback, Ended, Step};
use super::rank::{self, Preempt, Rank};
use super::sight::Sight;
use super::voice::{Farewell, Voice};
use crate::config::LegionOptions;
use crate::failover::FailoverIp;
use crate::health::{Health, State};
use crate::metrics::{LegionMetrics, count, set};
use crate::sys::spawn;
use crate::uwsgi::{self, Legion, View};

/// For how long after a reload an application may load without being sick.
const LONGEST_LOAD: Duration = Duration::from_secs(60);
/// How much later than its `legion-freq` a healthy node may announce itself.
const LATE: Duration = Duration::from_millis(500);
/// For how long a node that was Lord before a reload waits to be elected again.
const LONGEST_RETURN: Duration = Duration::from_secs(60);

pub struct Kept {
    pub legion: Legion,
    /// Those that its lord hooks take over.
    pub ips: Vec<FailoverIp>,
    pub sight: Sight,
    pub comeback: Comeback,
    voice: Voice,
    /// As configured.
    valor: u64,
    /// Whether this node only votes, with valor 0.
    rests: bool,
    /// Where its nodes are ranked.
    rank: Option<Rank>,
    health: Arc<Health>,
    /// What was logged last of it.
    state: State,
    is_silent: bool,
    metrics: &'static LegionMetrics,
    /// Whether the last lord hook has brought its IPs here.
    has_ips: bool,
    /// When uWSGI's clock was looked at last, and whether a majority was in sight then.
    looked: i64,
    had_majority: bool,
    /// Whether this node has gone on as the Lord that it was before a restart.
    has_claimed: bool,
    /// Until when this node, which was Lord before a reload or a restart, counts as Lord still.
    lord_until: Option<Instant>,
    /// The claims of the failover IPs that were here then.
    had: Vec<String>,
    /// How often it has remained Lord.
    reloads: u64,
    reload: Option<Reload>,
}

/// What becomes of this node's membership while uWSGI reloads.
struct Reload {
    since: Instant,
    remains: bool,
}

/// What a Lord hands over to the image of uWSGI that it is reloaded into.
#[derive(Clone)]
pub struct Lordship {
    pub legion: Legion,
    /// The valor of the ini, and the one that is announced.
    pub configured: u64,
    pub announced: u64,
    pub health: State,
    /// How often this node has been reloaded and remained Lord.
    pub reloads: u64,
    /// The claims of the failover IPs that are here.
    pub here: Vec<String>,
}

impl Kept {
    /// Before uWSGI starts its Legions, and its metrics.
    pub fn new(legion: Legion, ips: Vec<FailoverIp>, options: &LegionOptions, number: usize) -> Kept {
        let metrics: &'static LegionMetrics = Box::leak(Box::default());
        metrics.register(legion, number);
        let preempt = match (options.nopreempt, options.preempt_delay) {
            (true, _) => Preempt::Never,
            (false, Some(delay)) => Preempt::After(delay),
            (false, None) => Preempt::AtOnce,
        };
        let mut kept = Kept {
            legion,
            ips,
            sight: Sight::new(legion.configured_size()),
            comeback: Comeback::default(),
            voice: Voice::new(legion),
            valor: legion.valor(),
            rests: false,
            rank: options.is_ranked().then(|| Rank::new(preempt)),
            health: Health::new(options),
            state: State::Unknown,
            is_silent: options.silent_stop,
            metrics,
            has_ips: false,
            looked: uwsgi::now(),
            had_majority: false,
            has_claimed: false,
            lord_until: None,
            had: Vec::new(),
            reloads: 0,
            reload: None,
        };
        // A reload goes on with a password that it cannot read, but this node could not take over.
        let has_no_secret = |ip: &FailoverIp| ip.remote.secret().is_some_and(|secret| secret.read().is_err());
        if !kept.ips.is_empty() && kept.ips.iter().all(has_no_secret) {
            kept.comeback.begin_away(Instant::now());
            kept.rests = true;
            legion.set_valor(0);
        }
        kept
    }

    /// uWSGI's Legions have started.
    pub fn begin(&mut self, now: Instant) {
        self.sight.begin(now);
        // The application may have loaded for longer than a break lasts, but this node was announced meanwhile.
        self.looked = uwsgi::now();
        self.note_health();
        self.keep_rank(&self.legion.view(), now);
        self.voice.begin(now);
    }

    pub fn let_uwsgi_speak(&mut self) {
        self.voice.end();
    }

    /// The process ends.
    pub fn end(&mut self) {
        if !self.is_silent {
            self.voice.end();
        }
    }

    /// Called several times a second; returns whether to check now if a takeover could be made.
    pub fn tick(&mut self, view: &View, has_paused: bool) -> bool {
        let now = Instant::now();
        self.sight.observe(view, now, uwsgi::now(), has_paused);
        if uwsgi::is_dying() {
            return false;
        }
        if !self.voice.speaks() {
            self.voice.begin(now);
        }
        if view.lord_since != 0 || view.is_outranked || self.lord_until.is_some_and(|until| now >= until) {
            self.lord_until = None;
        }
        self.claim_after_a_restart(view, now);
        self.note_health();
        self.doubt_after_a_break();
        self.keep_rank(view, now);
        self.voice.tick(view, now);
        self.bring_back(view, now)
    }

    /// Logs how healthy this node is when that has changed, with an alarm when it has become sick.
    fn note_health(&mut self) {
        self.health.start();
        let state = self.health.state();
        self.metrics.note_health(&self.health);
        let before = std::mem::replace(&mut self.state, state);
        if state == before || (before, state) == (State::Unknown, State::Healthy) {
            return;
        }
        let line = format!("{}: this node is {state}: {}", self.legion.name(), self.health.why());
        uwsgi::log(&line);
        if state != State::Sick {
            return;
        }
        let mut alarms = BTreeSet::new();
        for ip in &self.ips {
            count(&ip.record.metrics.alarms);
            alarms.extend(ip.common.alarm.clone());
        }
        // An alarm may be held up by a stuck log, and the keeper must not be.
        if !alarms.is_empty() {
            spawn("hetzner", move || alarms.iter().for_each(|alarm| uwsgi::alarm(alarm, &line)));
        }
    }

    /// A node that was Lord, kept the IP, and was restarted so soon that its peers still vote for what it was: it goes on
    /// where it was, and a higher node does not take the IP only because of the restart. Not before all others would have
    /// been heard, because one with the same valor may be that Lord.
    fn claim_after_a_restart(&mut self, view: &View, now: Instant) {
        let age = self.sight.age(now);
        let is_new = age <= uwsgi::tolerance() && !self.has_claimed;
        let has_heard_all = self.sight.sees_all() || age > uwsgi::round() + LATE;
        if is_new && has_heard_all && self.rank.is_some() && rank::is_still_lord(self.valor, &view.peers) {
            self.has_claimed = true;
            self.has_ips = true;
            self.lord_until = Some(now + LONGEST_RETURN);
        }
    }

    /// A Lord that its peers have dropped, because it was frozen or cut off, may no longer have the IPs: another node may have
    /// been elected. Until a check has found them here it does not keep them, so that the other one can.
    fn doubt_after_a_break(&mut self) {
        let now = uwsgi::now();
        let tolerance = i64::try_from(uwsgi::tolerance().as_secs()).unwrap_or(i64::MAX);
        let was_frozen = now - std::mem::replace(&mut self.looked, now) > tolerance;
        let has_majority = self.sight.sees_majority();
        let lost_it = std::mem::replace(&mut self.had_majority, has_majority) && !has_majority;
        // Only a rank depends on it; a guard notices such a break by itself.
        if self.rank.is_some() && (was_frozen || lost_it) {
            self.has_ips = false;
            for ip in &self.ips {
                set(&ip.record.metrics.route, None);
                ip.record.is_doubted.store(true, Ordering::Relaxed);
            }
        }
    }

    fn keep_rank(&mut self, view: &View, now: Instant) {
        self.metrics.rank.store(self.legion.valor() as i64, Ordering::Relaxed);
        let (has_ips, own) = (self.has_ips(), self.legion.valor());
        let Some(rank) = self.rank.as_mut().filter(|_| !self.rests && !view.dead) else { return };
        let is_lord = view.lord_since != 0 || self.lord_until.is_some();
        let takes_over = self.comeback.is_tried();
        let takes_part = is_lord || takes_over;
        // What all nodes need may be gone, or be back, and they notice it one after the other. So the last result is enough
        // for the Lord to be well, and for another node not to be.
        let health = match self.state {
            State::Healthy if takes_part || !self.health.is_doubted() => rank::Health::Well,
            State::Sick if takes_part && self.health.has_passed() => rank::Health::Well,
            State::Healthy | State::Sick => rank::Health::Sick(self.health.patience()),
            State::Drained => rank::Health::Sick(Duration::ZERO),
            State::Unknown => rank::Health::Unknown,
        };
        let standing = rank::Standing {
            valor: self.valor,
            uuid: &self.legion.uuid(),
            // Who becomes sick while it takes the IPs over goes on, unless a healthy one is there.
            is_lord: is_lord || takes_over && health != rank::Health::Well,
            has_ips,
            health,
            announced: own,
            peers: &view.peers,
            tolerance: uwsgi::tolerance().as_secs().try_into().unwrap_or(i64::MAX),
        };
        let valor = rank.valor(&standing, now);
        // A Lord that makes room is no longer the highest, whoever has not heard its new valor yet.
        let farewell = if is_lord && valor < own { Farewell::AtOnce } else { Farewell::OnceKnown };
        self.voice.change_valor(valor, farewell, now);
    }

    /// Whether the IPs are here, as far as is known.
    fn has_ips(&self) -> bool {
        let mut routes = self.ips.iter().map(|ip| ip.record.metrics.route.load(Ordering::Relaxed));
        routes.clone().all(|route| route == 1) || self.has_ips && routes.all(|route| route != 0)
    }

    pub fn note_end(&mut self, ended: Ended) {
        self.has_ips = ended == Ended::Here;
        self.comeback.note(ended);
        if ended == Ended::Outvoted {
            // uWSGI has not heard that node yet.
            self.sight.distrust(Instant::now());
        }
    }

    /// Brings a node back after its suspension, which uWSGI never does. Until it can be Lord again it votes, because the
    /// others may have no quorum without it. Returns whether to check now if a takeover could be made.
    fn bring_back(&mut self, view: &View, now: Instant) -> bool {
        if self.ips.is_empty() || uwsgi::is_ending() {
            return false;
        }
        let legion = self.legion;
        let suspended = u64::try_from(view.suspended_until - uwsgi::now()).unwrap_or_default();
        let own = (if self.rests { self.valor } else { legion.valor() }, legion.uuid());
        let standing = comeback::Standing {
            is_away: view.dead || self.rests,
            suspended: Duration::from_secs(suspended),
            is_outranked: view.peers.iter().any(|peer| (peer.valor, peer.uuid) > own),
        };
        let log = |line: &str| uwsgi::log(&format!("{}: {line}", legion.name()));
        match self.comeback.observe(&standing, now) {
            Step::Nothing => {}
            Step::StayAway { votes, why } => {
                if !votes {
                    legion.suspend_until(uwsgi::now() + 2);
                } else if view.dead {
                    self.rests = true;
                    self.voice.rejoin(0, now);
                }
                why.iter().for_each(|why| log(why));
            }
            Step::Check => return true,
            Step::Return(why) => {
                self.rests = false;
                self.voice.rejoin(self.valor, now);
                log(&format!("{why}: this node is a member of the Legion again"));
            }
        }
        false
    }

    pub fn was_lord(&self) -> bool {
        self.lord_until.is_some()
    }

    pub fn had(&self) -> Vec<String> {
        self.had.clone()
    }

    fn here(&self) -> Vec<String> {
        let is_here = |ip: &&FailoverIp| match ip.record.metrics.route.load(Ordering::Relaxed) {
            1 => true,
            0 => false,
            _ => self.has_ips || self.was_lord() && self.had.contains(&ip.claim()),
        };
        self.ips.iter().filter(is_here).map(FailoverIp::claim).collect()
    }

    /// uWSGI begins to reload: a Lord remains a member, so that nobody else is elected for nothing.
    pub fn begin_reload(&mut self) {
        if self.reload.is_some() {
            return;
        }
        let now = Instant::now();
        let is_lord = self.legion.view().lord_since != 0 || self.was_lord();
        // If uWSGI announces this node, it has said farewell itself.
        let remains = is_lord && self.voice.speaks() && !uwsgi::exits_on_reload();
        match remains {
            true => self.voice.announce(now),
            false if self.is_silent && uwsgi::exits_on_reload() => {}
            false => self.voice.leave(self.legion.valor(), Farewell::AtOnce, now),
        }
        self.reload = Some(Reload { since: now, remains });
    }

    pub fn tick_in_reload(&mut self) {
        // uWSGI's main loop comes here only when uWSGI's daemons have ended, which may take longer than the tolerance.
        self.begin_reload();
        let now = Instant::now();
        let Some(reload) = &mut self.reload else { return };
        if reload.remains && now.duration_since(reload.since) > LONGEST_RELOAD {
            reload.remains = false;
            self.voice.leave(self.legion.valor(), Farewell::AtOnce, now);
            let (name, seconds) = (self.legion.name(), LONGEST_RELOAD.as_secs());
            uwsgi::log(&format!(
                "{name}: the workers have not ended for {seconds} s: this node leaves the Legion until it is reloaded"
            ));
        }
        self.voice.tick_in_reload(reload.remains, now);
    }

    pub fn lordship(&self) -> Option<Lordship> {
        self.reload.as_ref().filter(|reload| reload.remains)?;
        Some(Lordship {
            legion: self.legion,
            configured: self.valor,
            announced: self.legion.valor(),
            health: self.state,
            reloads: self.reloads,
            here: self.here(),
        })
    }

    /// Before uWSGI starts this Legion.
    pub fn take_back(&mut self, before: &Lordship) {
        let now = Instant::now();
        if !self.rests {
            let valor = self.rank.as_ref().map(|_| rank::with_valor(before.announced, self.valor));
            self.legion.set_valor(valor.unwrap_or(self.valor));
            // From here on, so that a reload which begins before the keeper runs is not heard as a farewell.
            self.voice.begin(now);
            self.lord_until = Some(now + LONGEST_RETURN);
            self.has_ips = self.ips.iter().all(|ip| before.here.contains(&ip.claim()));
            self.had.clone_from(&before.here);
            self.reloads = before.reloads + 1;
            self.state = before.health;
            self.health.go_on(before.health, LONGEST_LOAD);
            self.metrics.reloads_survived.store(self.reloads as i64, Ordering::Relaxed);
        }
        if self.legion.valor() != before.announced {
            self.voice.leave(before.announced, Farewell::OnceKnown, now);
        }
    }
}
