//! One session after another, against a host that answers from a list.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::*;
use crate::hosters::{About, Hoster, Remote, Shared, Surroundings};

const MINUTE: Duration = Duration::from_secs(60);
const TOKEN: &str = "hunter2";

/// A host, the requests that it has got, and a floating IP of a hook that asks there.
struct Host {
    remote: Arc<dyn Remote>,
    requests: Arc<Mutex<Vec<String>>>,
    metrics: &'static Metrics,
    /// Whether it goes on from [`STILL`].
    goes_on: Arc<AtomicBool>,
}

/// An answer, with its status; [`LOST`] closes the connection without one.
type Said<'a> = (u16, &'a str);

const LOST: Said = (0, "");

impl Host {
    /// With these answers, one after the other, and with more keys in the hook.
    fn new(more: &str, answers: &[Said]) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let goes_on = Arc::<AtomicBool>::default();
        let (noted, ended) = (Arc::clone(&requests), Arc::clone(&goes_on));
        let answers: Vec<(u16, String)> =
            answers.iter().map(|(status, body)| (*status, body.to_string())).collect();
        thread::spawn(move || {
            for (status, body) in answers {
                let is_still = (status, &*body) == STILL;
                loop {
                    let (stream, _) = listener.accept().unwrap();
                    let request = request(&stream);
                    // Before it is answered, or the test might be done first.
                    let mut noted = noted.lock().unwrap();
                    if noted.last() != Some(&request) || !is_still {
                        noted.push(request);
                    }
                    drop(noted);
                    answer(&stream, if is_still { 200 } else { status }, &body);
                    if !is_still || ended.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
            // What comes now is one too many, and is refused.
        });
        let shared: &'static Shared = Box::leak(Box::new(Shared::new()));
        let argument = format!("token={TOKEN},ip=4.4.4.4,url={url},{more}");
        let about: About = crate::hosters::cloud::Cloud::ABOUT;
        let mut read = (about.read)(argument.as_bytes(), &Surroundings { name: "", legion: None, shared });
        let remarks: Vec<String> = read.remarks.iter().map(ToString::to_string).collect();
        assert_eq!(remarks, [""; 0], "{argument}");
        Host { remote: read.ips.remove(0), requests, goes_on, metrics: Box::leak(Box::default()) }
    }

    fn session(&self) -> Box<dyn Session + '_> {
        self.remote.open(self.metrics).unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    fn bring_here(&self) -> Result<String, Failure> {
        self.session().bring_here(Need::Election, MINUTE, &|| (), &|| true)
    }

    fn whereabouts(&self) -> Result<Place, Failure> {
        self.session().whereabouts(Need::Check, MINUTE)
    }

    #[track_caller]
    fn asked(&self, expected: &[&str]) {
        assert_eq!(*self.requests.lock().unwrap(), expected);
    }
}

/// What is asked: the first line without the version, and the body.
fn request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_string()),
        }
    }
    assert!(
        head.iter().any(|line| line.eq_ignore_ascii_case(&format!("authorization: Bearer {TOKEN}"))),
        "{head:?}"
    );
    let value = |name: &str| {
        head.iter()
            .find_map(|line| line.to_lowercase().strip_prefix(name).map(|value| value.trim().to_string()))
    };
    let length = value("content-length:").map_or(0, |length| length.parse().unwrap());
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent).unwrap();
    if length > 0 {
        assert_eq!(value("content-type:").as_deref(), Some("application/json"));
    }
    let line = head[0].trim_end_matches(" HTTP/1.1").to_string();
    if length > 0 { format!("{line} {}", String::from_utf8(sent).unwrap()) } else { line }
}

fn answer(mut stream: &TcpStream, status: u16, body: &str) {
    if status > 0 {
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    }
}

