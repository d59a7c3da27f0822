//! A reload of a Lord is no failover: what this node was is handed over to the new image, and taken back by it, while a
//! child process announces the node in between (see `uwsgi::Bridge`).
//!
//! Only a Lord is handed over. Any other node says farewell when it reloads, since announcing it while it sees nobody would
//! hold up an election that the others may have to make meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::Node;
use super::keeper::Lordship;
use crate::health::State;
use crate::sys::lock;
use crate::text::printable;
use crate::uwsgi::{self, Bridge, BridgeBuilder, LONGEST_BRIDGE, Legion, Uuid};

/// What the old image hands over. None of it is secret. A later version may add to it.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Facts {
    legions: Vec<Handed>,
}

/// A lordship as the other image can read it, which has its Legions elsewhere, and perhaps others.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Eq, Debug)]
#[serde(default)]
struct Handed {
    #[serde(flatten)]
    identity: Identity,
    uuid: String,
    configured_valor: u64,
    announced_valor: u64,
    health: String,
    reloads: u64,
    /// See [`Lordship::here`].
    here: Vec<String>,
}

/// What makes this node, for its peers, the one that it was; with its uuid and valor, which the new image can keep.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Eq, Debug)]
#[serde(default)]
struct Identity {
    legion: String,
    /// This machine's, which uWSGI announces.
    host: String,
    /// Where it listens.
    address: String,
    /// A known text as this Legion encrypts it, so that no secret has to be handed over.
    probe: Vec<u8>,
}

impl Identity {
    /// Why this node is another one than the one `before`, though it is a member of the same Legion.
    fn differs(&self, before: &Identity) -> Option<&'static str> {
        match before {
            _ if before.host != self.host => Some("the host's name has changed"),
            _ if before.address != self.address => Some("its address has changed"),
            _ if before.probe != self.probe || before.probe.is_empty() => {
                Some("its secret or cipher has changed")
            }
            _ => None,
        }
    }
}

impl Handed {
    fn uuid(&self) -> Option<Uuid> {
        self.uuid.as_bytes().try_into().ok()
    }

    fn health(&self) -> State {
        let all = [State::Healthy, State::Sick, State::Drained];
        all.into_iter().find(|state| state.to_string() == self.health).unwrap_or(State::Unknown)
    }

    /// Why this node is another one now; `now` is `None` if it is no member of that Legion any more.
    fn why_not(&self, now: Option<&Identity>) -> Option<&'static str> {
        match now {
            None => Some("it is no longer a member"),
            Some(_) if self.uuid().is_none() => Some("what was handed over cannot be read"),
            Some(now) => now.differs(&self.identity),
        }
    }
}

/// What this process does about reloads.
#[derive(Default)]
pub struct Reload {
    builder: Mutex<Option<BridgeBuilder>>,
    is_built: AtomicBool,
    /// What the old image has left, until the new one has taken it over.
    crossing: Mutex<Option<Crossing>>,
}

struct Crossing {
    bridge: Bridge,
    handed: Vec<Handed>,
    /// Each with its number among those that were handed over.
    kept: Vec<(usize, Legion)>,
}

/// The uWSGI of this process is not the one that this plugin was built for, so it can take nothing back.
pub fn give_up() {
    if let Some((bridge, _)) = Bridge::find() {
        bridge.leave_all();
    }
}

impl Node {
    /// Finds what the old image has left, as early as possible, since it waits for a plugin only for seconds. Returns whether
    /// there is something.
    pub fn find_bridge(&self) -> bool {
        let Some((bridge, facts)) = Bridge::find() else { return false };
        let Ok(facts) = serde_json::from_slice::<Facts>(&facts) else {
            bridge.leave_all();
            return false;
        };
        *lock(&self.reload.crossing) = Some(Crossing { bridge, handed: facts.legions, kept: Vec::new() });
        true
    }

