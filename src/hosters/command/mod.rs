//! Any other hoster: a command, or an OCF resource agent, that moves an IP in its own way.
//!
//! `options` knows the keys of a hook, `environment` what a command is told, `call` calls it and reads its exit status,
//! `limits` says how often it may be called, `line` that two calls do not move one IP at a time. This file is the command's
//! side of the seam.

mod call;
mod environment;
mod limits;
mod line;
mod options;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ledger::{Account, Question};
use super::{About, Failure, Hoster, Need, Read, Remote, Request, Session, Shared, Surroundings, Way, Words};
use crate::config::{Common, Secret};
use crate::metrics::Metrics;
use crate::uwsgi;
use call::Calling;
use environment::Variables;
use limits::LIMITS;
use line::Line;
pub use line::Lines;
use options::{Options, PACE};

pub struct Command;

impl Hoster for Command {
    const ABOUT: About = About {
        takes_over: c"failover-command",
        releases: c"failover-command-release",
        target_key: "target",
        words: Words {
            secret: "environment",
            secret_keys: &["ocf_password=", "ocf_passwd=", "ocf_secret="],
            file_is_fine: "the env_file can be read",
            login: "command",
            account: "command",
        },
        pace: PACE,
        read,
    };
}

fn read(argument: &[u8], surroundings: &Surroundings) -> Read {
    let options::Parsed { common, options, remarks } = options::parse(argument);
    let Surroundings { name, shared, .. } = *surroundings;
    shared.note_ips(options.iter().filter_map(|options| options.ip.parse::<IpAddr>().ok()));
    let remote = |options: Options| -> Arc<dyn Remote> {
        let path = options.program.path.display().to_string();
        Arc::new(Address { options, path, common: common.clone(), legion: name.into(), shared })
    };
    let ips = options.into_iter().map(remote).collect();
    Read { common, ips, remarks }
}

/// One IP of one hook.
struct Address {
    options: Options,
    /// Of the program, as it is written.
    path: String,
    common: Common,
    /// The name of the hook's Legion.
    legion: String,
    shared: &'static Shared,
}

impl Address {
    fn target_name(&self) -> &str {
        match &*self.options.target {
            "" => "this server",
            target => target,
        }
    }

    /// Each IP has its own limits: nobody knows what those of one command share.
    fn ledger_account(&self) -> Account<'_> {
        Account { api: &self.path, user: self.options.ip.as_bytes(), secret: b"", limits: &LIMITS }
    }

    fn line(&self) -> Arc<Line> {
        self.shared.lines.of(self.identity())
    }

    fn question(&self, request: Request, need: Need) -> Question<'_> {
        Question { account: self.ledger_account(), ip: &self.options.ip, request, need }
    }
}

impl Remote for Address {
    fn ip(&self) -> &str {
        &self.options.ip
    }

    fn target(&self) -> Result<String, String> {
        Ok(self.target_name().into())
    }

    /// None: the command may well put the address there itself.
    fn local_addresses(&self) -> Vec<(&'static str, IpAddr)> {
        Vec::new()
    }

    fn open(&self, metrics: &'static Metrics) -> Result<Box<dyn Session + '_>, Failure> {
        let content = self.secret().map_or(Ok(Vec::new()), Secret::read).map_err(Failure::not_sent)?;
        let variables = Variables::read(&content).map_err(|why| {
            let file = self.secret().and_then(Secret::file);
            let file = file.map_or_else(String::new, |(key, path)| format!("{key}={}: ", path.display()));
            Failure::not_sent(format!("{file}{why}"))
        })?;
        Ok(Box::new(Calling { of: self, variables, metrics }))
    }

    fn secret(&self) -> Option<&Secret> {
        self.options.env_file.as_ref()
    }

    fn way(&self) -> Way {
        Way::Program(self.options.program.path.clone())
    }

    fn account(&self) -> Vec<u8> {
        self.identity().into_bytes()
    }

    fn identity(&self) -> String {
        format!("{} {}", self.options.ip, self.path)
    }

    fn held_back_for(&self, request: Request, need: Need) -> Option<Duration> {
        self.shared.ledger.held(&self.question(request, need)).map(|hold| hold.remaining)
    }

    fn shortest_check_pause(&self, _: usize) -> Duration {
        LIMITS.shortest_check_pause(1)
    }

    fn note_guard(&self) {
        self.shared.ledger.book().watch(&self.ledger_account());
    }

    fn check_pause(&self) -> Duration {
        let account = self.ledger_account();
        self.shared.ledger.book().check_pause(&account, self.common.verify, Instant::now())
    }

    /// As OCF's cluster managers do, which stop whatever is not to run here.
    fn is_of_this_host(&self) -> bool {
        self.options.program.agent.is_some()
    }

    fn warnings(&self) -> Vec<String> {
        let (path, shown) = (&self.options.program.path, &self.path);
        let mut warnings = Vec::new();
        let is_open =
            |path: &std::path::Path| path.metadata().is_ok_and(|file| file.permissions().mode() & 0o002 != 0);
        if is_open(path) || path.parent().is_some_and(is_open) {
            warnings.push(format!(
                "{shown} or its folder is writable by everyone, so anyone on this host could replace it: chmod o-w"
            ));
        }
        if let (user, Err(why)) = uwsgi::try_path(path, uwsgi::Need::Run) {
            let hint = match why.kind() {
                ErrorKind::NotFound => "it has to be there, and so has what it needs",
                _ => "that user has to be allowed to enter its folders and to run it",
            };
            warnings.push(format!("{shown} cannot be run{user} ({why}): {hint}"));
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
