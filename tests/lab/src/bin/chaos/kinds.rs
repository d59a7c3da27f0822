//! What is drawn beside the faults of clean nodes: what real installations have.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lab::clock;
use lab::process::is_root;
use lab::uwsgi::Uwsgi;

use crate::hoster::Hoster;

/// Each is drawn for some of the seeds, whatever the others are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An API that refuses connections for a minute or longer.
    Away,
    /// Machines that are paused: what is sent to them meanwhile is lost.
    Pause,
    /// A log that nobody reads for a while.
    Log,
    /// Other hooks before and behind ours, which fail for a while; hooks that release; an orderly stop.
    Hooks,
    /// Nodes that drop to another user.
    Uid,
    /// Another `legion-freq` on each node.
    Freq,
    /// A second Legion in the same processes, with its own IP and another Lord. Not where an IP is moved by hand.
    Second,
    /// Clocks that are some seconds apart.
    Clocks,
    /// Two IPs in one Legion. Likewise.
    Ips,
    /// Datagrams that are no announcements, or none of today.
    Strays,
    /// Reloads of apps that take some seconds to load, also when nothing else is wrong.
    Reloads,
    /// A service that is sick on some nodes, or on all, and a check that says so.
    Sick,
    /// Nodes that are drained for a while.
    Drains,
    /// A Lord that remains Lord, or for some time, when a node with a higher valor is there again.
    Nopreempt,
    /// Nodes that end without a word; restarts within the tolerance and beyond it.
    Silent,
    /// A command that hangs, dies, writes without end, or is not there. Only where a command is the hoster.
    Command,
}

impl Kind {
    /// With the name of each, and for how many of a hundred seeds it is drawn. The order is that of their generators:
    /// a new kind belongs at the end.
    pub const ALL: [(Kind, &str, u8); 16] = [
        (Kind::Away, "away", 20),
        (Kind::Pause, "pause", 35),
        (Kind::Log, "log", 30),
        (Kind::Hooks, "hooks", 40),
        (Kind::Uid, "uid", 30),
        (Kind::Freq, "freq", 30),
        (Kind::Second, "second", 35),
        (Kind::Clocks, "clocks", 30),
        (Kind::Ips, "ips", 40),
        (Kind::Strays, "strays", 35),
        (Kind::Reloads, "reloads", 40),
        (Kind::Sick, "sick", 35),
        (Kind::Drains, "drains", 30),
        (Kind::Nopreempt, "nopreempt", 40),
        (Kind::Silent, "silent", 30),
        (Kind::Command, "command", 50),
    ];

    /// So many of them were all, before a reload was no failover any more.
    const EARLIER: usize = 10;

    fn name(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, ..)| *kind == self).expect("all are there").1
    }
}

/// Which kinds are drawn.
#[derive(Clone, Debug)]
pub struct Kinds {
    kinds: Vec<Kind>,
    /// For each seed, rather than for some.
    always: bool,
}

impl Kinds {
    /// `all`, `old` (none), `earlier` (those of earlier versions, so that a seed is what it was then), or names with commas
    /// between them: these in each schedule.
    pub fn read(text: &str, hoster: Hoster) -> Result<Kinds, String> {
        let kinds = match text {
            "" | "all" => return Ok(Kinds::all().possible(hoster)),
            "old" => return Ok(Kinds { kinds: Vec::new(), always: false }),
            "earlier" => {
                let kinds = Kind::ALL[..Kind::EARLIER].iter().map(|(kind, ..)| *kind).collect();
                return Ok(Kinds { kinds, always: false }.possible(hoster));
            }
            names => names.split(',').map(|name| {
                let known = Kind::ALL.iter().find(|(_, known, _)| *known == name);
                known.map(|(kind, ..)| *kind).ok_or_else(|| {
                    let names = Kind::ALL.map(|(_, name, _)| name).join(", ");
                    format!("KINDS={text}: expected all, earlier, old, or some of {names}, with commas between them")
                })
            }),
        };
        let kinds = Kinds { kinds: kinds.collect::<Result<_, _>>()?, always: true };
        let possible = kinds.clone().possible(hoster);
        match kinds.kinds.iter().find(|kind| !possible.draw(**kind, 0)) {
            Some(Kind::Command) => Err(format!("KINDS={text}: command needs HOSTER=command")),
            Some(kind) => {
                Err(format!("KINDS={text}: {} needs root, and a checkout that all may read", kind.name()))
            }
            None => Ok(kinds),
        }
    }

    pub fn all() -> Kinds {
        Kinds { kinds: Kind::ALL.map(|(kind, ..)| kind).into(), always: false }
    }

    /// Without what cannot be played here: only root starts uWSGI as another user, who has to be able to start it
    /// anew, when it reloads.
    fn possible(self, hoster: Hoster) -> Kinds {
        let kinds = if hoster == Hoster::Command { self } else { self.without(Kind::Command) };
        if is_root() && others_may_use(&clock::folder()) { kinds } else { kinds.without(Kind::Uid) }
    }

    pub fn without(mut self, which: Kind) -> Kinds {
        self.kinds.retain(|kind| *kind != which);
        self
    }

    /// Whether it is drawn, where `roll` is a number below 100.
    pub fn draw(&self, kind: Kind, roll: u8) -> bool {
        let percent = Kind::ALL.iter().find(|(known, ..)| *known == kind).expect("all are there").2;
        self.kinds.contains(&kind) && (self.always || roll < percent)
    }
}

/// Whether everybody may look into a folder.
fn others_may_use(folder: &Path) -> bool {
    let real = Uwsgi::Pypi.program().canonicalize();
    let programs = real.iter().filter_map(|program| program.parent()).flat_map(Path::ancestors);
    folder
        .ancestors()
        .chain(programs)
        .all(|folder| folder.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_all_or_none_or_some() {
        let kinds = |text: &str| Kinds::read(text, Hoster::Command).expect("they are kinds");
        for (kind, name, percent) in Kind::ALL {
            assert_eq!(kind.name(), name);
            assert!(!kinds("old").draw(kind, 0), "{name}");
            assert!(Kinds::all().draw(kind, percent - 1) && !Kinds::all().draw(kind, percent), "{name}");
        }
        let earlier = kinds("earlier");
        assert!(kinds("all").draw(Kind::Command, 0));
        for hoster in [Hoster::Robot, Hoster::Cloud] {
            assert!(Kinds::read("command", hoster).is_err());
            assert!(!Kinds::read("all", hoster).expect("the default").draw(Kind::Command, 0));
        }
        assert!(earlier.draw(Kind::Strays, 0) && !earlier.draw(Kind::Strays, 99));
        assert!(!earlier.draw(Kind::Reloads, 0) && !earlier.draw(Kind::Silent, 0));
        let some = kinds("pause,ips");
        assert!(some.draw(Kind::Pause, 99) && some.draw(Kind::Ips, 99) && !some.draw(Kind::Freq, 0));
        let why = Kinds::read("pause,leap", Hoster::Robot).expect_err("there is no such kind");
        assert!(
            why.starts_with("KINDS=pause,leap: expected all, earlier, old, or some of away, pause,"),
            "{why}"
        );
    }
}