    /// Prepares for the next reload, and decides what of the last one is to be taken back: returns the Legions for which
    /// [`Node::take_back`] has to be called when they start. uWSGI has read its configuration by then.
    pub fn cross_bridge(&self) -> Vec<Legion> {
        let mut builder = BridgeBuilder::new();
        let mut crossing = lock(&self.reload.crossing);
        let kept = crossing.as_mut().map(|crossing| crossing.decide(&mut builder)).unwrap_or_default();
        *lock(&self.reload.builder) = Some(builder);
        if !uwsgi::has_master() {
            // Then no Legion starts.
            crossing.take().into_iter().for_each(|crossing| crossing.bridge.leave_all());
            return Vec::new();
        }
        kept
    }

    /// A Legion starts: it is the node again that it was. It has drawn a new uuid just before.
    pub fn take_back(&self, legion: Legion) {
        let mut crossing = lock(&self.reload.crossing);
        let Some(known) = crossing.as_ref() else { return };
        let Some((number, _)) = known.kept.iter().find(|(_, kept)| *kept == legion) else { return };
        let Some((handed, uuid)) =
            known.handed.get(*number).and_then(|handed| Some((handed, handed.uuid()?)))
        else {
            return;
        };
        let log = |line: &str| uwsgi::log(&format!("{}: {line}", legion.name()));
        if !known.bridge.keep(*number) {
            let was_too_long = crossing.take().is_some_and(|crossing| crossing.bridge.end());
            let seconds = LONGEST_BRIDGE.as_secs();
            return log(&match was_too_long {
                true => format!(
                    "the reload took longer than {seconds} s: this node has left the Legion, and joins it anew"
                ),
                false => "nobody announced this node during the reload: it joins the Legion anew".into(),
            });
        }
        legion.set_uuid(&uuid);
        let lordship = Lordship {
            legion,
            configured: handed.configured_valor,
            announced: handed.announced_valor,
            health: handed.health(),
            reloads: handed.reloads,
            here: handed.here.clone(),
        };
        self.keeper.take_back(legion, &lordship);
        log("this node was Lord before the reload, and is the same node for the others");
    }

    /// Before the keeper's first cycle: a second reload may have begun by then, and finds this node a member only if the
    /// keeper runs.
    pub fn before_cycle(&'static self) {
        if lock(&self.reload.crossing).is_some() {
            self.keeper.start();
        }
    }

    /// This image announces the node itself from now on.
    pub fn end_bridge(&self) {
        if let Some(crossing) = lock(&self.reload.crossing).take() {
            crossing.bridge.end();
        }
    }

    /// uWSGI is about to become the new image. Builds the bridge if this node is Lord.
    pub fn build_bridge(&self) {
        let lordships = self.keeper.lordships();
        let mut builder = lock(&self.reload.builder);
        let Some(builder) = builder.as_mut().filter(|_| !lordships.is_empty()) else { return };
        // uWSGI comes here again when its exec() fails.
        if self.reload.is_built.swap(true, Ordering::Relaxed) {
            return;
        }
        let spans: Vec<(Legion, u64)> =
            lordships.iter().map(|lordship| (lordship.legion, lordship.announced)).collect();
        let legions = lordships.iter().map(|lordship| hand_over(lordship, builder)).collect();
        let facts = serde_json::to_vec(&Facts { legions }).unwrap_or_default();
        if let Err(error) = builder.build(&spans, facts) {
            uwsgi::log(&format!(
                "this reload is a failover, because no process could be started that announces this node meanwhile: {error}"
            ));
            builder.say_farewell(&spans);
        }
    }
}

impl Crossing {
    /// Has the child say farewell for what this node is no longer; returns the rest.
    fn decide(&mut self, builder: &mut BridgeBuilder) -> Vec<Legion> {
        for (number, handed) in self.handed.iter().enumerate() {
            let name = &handed.identity.legion;
            let legion = uwsgi::legions().into_iter().find(|legion| legion.name() == *name);
            let now = legion.map(|legion| identity(legion, builder));
            match (legion, handed.why_not(now.as_ref())) {
                (Some(legion), None) => self.kept.push((number, legion)),
                (_, why) => {
                    let (name, why) = (printable(name, &[]), why.unwrap_or_default());
                    uwsgi::log(&format!("{name}: after this reload this is another node, because {why}"));
                    self.bridge.leave(number);
                }
            }
        }
        self.kept.iter().map(|(_, legion)| *legion).collect()
    }
}

