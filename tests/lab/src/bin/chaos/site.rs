//! How a real installation's nodes differ from clean ones: what is drawn of it, and what the inis say then.

use std::fmt;
use std::path::Path;

use fastrand::Rng;
use lab::legion::LEGION;

/// The second Legion's name.
pub const SECOND: &str = "second";
/// Who uWSGI becomes: nobody, on every Linux.
pub const USER: u32 = 65_534;
/// How far the first and the last clock are apart, in seconds.
const APART: i64 = 10;
/// By its presence in a node's folder a hook fails.
pub const FAILS: &str = "hook-fails";
/// By its presence a check fails.
pub const SICK: &str = "sick";
/// By its presence the node is drained.
pub const DRAINED: &str = "drained";

/// Another hook beside ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Other {
    /// A command that succeeds, unless it is to fail.
    Cmd,
    Log,
}

impl Other {
    fn draw(rng: &mut Rng) -> Option<Other> {
        [None, Some(Other::Cmd), Some(Other::Cmd), Some(Other::Log)][rng.usize(..4)]
    }

    fn action(self) -> String {
        match self {
            Other::Cmd => format!("cmd:test ! -e {FAILS}"),
            Other::Log => "log:here is a hook".into(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Other::Cmd => "cmd",
            Other::Log => "log",
        }
    }
}

/// Where the IPs of the first Legion stand.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Ips {
    #[default]
    One,
    /// Two, each in a hook of its own.
    TwoHooks,
    /// Two in one hook.
    OneHook,
}

/// How it is found out whether a node's service is well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    Http,
    Command,
}

/// When a node with a higher valor becomes Lord that comes while there is one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Preempt {
    #[default]
    AtOnce,
    /// After it was there for so many seconds.
    After(u32),
    Never,
}

/// What the nodes of a plan have. Default: clean ones.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Site {
    /// Whether they drop to another user.
    pub uid: bool,
    pub before: Option<Other>,
    pub behind: Option<Other>,
    /// The phases in which the IPs are released.
    pub releases: Vec<&'static str>,
    /// The `legion-freq` of each node; empty: a second for all.
    freqs: Vec<u32>,
    /// Whether there is a second Legion.
    pub second: bool,
    /// By how many seconds each node's clock is ahead; empty: none is.
    ahead: Vec<i64>,
    pub ips: Ips,
    /// Whether there is an app that may take its time to load.
    pub deploys: bool,
    pub check: Option<Check>,
    /// Whether there is a drain file.
    pub drains: bool,
    pub preempt: Preempt,
    /// Whether an orderly end is silent.
    pub silent: bool,
}

impl Site {
    pub fn draw_hooks(&mut self, rng: &mut Rng) {
        self.before = Other::draw(rng);
        self.behind = Other::draw(rng);
        self.releases =
            [vec![], vec!["death"], vec!["unlord"], vec!["unlord", "death"]][rng.usize(..4)].clone();
        if self.before.or(self.behind).is_none() && self.releases.is_empty() {
            self.behind = Some(Other::Cmd);
        }
    }

    pub fn draw_freqs(&mut self, rng: &mut Rng, nodes: usize) {
        self.freqs = (0..nodes).map(|_| rng.u32(1..=3)).collect();
        if self.freqs.iter().all(|freq| *freq == self.freqs[0]) {
            self.freqs[0] = if self.freqs[0] == 1 { 3 } else { 1 };
        }
    }

    pub fn draw_clocks(&mut self, rng: &mut Rng, nodes: usize) {
        self.ahead = (0..nodes).map(|_| rng.i64(0..=APART)).collect();
        let first = rng.usize(..nodes);
        self.ahead[first] = 0;
        self.ahead[(first + rng.usize(1..nodes)) % nodes] = APART;
    }

    pub fn draw_ips(&mut self, rng: &mut Rng) {
        self.ips = if rng.bool() { Ips::TwoHooks } else { Ips::OneHook };
    }

    pub fn draw_check(&mut self, rng: &mut Rng) {
        self.check = Some(if rng.bool() { Check::Http } else { Check::Command });
    }

    pub fn draw_preempt(&mut self, rng: &mut Rng) {
        self.preempt = if rng.bool() { Preempt::Never } else { Preempt::After(rng.u32(2..=15)) };
    }

    /// The `legion-freq` of node N, in seconds.
    pub fn freq(&self, node: usize) -> u32 {
        self.freqs.get(node - 1).copied().unwrap_or(1)
    }

    /// The longest `legion-freq`.
    pub fn longest_freq(&self) -> u32 {
        self.freqs.iter().copied().max().unwrap_or(1)
    }

    /// By how many seconds the clock of node N is ahead.
    pub fn ahead(&self, node: usize) -> i64 {
        self.ahead.get(node - 1).copied().unwrap_or(0)
    }

    pub fn has_cmd(&self) -> bool {
        self.before == Some(Other::Cmd) || self.behind == Some(Other::Cmd)
    }

    /// The lines by which a Legion's Lord stays or goes. `folder` is the node's, `url` where its service is.
    pub fn rank(&self, legion: &str, folder: &Path, url: &str) -> String {
        let mut lines = match self.preempt {
            Preempt::AtOnce => String::new(),
            Preempt::After(seconds) => format!("legion-preempt-delay = {legion} {seconds}\n"),
            Preempt::Never => format!("legion-nopreempt = {legion}\n"),
        };
        let folder = folder.display();
        if let Some(check) = self.check {
            let what = match check {
                Check::Http => url.into(),
                Check::Command => format!("/usr/bin/test ! -e {folder}/{SICK}"),
            };
            lines += &format!(
                "legion-check = {legion} {what}\nlegion-check-interval = {legion} 1\n\
                 legion-check-timeout = {legion} 2\nlegion-check-fall = {legion} 3\nlegion-check-rise = {legion} 2\n"
            );
        }
        if self.drains {
            lines += &format!("legion-drain-file = {legion} {folder}/{DRAINED}\n");
        }
        if self.silent {
            lines += &format!("legion-silent-stop = {legion}\n");
        }
        lines
    }

