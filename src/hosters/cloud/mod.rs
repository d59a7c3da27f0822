//! Hetzner Cloud and its floating IPs: everything that only the Cloud has.
//!
//! `options` knows the keys of a hook, `server` finds out which server this is, `limits` says how often the API may be
//! asked, `answer` reads its answers, `session` asks. This file is the Cloud's side of the seam. Uses what any hoster may:
//! `config`, `https`, `sys`, the ledger and the metrics.

mod answer;
pub(super) mod limits;
mod options;
mod server;
mod session;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use super::ledger::{Account, Question};
use super::{About, Api, Failure, Hoster, Need, Read, Remote, Request, Session, Shared, Surroundings};
use super::{Way, Words};
use crate::config::{Common, Secret};
use crate::https::authority;
use crate::metrics::Metrics;
use crate::sys::is_here;
#[cfg(feature = "fuzz")]
pub use answer::properties::check as check_answer;
use limits::{LIMITS, OF_ALL};
#[cfg(feature = "fuzz")]
pub use options::properties::check as check_options;
use options::{NOT_A_TOKEN, Named, Options, PACE, SERVER_MEANING, authorization};
pub use server::OwnServer;
use session::{Asking, Pending};

pub struct Cloud;

impl Hoster for Cloud {
    const ABOUT: About = About {
        takes_over: c"hetzner-floatingip",
        releases: c"hetzner-floatingip-release",
        target_key: "server",
        words: Words {
            secret: "token",
            secret_keys: &["token="],
            file_is_fine: "the token file can be read",
            login: "token",
            account: "token's Project",
        },
        pace: PACE,
        read,
    };
}

fn read(argument: &[u8], surroundings: &Surroundings) -> Read {
    let options::Parsed { common, options, remarks } = options::parse(argument);
    let shared = surroundings.shared;
    shared.note_ips(options.iter().map(|options| options.ip));
    let remote = |options: Options| -> Arc<dyn Remote> {
        Arc::new(FloatingIp {
            name: options.ip.to_string(),
            project: project_of(&options.token),
            user: [&project_of(&options.token), options.ip.to_string().as_bytes()].concat(),
            options,
            common: common.clone(),
            shared,
            id: Mutex::new(None),
            server_id: Mutex::new(None),
            pending: Mutex::new(None),
            is_blocked: AtomicBool::new(false),
        })
    };
    let ips = options.into_iter().map(remote).collect();
    Read { common, ips, remarks }
}

/// Stands for the Project in the ledger, which nobody can read a token from. A new token in the same file is of the same
/// Project.
fn project_of(token: &Secret) -> [u8; 8] {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let hash = match (token.read(), token.file()) {
        (Ok(token), _) => KEY.hash_one(token.trim_ascii()),
        (Err(_), file) => KEY.hash_one(file.map(|(_, path)| path.as_os_str().as_bytes())),
    };
    hash.to_be_bytes()
}

/// One floating IP of one hook.
struct FloatingIp {
    name: String,
    options: Options,
    common: Common,
    shared: &'static Shared,
    /// Stands for the token's Project; and with the address for this one's account in the ledger.
    project: [u8; 8],
    user: Vec<u8>,
    /// The floating IP's id, once the API has said that it is this address.
    id: Mutex<Option<u64>>,
    /// The id of the server that `server` names.
    server_id: Mutex<Option<u64>>,
    /// The last action of this node, while it may not have ended.
    pending: Mutex<Option<Pending>>,
    /// By Hetzner, when its route was last checked.
    is_blocked: AtomicBool,
}

impl FloatingIp {
    /// The server to assign it to, or why that is not known now.
    fn server(&self) -> Result<Named, String> {
        let own = || self.shared.own_server.id(&self.options.url).map(Named::Id);
        self.options.server.clone().map_or_else(own, Ok)
    }

    /// Without the token, which the ledger needs only where rejected ones lock an address out.
    fn ledger_account(&self) -> Account<'_> {
        Account { api: authority(&self.options.url), user: &self.user, secret: b"", limits: &LIMITS }
    }

    fn account_of_all(&self) -> Account<'_> {
        Account { user: &self.project, limits: &OF_ALL, ..self.ledger_account() }
    }

    fn question(&self, request: Request, need: Need) -> Question<'_> {
        Question { account: self.ledger_account(), ip: &self.name, request, need }
    }
}

impl Remote for FloatingIp {
    fn ip(&self) -> &str {
        &self.name
    }

    fn target(&self) -> Result<String, String> {
        self.server().map(|server| server.to_string())
    }

