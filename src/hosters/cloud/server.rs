//! Which server this is: the default of `server`.

use std::env;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ureq::http::Uri;

use crate::config::{host_of, is_local};
use crate::https::Probe;
use crate::sys::lock;

/// The metadata service, which each Cloud server has on its own link. Source: Hetzner Cloud API, "Server metadata".
const SERVICE: &str = "http://169.254.169.254";
const INSTANCE_ID: &str = "/hetzner/v1/metadata/instance-id";
/// A stand-in for the service, for rehearsals: only an API on this very host makes it count.
const STAND_IN: &str = "HETZNER_METADATA";
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// After a failure it is not asked again for this time, so that several IPs are not several waits.
const PAUSE: Duration = Duration::from_secs(10);

/// What the firmware says of this machine.
const FIRMWARE: &str = "/sys/class/dmi/id";

/// This server's id, once found: it never changes, and only root may read what the firmware says.
pub struct OwnServer(Mutex<State>);

struct State {
    id: Option<u64>,
    failed: Option<(Instant, String)>,
}

impl OwnServer {
    pub const fn new() -> OwnServer {
        OwnServer(Mutex::new(State { id: None, failed: None }))
    }

    /// This server's id, or why it is not known now. `api` is where requests go.
    pub fn id(&self, api: &Uri) -> Result<u64, String> {
        let mut state = lock(&self.0);
        if let Some(id) = state.id {
            return Ok(id);
        }
        if let Some((_, why)) = state.failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE) {
            return Err(why.clone());
        }
        let found = match stand_in(api) {
            Some(base) => by_service(&base),
            None => by_firmware(Path::new(FIRMWARE)).map_or_else(|| by_service(SERVICE), Ok),
        };
        match found {
            Ok(id) => Ok(*state.id.insert(id)),
            Err(why) => {
                let why = format!("server is not set, and {why}");
                state.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }
}

fn stand_in(api: &Uri) -> Option<String> {
    env::var(STAND_IN).ok().filter(|base| !base.is_empty() && is_local(host_of(api)))
}

/// The id in the firmware, as the hypervisor has put it there: no request, so no waiting. For root only.
pub fn by_firmware(folder: &Path) -> Option<u64> {
    let read = |name| fs::read_to_string(folder.join(name)).ok();
    let vendor = read("sys_vendor")?;
    (vendor.trim() == "Hetzner").then(|| id(&read("product_serial")?)).flatten()
}

fn by_service(base: &str) -> Result<u64, String> {
    let failed =
        |why: String| format!("the metadata service at {base} does not say which server this is: {why}");
    let url = format!("{}{INSTANCE_ID}", base.trim_end_matches('/'));
    let url = url.parse::<Uri>().map_err(|_| failed("not a valid URL".into()))?;
    // No name: it would be looked up in a thread, and uWSGI may not have forked yet.
    let _: IpAddr = host_of(&url).parse().map_err(|_| failed("its host is not an address".into()))?;
    let body = Probe::of_url(&url).read(&url, LONGEST_WAIT).map_err(failed)?;
    let found = std::str::from_utf8(&body).ok().and_then(id);
    found.ok_or_else(|| failed("the answer is not a number".into()))
}

fn id(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| is_plain && *id > 0)
}

/// What the firmware says, for a warning where `server` says something else.
pub fn firmware_id() -> Option<u64> {
    by_firmware(Path::new(FIRMWARE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_number() {
        for (text, expected) in [
            ("42", Some(42)),
            ("42\n", Some(42)),
            ("", None),
            ("0", None),
            ("+42", None),
            ("4 2", None),
            ("i-42", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(id(text), expected, "{text}");
        }
    }

    #[test]
    fn the_firmware_of_another_machine_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let found = |vendor: &str, serial: &str| {
            fs::write(folder.path().join("sys_vendor"), vendor).unwrap();
            fs::write(folder.path().join("product_serial"), serial).unwrap();
            by_firmware(folder.path())
        };
        assert_eq!(found("Hetzner\n", "42\n"), Some(42));
        assert_eq!(found("QEMU\n", "42\n"), None);
        assert_eq!(found("Hetzner\n", "Not Specified\n"), None);
        fs::remove_file(folder.path().join("product_serial")).unwrap();
        assert_eq!(by_firmware(folder.path()), None, "as it is for all but root");
    }

    #[test]
    fn only_a_rehearsal_asks_a_stand_in() {
        // The variable is not set here: setting one is not safe beside other threads.
        assert_eq!(stand_in(&Uri::from_static("http://127.0.0.1:8080/v1")), None);
        assert!(
            by_service("http://127.0.0.1:1")
                .unwrap_err()
                .starts_with("the metadata service at http://127.0.0.1:1")
        );
    }
}