fn identity(legion: Legion, builder: &mut BridgeBuilder) -> Identity {
    Identity {
        legion: legion.name(),
        host: uwsgi::host_name(),
        address: legion.listens_at(),
        probe: builder.probe(legion).unwrap_or_default(),
    }
}

fn hand_over(lordship: &Lordship, builder: &mut BridgeBuilder) -> Handed {
    Handed {
        identity: identity(lordship.legion, builder),
        uuid: String::from_utf8_lossy(&lordship.legion.uuid()).into_owned(),
        configured_valor: lordship.configured,
        announced_valor: lordship.announced,
        health: lordship.health.to_string(),
        reloads: lordship.reloads,
        here: lordship.here.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed() -> Handed {
        Handed {
            identity: Identity {
                legion: "site".into(),
                host: "web1".into(),
                address: "10.0.0.1:2000".into(),
                probe: vec![109, 0, 255],
            },
            uuid: "5e3b0d4e-7c4b-4f0e-9b59-0c3f3f9f6c11".into(),
            configured_valor: 100,
            announced_valor: 100 + 16_384 + 32_768,
            health: "drained".into(),
            reloads: 7,
            here: vec!["4.4.4.4 1.1.1.1".into()],
        }
    }

    #[test]
    fn the_same_node_is_taken_back() {
        let handed = handed();
        assert_eq!(handed.why_not(Some(&handed.identity)), None);
        assert_eq!(handed.uuid().unwrap(), *b"5e3b0d4e-7c4b-4f0e-9b59-0c3f3f9f6c11");
    }

    #[test]
    fn what_makes_it_another_node_is_named() {
        let (handed, before) = (handed(), handed().identity);
        let text = |text: &str| text.to_string();
        for (now, why) in [
            (None, "it is no longer a member"),
            (Some(Identity { host: text("web2"), ..before.clone() }), "the host's name has changed"),
            (Some(Identity { address: text(":2000"), ..before.clone() }), "its address has changed"),
            (Some(Identity { probe: vec![1], ..before.clone() }), "its secret or cipher has changed"),
        ] {
            assert_eq!(handed.why_not(now.as_ref()), Some(why));
        }
    }

    #[test]
    fn what_was_not_handed_over_is_not_taken_back() {
        let none = Handed { identity: Identity { probe: Vec::new(), ..handed().identity }, ..handed() };
        assert!(none.why_not(Some(&none.identity)).is_some(), "two ciphers that fail are not the same");
        for uuid in ["", "5e3b0d4e", "5e3b0d4e-7c4b-4f0e-9b59-0c3f3f9f6c111"] {
            let none = Handed { uuid: uuid.into(), ..handed() };
            assert!(none.why_not(Some(&handed().identity)).is_some(), "{uuid}");
        }
    }

    #[test]
    fn what_is_handed_over_arrives_also_in_another_version() {
        let facts = Facts { legions: vec![handed()] };
        let text = serde_json::to_string(&facts).unwrap();
        let read = |text: &str| serde_json::from_str::<Facts>(text).map(|facts| facts.legions);
        assert_eq!(read(&text).unwrap(), [handed()]);
        let later = text.replace("{\"legion\"", "{\"later\":[1],\"legion\"").replace("[{", "[{\"new\":{},");
        assert_ne!(later, text);
        assert_eq!(read(&later).unwrap(), [handed()]);
        let earlier = text.replace(",\"health\":\"drained\"", "");
        assert_ne!(earlier, text);
        assert_eq!(read(&earlier).unwrap(), [Handed { health: String::new(), ..handed() }]);
        let healths = ["healthy", "sick", "drained", "unknown", "", "later"];
        let healths = healths.map(|health| Handed { health: health.into(), ..handed() }.health());
        let unknown = State::Unknown;
        assert_eq!(healths, [State::Healthy, State::Sick, State::Drained, unknown, unknown, unknown]);
        assert!(read("").is_err() && read("{}").unwrap().is_empty());
    }
}