    fn local_addresses(&self) -> Vec<(&'static str, IpAddr)> {
        vec![("the floating IP", self.options.ip)]
    }

    fn open(&self, metrics: &'static Metrics) -> Result<Box<dyn Session + '_>, Failure> {
        let token = self.options.token.read().map_err(Failure::not_sent)?;
        let server = self.server().map_err(Failure::not_sent)?;
        let authorization = authorization(&token);
        let authorization =
            authorization.ok_or_else(|| Failure::not_sent(format!("the token {NOT_A_TOKEN}")))?;
        Ok(Box::new(Asking::new(self, server, authorization, metrics)))
    }

    fn secret(&self) -> Option<&Secret> {
        Some(&self.options.token)
    }

    fn way(&self) -> Way {
        Way::Api(Api::of(&self.options.url, &self.common))
    }

    fn account(&self) -> Vec<u8> {
        [authority(&self.options.url).as_bytes(), b" ", &self.project].concat()
    }

    /// With the URL, because a test setup beside the real API may use the same address.
    fn identity(&self) -> String {
        format!("{} {}", self.options.ip, self.options.base)
    }

    fn held_back_for(&self, request: Request, need: Need) -> Option<Duration> {
        self.shared.ledger.held(&self.question(request, need)).map(|hold| hold.remaining)
    }

    fn shortest_check_pause(&self, ips: usize) -> Duration {
        LIMITS.shortest_check_pause(1).max(OF_ALL.shortest_check_pause(ips))
    }

    fn note_guard(&self) {
        let mut book = self.shared.ledger.book();
        book.watch(&self.ledger_account());
        book.watch(&self.account_of_all());
    }

    fn check_pause(&self) -> Duration {
        let (asked, now) = (self.common.verify, Instant::now());
        let mut book = self.shared.ledger.book();
        let own = book.check_pause(&self.ledger_account(), asked, now);
        own.max(book.check_pause(&self.account_of_all(), asked, now))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match (self.server(), server::firmware_id()) {
            (Err(why), _) => {
                warnings.push(format!("{why}: each takeover asks again; or set server to {SERVER_MEANING}"))
            }
            (Ok(Named::Id(given)), Some(own))
                if given != own && !Api::of(&self.options.url, &self.common).is_here =>
            {
                warnings.push(format!(
                    "server={given} is not this server, which is {own}: is it another one's? Leave server out to use \
                     this server's own"
                ));
            }
            (Ok(_), _) => {}
        }
        if is_here(self.options.ip) == Some(false) {
            warnings.push(format!(
                "ip={} is not on any interface of this host: if it is routed here, nothing answers; add it to one",
                self.name
            ));
        }
        warnings
    }

    fn trouble(&self) -> Option<String> {
        self.is_blocked.load(Ordering::Relaxed).then(|| {
            "Hetzner has blocked this floating IP, so it does not work wherever it is routed: see the Cloud Console"
                .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_hook(argument: &str, shared: &'static Shared) -> Vec<Arc<dyn Remote>> {
        read(argument.as_bytes(), &Surroundings { name: "", legion: None, shared }).ips
    }

    fn shared() -> &'static Shared {
        Box::leak(Box::new(Shared::new()))
    }

    #[test]
    fn a_project_is_known_by_its_token_and_no_token_by_its_project() {
        let shared = shared();
        let ips = read_hook("token=hunter2,ip=4.4.4.4;5.5.5.5", shared);
        let other = read_hook("token=another,ip=4.4.4.4", shared);
        assert_eq!(ips[0].account(), ips[1].account());
        assert_ne!(ips[0].account(), other[0].account());
        assert!(!String::from_utf8_lossy(&ips[0].account()).contains("hunter2"));
        assert_ne!(ips[0].identity(), ips[1].identity());
        assert_eq!(ips[0].identity(), other[0].identity(), "an address is one, whoever asks for it");
    }

    /// One a minute each, as `verify` says, until that is too many for a Project.
    #[test]
    fn each_ip_is_checked_each_minute_if_there_are_not_too_many() {
        for (number, expected) in [(1, 60), (2, 60), (10, 60), (20, 120)] {
            let ips: Vec<String> = (1..=number).map(|last| format!("4.4.4.{last}")).collect();
            let ips = read_hook(&format!("token=x,ip={}", ips.join(";")), shared());
            ips.iter().for_each(|ip| ip.note_guard());
            for ip in &ips {
                assert_eq!(ip.check_pause(), Duration::from_secs(expected), "{number}");
            }
        }
        let never = read_hook("token=x,ip=4.4.4.4,verify=0", shared());
        never[0].note_guard();
        assert!(never[0].check_pause().is_zero());
    }
}