    /// The lines for all hooks of a node, with this action of ours, where `first` are the arguments of ours in the first Legion, and `second`
    /// is that in the second.
    pub fn hooks(&self, action: &str, first: &[String], second: Option<&str>, releases: bool) -> String {
        let ours = |argument: &String| format!("{action}:{argument}");
        let of_lord = self.before.map(Other::action).into_iter().chain(first.iter().map(ours));
        let of_lord = of_lord.chain(self.behind.map(Other::action));
        let mut lines: String = of_lord.map(|hook| format!("legion-lord = {LEGION} {hook}\n")).collect();
        if let Some(argument) = second {
            lines += &format!("legion-lord = {SECOND} {action}:{argument}\n");
        }
        for phase in self.releases.iter().filter(|_| releases) {
            let all = first.iter().map(|argument| (LEGION, argument.as_str()));
            for (legion, argument) in all.chain(second.map(|argument| (SECOND, argument))) {
                lines += &format!("legion-{phase} = {legion} {action}-release:{argument}\n");
            }
        }
        lines
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.uid {
            write!(f, ", uid")?;
        }
        for (other, place) in [(self.before, "before"), (self.behind, "behind")] {
            if let Some(other) = other {
                write!(f, ", {} {place}", other.name())?;
            }
        }
        for phase in &self.releases {
            write!(f, ", release at {phase}")?;
        }
        if !self.freqs.is_empty() {
            write!(f, ", freq {:?}", self.freqs)?;
        }
        if self.second {
            write!(f, ", second Legion")?;
        }
        if !self.ahead.is_empty() {
            write!(f, ", clocks ahead {:?}", self.ahead)?;
        }
        match self.ips {
            Ips::One => {}
            Ips::TwoHooks => write!(f, ", two hooks")?,
            Ips::OneHook => write!(f, ", two IPs in a hook")?,
        }
        match self.check {
            None => {}
            Some(Check::Http) => write!(f, ", checked by http")?,
            Some(Check::Command) => write!(f, ", checked by a command")?,
        }
        if self.drains {
            write!(f, ", drain file")?;
        }
        match self.preempt {
            Preempt::AtOnce => {}
            Preempt::After(seconds) => write!(f, ", preempt-delay {seconds}")?,
            Preempt::Never => write!(f, ", nopreempt")?,
        }
        if self.silent { write!(f, ", silent stop") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_stand_in_their_order() {
        let site = Site {
            before: Some(Other::Log),
            behind: Some(Other::Cmd),
            releases: vec!["unlord"],
            ..Site::default()
        };
        let expected = "legion-lord = failover log:here is a hook\n\
                        legion-lord = failover hetzner-failoverip:a\n\
                        legion-lord = failover hetzner-failoverip:b\n\
                        legion-lord = failover cmd:test ! -e hook-fails\n\
                        legion-lord = second hetzner-failoverip:c\n";
        let (first, second) = (["a".into(), "b".into()], Some("c"));
        assert_eq!(site.hooks("hetzner-failoverip", &first, second, false), expected);
        let releases = [
            "failover hetzner-failoverip-release:a",
            "failover hetzner-failoverip-release:b",
            "second hetzner-failoverip-release:c",
        ]
        .map(|hook| format!("legion-unlord = {hook}\n"))
        .concat();
        assert_eq!(site.hooks("hetzner-failoverip", &first, second, true), expected.to_string() + &releases);
    }

    #[test]
    fn a_rank_is_made_of_what_was_drawn() {
        let rank = |site: Site| site.rank("one", Path::new("/folder"), "http://127.0.0.1:1/page");
        assert_eq!(rank(Site::default()), "");
        let all = Site {
            check: Some(Check::Command),
            drains: true,
            preempt: Preempt::After(7),
            silent: true,
            ..Site::default()
        };
        let expected = "legion-preempt-delay = one 7\n\
                        legion-check = one /usr/bin/test ! -e /folder/sick\n\
                        legion-check-interval = one 1\nlegion-check-timeout = one 2\n\
                        legion-check-fall = one 3\nlegion-check-rise = one 2\n\
                        legion-drain-file = one /folder/drained\nlegion-silent-stop = one\n";
        assert_eq!(rank(all), expected);
        let http = Site { check: Some(Check::Http), preempt: Preempt::Never, ..Site::default() };
        assert!(
            rank(http).starts_with("legion-nopreempt = one\nlegion-check = one http://127.0.0.1:1/page\n")
        );
    }

    #[test]
    fn freqs_differ_and_clocks_are_ten_seconds_apart() {
        for seed in 0..500 {
            let (mut site, rng) = (Site::default(), &mut Rng::with_seed(seed));
            let nodes = rng.usize(2..=5);
            site.draw_freqs(rng, nodes);
            site.draw_clocks(rng, nodes);
            let of_all = |of: &dyn Fn(usize) -> i64| (1..=nodes).map(of).collect::<Vec<_>>();
            let freqs = of_all(&|node| site.freq(node).into());
            assert!(
                freqs.iter().all(|freq| (1..=3).contains(freq)) && freqs.iter().min() < freqs.iter().max()
            );
            let ahead = of_all(&|node| site.ahead(node));
            assert_eq!((ahead.iter().min(), ahead.iter().max()), (Some(&0), Some(&10)));
        }
    }
}
