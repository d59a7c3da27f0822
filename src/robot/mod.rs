//! Hetzner's Robot webservice: everything that is Robot's own.
//!
//! `answer` knows what comes back, `transport` how to get there; this file is the seam's other side.

mod answer;
mod proxy;
mod transport;

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ureq::http::{HeaderValue, Uri};

use crate::hoster::{Failure, Hoster};
use crate::options::{Login, Options};
use answer::Switch;

/// Where the API lives. Source: Robot webservice documentation, "URLs".
const BASE_URL: &str = "https://robot-ws.your-server.de";

/// One failover IP in one account.
pub struct Robot {
    url: Uri,
    login: Login,
    timeout: Duration,
    ssl_no_verify: bool,
}

impl Robot {
    pub fn new(options: &Options) -> Robot {
        let url = options.url.clone().unwrap_or_else(|| {
            // Digits, letters, points and colons: an IP address cannot make the URL invalid.
            format!("{BASE_URL}/failover/{}", options.ip).parse().expect("an IP address fits into a URL")
        });
        Robot {
            url,
            login: options.login.clone(),
            timeout: options.timeout,
            ssl_no_verify: options.ssl_no_verify,
        }
    }

    fn host(&self) -> &str {
        self.url.authority().map_or("", |authority| authority.as_str())
    }

    /// HTTP Basic auth, marked so that no library shows it.
    fn authorization(&self) -> HeaderValue {
        let login = [self.login.username.as_slice(), b":", &self.login.password].concat();
        let header = format!("Basic {}", BASE64.encode(login));
        let mut header = HeaderValue::try_from(header).expect("base64 is plain ASCII");
        header.set_sensitive(true);
        header
    }

    /// What may never stand in a log, should a foreign text hold it.
    fn secrets(&self) -> [String; 2] {
        let authorization = self.authorization();
        let base64 = authorization.to_str().unwrap_or_default().trim_start_matches("Basic ").to_string();
        [String::from_utf8_lossy(&self.login.password).into_owned(), base64]
    }
}

impl Hoster for Robot {
    fn describe(&self) -> String {
        let host = self.host();
        let seconds = self.timeout.as_secs_f64();
        let unverified = if self.ssl_no_verify { ", its TLS certificate is NOT verified" } else { "" };
        format!("POST to {host}, at most {seconds} s{unverified}")
    }

    fn route_to(&self, target: IpAddr) -> Result<String, Failure> {
        let agent = transport::agent(&self.url, self.timeout, self.ssl_no_verify)?;
        let response = agent
            .post(&self.url)
            .header("Authorization", self.authorization())
            .send_form([("active_server_ip", target.to_string())])
            .and_then(transport::read_answer)
            .map_err(|error| transport::failure(&error, self.host(), self.timeout))?;
        Switch { target, secrets: &self.secrets().each_ref().map(String::as_str) }.verdict(&response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn robot(argument: &str) -> Robot {
        let Ok(options) = Options::parse(argument.as_bytes()) else { panic!("{argument}") };
        Robot::new(&options)
    }

    #[test]
    fn builds_the_documented_url() {
        let v4 = robot("user=u,pass=p,ip=4.4.4.4,active_ip=1.1.1.1");
        assert_eq!(v4.url, "https://robot-ws.your-server.de/failover/4.4.4.4");
        let v6 = robot("user=u,pass=p,ip=2a01:4f8:fff1:0::,active_ip=2a01:4f8:0:5176::");
        assert_eq!(v6.url, "https://robot-ws.your-server.de/failover/2a01:4f8:fff1::");
        let own = robot("user=u,pass=p,ip=4.4.4.4,active_ip=1.1.1.1,url=http://[::1]:8080/x?y=z");
        assert_eq!(own.url, "http://[::1]:8080/x?y=z");
        assert_eq!(own.describe(), "POST to [::1]:8080, at most 60 s");
    }

    #[test]
    fn sends_the_login_as_it_is_and_shows_it_to_nobody() {
        let robot = robot("user=Aladdin,pass=open sesame,ip=4.4.4.4,active_ip=1.1.1.1,ssl_no_verify");
        let header = robot.authorization();
        // RFC 7617's own example.
        assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{header:?}"), "Sensitive");
        assert_eq!(robot.secrets(), ["open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]);
        assert!(robot.describe().ends_with("its TLS certificate is NOT verified"));
    }
}
