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
use super::{Tls, Words};
use crate::config::{Common, Secret, host_of, is_local};
use crate::https::authority;
use crate::metrics::Metrics;
use crate::sys::{is_here, lock};
#[cfg(feature = "fuzz")]
pub use answer::properties::check as check_answer;
use limits::LIMITS;
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
    let mut known = lock(&shared.failover_ips);
    known.extend(options.iter().map(|options| options.ip));
    known.sort_unstable();
    known.dedup();
    let remote = |options: Options| -> Arc<dyn Remote> {
        Arc::new(FloatingIp {
            name: options.ip.to_string(),
            user: account_of(&options.token),
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
fn account_of(token: &Secret) -> [u8; 8] {
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
    /// The token's account in the ledger.
    user: [u8; 8],
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

    fn ledger_account<'a>(&'a self, secret: &'a [u8]) -> Account<'a> {
        Account { api: authority(&self.options.url), user: &self.user, secret, limits: &LIMITS }
    }

    /// Without the token, which the ledger needs only where rejected ones lock an address out.
    fn question(&self, request: Request, need: Need) -> Question<'_> {
        Question { account: self.ledger_account(b""), ip: self.options.ip, request, need }
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
        let token = self.secret().read().map_err(Failure::not_sent)?;
        let server = self.server().map_err(Failure::not_sent)?;
        let authorization = authorization(&token);
        let authorization =
            authorization.ok_or_else(|| Failure::not_sent(format!("the token {NOT_A_TOKEN}")))?;
        Ok(Box::new(Asking::new(self, server, authorization, metrics)))
    }

    fn secret(&self) -> &Secret {
        &self.options.token
    }

    fn api(&self) -> Api {
        let url = &self.options.url;
        let tls = match (url.scheme_str(), self.common.ssl_no_verify) {
            (Some("https"), false) => Tls::Verified,
            (Some("https"), true) => Tls::Unverified,
            _ => Tls::None,
        };
        let host = host_of(url);
        Api { host: host.into(), authority: authority(url).into(), tls, is_here: is_local(host) }
    }

    fn account(&self) -> Vec<u8> {
        [authority(&self.options.url).as_bytes(), b" ", &self.user].concat()
    }

    /// With the URL, because a test setup beside the real API may use the same address.
    fn identity(&self) -> String {
        format!("{} {}", self.options.ip, self.options.base)
    }

    fn held_back_for(&self, request: Request, need: Need) -> Option<Duration> {
        self.shared.ledger.held(&self.question(request, need)).map(|hold| hold.remaining)
    }

    fn shortest_check_pause(&self, ips: usize) -> Duration {
        LIMITS.shortest_check_pause(ips)
    }

    fn note_guard(&self) {
        self.shared.ledger.book().watch(&self.ledger_account(b""));
    }

    fn check_pause(&self) -> Duration {
        let account = self.ledger_account(b"");
        self.shared.ledger.book().check_pause(&account, self.common.verify, Instant::now())
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match (self.server(), server::firmware_id()) {
            (Err(why), _) => {
                warnings.push(format!("{why}: each takeover asks again; or set server to {SERVER_MEANING}"))
            }
            (Ok(Named::Id(given)), Some(own)) if given != own && !self.api().is_here => {
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