const HERE: Said = (200, r#"{"floating_ip":{"id":7,"ip":"4.4.4.4","server":42,"blocked":false}}"#);
const ELSEWHERE: Said = (200, r#"{"floating_ip":{"id":7,"ip":"4.4.4.4","server":43,"blocked":true}}"#);
const NOWHERE: Said = (200, r#"{"floating_ip":{"id":7,"ip":"4.4.4.4","server":null}}"#);
const DONE_AT_ONCE: Said = (201, r#"{"action":{"id":13,"status":"success","error":null}}"#);
const BEGUN: Said = (201, r#"{"action":{"id":13,"status":"running","error":null}}"#);
const RUNNING: Said = (200, r#"{"action":{"id":13,"status":"running","error":null}}"#);
/// As often as it is asked, up to the first time after `goes_on`.
const STILL: Said = (299, RUNNING.1);
const DONE: Said = (200, r#"{"action":{"id":13,"status":"success","error":null}}"#);
const FAILED: Said = (200, r#"{"action":{"id":13,"status":"error","error":{"code":"x","message":"m"}}}"#);
const LOCKED: Said = (423, r#"{"error":{"code":"locked","message":"m"}}"#);

const GET: &str = "GET /v1/floating_ips/7";
const LIST: &str = "GET /v1/floating_ips?page=1&per_page=50";
const POST: &str = r#"POST /v1/floating_ips/7/actions/assign {"server":42}"#;
const POLL: &str = "GET /v1/actions/13";
/// A hook where neither is to be found first.
const IDS: &str = "server=42,floating_ip=7";

/// Its id is known by now.
fn known(more: &str, answers: &[Said]) -> Host {
    let host = Host::new(&format!("{IDS},{more}"), &[&[ELSEWHERE], answers].concat());
    assert_eq!(host.whereabouts(), Ok(Place::Elsewhere("43".into())));
    host.requests.lock().unwrap().clear();
    host
}

#[test]
fn an_action_that_succeeds_at_once_is_one_post_and_one_get() {
    let host = known("", &[DONE_AT_ONCE, HERE]);
    assert_eq!(host.bring_here(), Ok("HTTP 201, action 13 succeeded".into()));
    host.asked(&[POST, GET]);
}

#[test]
fn the_first_takeover_takes_one_get_more_to_know_that_the_id_is_the_address() {
    let list = (
        200,
        r#"{"floating_ips":[{"id":7,"ip":"4.4.4.4","server":43}],"meta":{"pagination":{"next_page":null}}}"#,
    );
    for (more, first, path) in [
        ("server=42", list, LIST),
        ("server=42,floating_ip=7", ELSEWHERE, GET),
        ("server=42,floating_ip=a b", list, "GET /v1/floating_ips?name=a%20b"),
    ] {
        let host = Host::new(more, &[first, DONE_AT_ONCE, HERE]);
        assert!(host.bring_here().is_ok());
        host.asked(&[path, POST, GET]);
    }
    // Another address: nothing is moved.
    let host = Host::new("server=42,floating_ip=7", &[(200, &HERE.1.replace("4.4.4.4", "5.5.5.5"))]);
    let failure = host.bring_here().unwrap_err();
    assert_eq!((failure.kind, failure.stage), (Kind::Final, Stage::Address));
    host.asked(&[GET]);
}

#[test]
fn the_list_is_read_to_its_end_and_the_server_found_by_its_name() {
    let page = |next: &str| {
        format!(
            r#"{{"floating_ips":[{{"id":1,"ip":"5.5.5.5","server":1}}],"meta":{{"pagination":{{"next_page":{next}}}}}}}"#
        )
    };
    let servers = r#"{"servers":[{"id":42,"name":"web-1"}]}"#;
    let last = r#"{"floating_ips":[{"id":7,"ip":"4.4.4.4","server":42}],"meta":{}}"#;
    let host = Host::new("server=web-1", &[(200, servers), (200, &page("2")), (200, last), HERE]);
    assert_eq!(host.whereabouts(), Ok(Place::Here("web-1".into())));
    assert_eq!(host.whereabouts(), Ok(Place::Here("web-1".into())));
    host.asked(&["GET /v1/servers?name=web-1", LIST, "GET /v1/floating_ips?page=2&per_page=50", GET]);

    let host = Host::new("server=42", &[(200, &page("null"))]);
    let failure = host.whereabouts().unwrap_err();
    assert_eq!((failure.kind, failure.stage), (Kind::Final, Stage::Address));
    assert!(
        failure.sentence.contains("the token's Project has no floating IP 4.4.4.4"),
        "{}",
        failure.sentence
    );
}

#[test]
fn an_action_that_takes_its_time_is_watched_to_its_end() {
    let host = known("", &[BEGUN, RUNNING, (503, ""), DONE, HERE]);
    assert_eq!(host.bring_here(), Ok("HTTP 201, action 13 succeeded".into()));
    host.asked(&[POST, POLL, POLL, POLL, GET]);

    let host = known("", &[BEGUN, FAILED, ELSEWHERE]);
    let failure = host.bring_here().unwrap_err();
    assert_eq!((failure.kind, &*failure.sentence), (Kind::NotDone, "action 13 failed: x \"m\""));
    assert_eq!(host.whereabouts(), Ok(Place::Elsewhere("43".into())), "nothing is pending");
    host.asked(&[POST, POLL, GET]);
}

#[test]
fn a_success_that_the_check_does_not_confirm_is_none() {
    let host = known("", &[DONE_AT_ONCE, ELSEWHERE]);
    let failure = host.bring_here().unwrap_err();
    assert_eq!(failure.kind, Kind::NotDone);
    assert_eq!(failure.sentence, "HTTP 201, action 13 succeeded, but it is routed to server 43");

    let host = known("", &[DONE_AT_ONCE, (502, "")]);
    assert_eq!(host.bring_here().unwrap_err().kind, Kind::Unknown);
}

#[test]
fn here_is_no_knowledge_while_an_action_of_this_node_runs() {
    let host = known("timeout=5", &[BEGUN, STILL, LOCKED, RUNNING, DONE, HERE]);
    let failure = host.bring_here().unwrap_err();
    assert_eq!(failure.kind, Kind::Unknown);
    assert!(failure.sentence.starts_with("action 13 is still running after "), "{}", failure.sentence);
    let running = |failure: Failure| {
        assert_eq!(failure.kind, Kind::Unknown);
        assert_eq!(failure.sentence, "action 13 of this node is still running");
    };
    host.goes_on.store(true, Ordering::Relaxed);
    running(host.whereabouts().unwrap_err());
    // Another request begins nothing, and forgets nothing.
    assert_eq!(host.bring_here().unwrap_err().kind, Kind::Locked);
    running(host.whereabouts().unwrap_err());
    assert_eq!(host.whereabouts(), Ok(Place::Here("42".into())));
    host.asked(&[POST, POLL, POST, POLL, POLL, GET]);
}

#[test]
fn an_action_that_has_failed_later_is_told_once() {
    let host = known("timeout=5", &[BEGUN, STILL, FAILED, ELSEWHERE]);
    assert_eq!(host.bring_here().unwrap_err().kind, Kind::Unknown);
    host.goes_on.store(true, Ordering::Relaxed);
    assert_eq!(host.whereabouts().unwrap_err().sentence, "action 13 of this node is still running");
    assert_eq!(host.whereabouts().unwrap_err().sentence, "action 13 failed: x \"m\"");
    assert_eq!(host.whereabouts(), Ok(Place::Elsewhere("43".into())));
}

#[test]
fn after_a_lost_answer_here_is_no_knowledge_for_a_while() {
    let host = known("", &[LOST, HERE, ELSEWHERE]);
    let failure = host.bring_here().unwrap_err();
    assert_eq!((failure.kind, failure.stage), (Kind::Unknown, Stage::Host));
    assert_eq!(host.whereabouts().unwrap_err().kind, Kind::Unknown);
    assert_eq!(host.whereabouts(), Ok(Place::Elsewhere("43".into())), "that is knowledge at any time");
}

#[test]
fn assigned_already_is_what_the_check_says() {
    let already = (422, r#"{"error":{"code":"floating_ip_assigned","message":"m"}}"#);
    let host = known("", &[already, HERE, already, ELSEWHERE]);
    assert_eq!(host.bring_here(), Ok("HTTP 422 floating_ip_assigned".into()));
    assert_eq!(host.bring_here().unwrap_err().kind, Kind::NotDone);
    host.asked(&[POST, GET, POST, GET]);
}

/// However often it is said: nothing is counted, and the takeover asks again soon.
#[test]
fn too_many_requests_are_no_try() {
    let limit = (429, r#"{"error":{"code":"rate_limit_exceeded","message":"m"}}"#);
    let host = known("", &[limit; 8]);
    for _ in 0..8 {
        let failure = host.session().bring_here(Need::Takeover, MINUTE, &|| (), &|| true).unwrap_err();
        assert_eq!((failure.kind, failure.stage), (Kind::NotSent, Stage::Host), "{}", failure.sentence);
    }
    assert_eq!(host.remote.held_back_for(Request::Switch, Need::Takeover), None);
}

#[test]
fn what_cannot_be_found_out_first_has_asked_for_nothing() {
    let host = Host::new(
        IDS,
        &[(503, r#"{"error":{"code":"unavailable","message":"m"}}"#), ELSEWHERE, DONE_AT_ONCE, HERE],
    );
    let begun = std::cell::Cell::new(0);
    let bring_here =
        || host.session().bring_here(Need::Election, MINUTE, &|| begun.set(begun.get() + 1), &|| true);
    assert_eq!(bring_here().unwrap_err().kind, Kind::NotSent);
    assert_eq!(begun.get(), 0, "nothing was logged");
    assert!(bring_here().is_ok());
    assert_eq!(begun.get(), 1);
}

#[test]
fn what_is_gone_is_looked_for_again() {
    let gone = (404, r#"{"error":{"code":"not_found","message":"hunter2"}}"#);
    let list = r#"{"floating_ips":[{"id":8,"ip":"4.4.4.4","server":42}],"meta":{}}"#;
    let first = list.replace("8", "7");
    let host = Host::new("server=42", &[(200, &first), gone, (200, list)]);
    assert_eq!(host.whereabouts(), Ok(Place::Here("42".into())));
    let failure = host.whereabouts().unwrap_err();
    assert_eq!(failure.kind, Kind::Final);
    assert!(!failure.sentence.contains(TOKEN), "{}", failure.sentence);
    assert!(host.whereabouts().is_ok());
    host.asked(&[LIST, GET, LIST]);

    // Or when it is to be assigned: perhaps it is the server that has gone.
    let servers = r#"{"servers":[{"id":42,"name":"web-1"}]}"#;
    let answers = [(200, servers), (200, &first), gone, (200, servers), (200, list)];
    let host = Host::new("server=web-1", &answers);
    assert_eq!(host.bring_here().unwrap_err().kind, Kind::Final);
    assert!(host.whereabouts().is_ok());
    host.asked(&["GET /v1/servers?name=web-1", LIST, POST, "GET /v1/servers?name=web-1", LIST]);
}

#[test]
fn a_release_unassigns_and_says_where_it_is_then() {
    let host = known("", &[BEGUN, DONE, NOWHERE]);
    assert_eq!(host.session().release(MINUTE), Ok(Place::Nowhere));
    host.asked(&["POST /v1/floating_ips/7/actions/unassign {}", POLL, GET]);
}

#[test]
fn what_hetzner_has_blocked_is_said_until_it_is_not() {
    let host = known("", &[HERE]);
    assert!(host.remote.trouble().expect("it was blocked").contains("blocked"));
    assert!(host.whereabouts().is_ok());
    assert_eq!(host.remote.trouble(), None);
}

#[test]
fn says_whom_it_asks_for_how_long() {
    let shared: &'static Shared = Box::leak(Box::new(Shared::new()));
    let about: About = crate::hosters::cloud::Cloud::ABOUT;
    for (more, expected) in [
        ("", "POST to api.hetzner.cloud, at most 30 s"),
        (",ssl_no_verify", "POST to api.hetzner.cloud, at most 30 s, its TLS certificate is NOT verified"),
        (",url=http://[::1]:8080/v1/,timeout=1.5", "POST to [::1]:8080, at most 1.5 s"),
    ] {
        let argument = format!("token={TOKEN},ip=4.4.4.4,server=42{more}");
        let read = (about.read)(argument.as_bytes(), &Surroundings { name: "", legion: None, shared });
        let session = read.ips[0].open(Box::leak(Box::default()));
        let session = session.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!((session.describe().as_str(), session.target()), (expected, "server 42"));
    }
}

#[test]
fn a_name_is_encoded_for_a_url() {
    assert_eq!(encoded("web-1.x_~"), "web-1.x_~");
    assert_eq!(encoded("a b&c=ü/"), "a%20b%26c%3D%C3%BC%2F");
}
