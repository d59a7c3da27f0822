//! Single answers: what each means, and its sentence.

use super::*;
use crate::hosters::Kind::{Final, Locked, NotDone, NotSent, Unknown};
use crate::hosters::Stage::{Address, Host, Login};

const READER: Reader<'_> =
    Reader { ip: IpAddr::V4(std::net::Ipv4Addr::new(4, 4, 4, 4)), secrets: &["hunter2"] };
const SEVEN: Named = Named::Id(7);

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, location: None, body: body.into() }
}

fn error(code: &str) -> String {
    format!(r#"{{"error":{{"code":"{code}","message":"a message","details":{{}}}}}}"#)
}

fn action(status: &str) -> String {
    format!(
        r#"{{"action":{{"id":13,"command":"assign_floating_ip","status":{status},"progress":0,"started":"2016-01-30T23:50:00Z",
        "finished":null,"resources":[{{"id":42,"type":"server"}}],"error":null,"added_later":[{{}}]}}}}"#
    )
}

fn floating_ip(server: &str) -> String {
    format!(
        r#"{{"floating_ip":{{"id":7,"name":"web","description":null,"ip":"4.4.4.4","type":"ipv4","server":{server},"dns_ptr":[],
        "home_location":{{"id":1,"name":"fsn1","network_zone":"eu-central"}},"blocked":false,"protection":{{"delete":false}},
        "labels":{{}},"created":"2016-01-30T23:55:00+00:00","added_later":[{{}}]}}}}"#
    )
}

const HERE: Found = Found { id: 7, server: Some(42), is_blocked: false };

#[test]
fn a_success_is_what_the_documentation_says() {
    let begun = |status| READER.begun(&answer(201, &action(status)));
    assert_eq!(begun("\"running\""), Ok(Begun::Action(13, Progress::Running)));
    assert_eq!(begun("\"success\""), Ok(Begun::Action(13, Progress::Success)));
    assert_eq!(READER.begun(&answer(422, &error("floating_ip_assigned"))), Ok(Begun::Already));
    let polled = |status| READER.action(&answer(200, &action(status)), 13);
    assert_eq!(polled("\"running\""), Ok(Progress::Running));
    assert_eq!(polled("\"success\""), Ok(Progress::Success));
    let error =
        action("\"error\"").replace("null,\"added", r#"{"code":"server_gone","message":"hunter2"},"added"#);
    let expected = Progress::Error("server_gone \"***\"".into());
    assert_eq!(READER.action(&answer(200, &error), 13), Ok(expected));
    assert_eq!(polled("\"error\""), Ok(Progress::Error(" \"\"".into())), "without a reason");

    let place = |server| READER.place(&answer(200, &floating_ip(server)), &SEVEN);
    assert_eq!(place("42"), Ok(HERE));
    assert_eq!(place("null"), Ok(Found { server: None, ..HERE }));
    let blocked = floating_ip("42").replace("\"blocked\":false", "\"blocked\":true");
    assert_eq!(READER.place(&answer(200, &blocked), &SEVEN), Ok(Found { is_blocked: true, ..HERE }));
    let least = r#"{"floating_ip":{"id":7,"ip":"4.4.4.4","server":42}}"#;
    assert_eq!(READER.place(&answer(200, least), &SEVEN), Ok(HERE));
}

#[test]
fn an_ipv6_one_is_its_net() {
    let reader = Reader { ip: "2001:db8:1:2::".parse().unwrap(), secrets: &[] };
    for text in ["2001:db8:1:2::/64", "2001:db8:1:2::", "2001:0DB8:1:2::1"] {
        let body = floating_ip("42").replace("4.4.4.4", text);
        assert_eq!(reader.place(&answer(200, &body), &SEVEN), Ok(HERE), "{text}");
    }
    let other = floating_ip("42").replace("4.4.4.4", "2001:db8:1:3::/64");
    let failure = reader.place(&answer(200, &other), &SEVEN).unwrap_err();
    assert!(
        failure
            .sentence
            .ends_with("floating IP 7 is 2001:db8:1:3::, not 2001:db8:1:2::: check floating_ip and ip")
    );
}

fn list(ips: &str, next: &str) -> String {
    format!(
        r#"{{"floating_ips":[{ips}],"meta":{{"pagination":{{"page":1,"next_page":{next},"last_page":4}}}}}}"#
    )
}

const FIVE: &str = r#"{"id":5,"ip":"5.5.5.5","server":null}"#;
const FOUR: &str = r#"{"id":7,"ip":"4.4.4.4","server":42}"#;

#[test]
fn a_page_has_it_or_leads_on() {
    let page = |ips: &str, next| READER.page(&answer(200, &list(ips, next)), 1);
    assert_eq!(page(&format!("{FIVE},{FOUR}"), "2"), Ok(Page { found: Some(HERE), next: Some(2) }));
    assert_eq!(page(FIVE, "2"), Ok(Page { found: None, next: Some(2) }));
    for end in ["null", "1", "0", "-1", "\"2\"", "{}"] {
        assert_eq!(page("", end), Ok(Page { found: None, next: None }), "{end}");
    }
    // Another one's address that nobody understands is no reason to stop.
    let odd = r#"{"id":9,"ip":"later","server":null}"#;
    assert_eq!(page(&format!("{odd},{FOUR}"), "null"), Ok(Page { found: Some(HERE), next: None }));
    let without_meta = format!(r#"{{"floating_ips":[{FOUR}]}}"#);
    assert_eq!(READER.page(&answer(200, &without_meta), 1), Ok(Page { found: Some(HERE), next: None }));
}

#[test]
fn a_name_is_that_of_one() {
    let web = Named::Name("web".into());
    let by_name = |ips: &str| READER.by_name(&answer(200, &list(ips, "null")), &web);
    assert_eq!(by_name(FOUR), Ok(HERE));
    for (ips, end) in [
        ("", "no floating IP web: check floating_ip and token"),
        (FIVE, "floating IP web is 5.5.5.5, not 4.4.4.4: check floating_ip and ip"),
    ] {
        let failure = by_name(ips).unwrap_err();
        assert_eq!((failure.kind, failure.stage), (Final, Address));
        assert!(failure.sentence.ends_with(end), "{}", failure.sentence);
    }
    let servers = r#"{"servers":[{"id":41,"name":"web-12"},{"id":42,"name":"web-1"}]}"#;
    assert_eq!(READER.server(&answer(200, servers), "web-1"), Ok(42));
    let failure = READER.server(&answer(200, servers), "web").unwrap_err();
    assert_eq!((failure.kind, failure.stage), (Final, Address));
    assert!(failure.sentence.ends_with("has no server web: check server and token"));
}

/// What a takeover may be answered at each of its requests. Each has its meaning and its sentence.
#[test]
fn every_bad_answer_has_its_meaning_and_its_sentence() {
    const M: &str = " \"a message\"";
    const REDIRECT: &str = "HTTP 302, a redirect to nowhere: not followed, because the login is only for the configured host; \
                            check url";
    let of = |status, code: &str, kind, stage, said: &str| {
        (status, error(code), kind, stage, format!("HTTP {status} {code}{M}: {said}"))
    };
    let plain = |status, body: &str, kind, stage, said: &str| {
        (status, body.to_string(), kind, stage, format!("HTTP {status} {said}"))
    };
    let read_only = "the token may only read: it needs the permission Read & Write";
    let rejected = "the token was rejected: check token";
    let gone = "the token's Project has no such floating IP or server: check floating_ip, server and token";
    let used_up = "the Project's requests are used up, by whatever uses its tokens; nothing was done";
    let lock = "another action on this IP or server is under way; its outcome is unknown";
    let protected = "it is protected or locked by Hetzner: see the Cloud Console";
    let request = "the API does not accept such a request: check url, or whether there is a newer version";
    let no_api = "this is not what the API says: check url";
    let odd = "not a documented answer";
    let html = "<html>hunter2</html>";
    let with_html = "with an HTML page (20 bytes)";
    let empty = "with an empty body";
    // Of any request.
    let any = [
        of(401, "unauthorized", Final, Login, rejected),
        of(401, "token_readonly", Final, Login, read_only),
        of(401, "later", Final, Login, rejected),
        plain(401, html, Final, Login, &format!("{with_html}: {rejected}")),
        plain(401, "", Final, Login, &format!("{empty}: {rejected}")),
        of(403, "token_readonly", Final, Login, read_only),
        of(403, "forbidden", Final, Login, "the token may not do this: check of which Project it is"),
        of(403, "resource_limit_exceeded", Final, Host, "a limit of the account is reached"),
        of(403, "maintenance", NotDone, Host, "maintenance"),
        of(403, "later", NotDone, Host, odd),
        plain(403, html, Unknown, Host, with_html),
        of(404, "not_found", Final, Address, gone),
        plain(404, html, Final, Host, &format!("{with_html}: there is no such API: check url")),
        plain(404, "", Final, Host, &format!("{empty}: there is no such API: check url")),
        of(404, "later", NotDone, Host, odd),
        of(409, "conflict", NotDone, Host, "something else was changed at the same time"),
        of(409, "uniqueness_error", NotDone, Host, odd),
        plain(409, "", Unknown, Host, empty),
        of(412, "resource_unavailable", NotDone, Host, "not possible for now"),
        of(422, "service_error", NotDone, Host, "a part of the API has failed"),
        of(422, "invalid_input", Final, Address, "check floating_ip and server"),
        of(422, "unsupported_error", Final, Address, "this server cannot have this floating IP"),
        of(422, "later", Final, Host, request),
        plain(422, html, Unknown, Host, with_html),
        of(423, "locked", Locked, Host, lock),
        of(423, "protected", Final, Host, protected),
        of(423, "resource_locked", Final, Host, protected),
        of(423, "later", NotDone, Host, odd),
        plain(423, "", Unknown, Host, empty),
        of(429, "rate_limit_exceeded", NotSent, Host, used_up),
        plain(429, html, NotSent, Host, &format!("{with_html}: {used_up}")),
        plain(429, "", NotSent, Host, &format!("{empty}: {used_up}")),
        of(400, "json_error", Final, Host, request),
        of(405, "method_not_allowed", Final, Host, request),
        of(410, "deprecated_api_endpoint", Final, Host, request),
        plain(400, html, Final, Host, &format!("{with_html}: {no_api}")),
        plain(405, "", Final, Host, &format!("{empty}: {no_api}")),
        plain(410, "", Final, Host, &format!("{empty}: {no_api}")),
        of(418, "teapot", NotDone, Host, odd),
        of(500, "server_error", NotDone, Host, "the API has failed"),
        plain(500, html, Unknown, Host, with_html),
        plain(500, "", Unknown, Host, empty),
        plain(502, html, Unknown, Host, with_html),
        (502, error("later"), Unknown, Host, format!("HTTP 502 later{M}")),
        of(503, "unavailable", NotDone, Host, "the API is not available for now"),
        plain(503, html, Unknown, Host, with_html),
        plain(504, "", Unknown, Host, empty),
        (504, error("timeout"), Unknown, Host, format!("HTTP 504 timeout{M}")),
        (302, String::new(), Final, Host, REDIRECT.to_string()),
        (302, floating_ip("42"), Final, Host, REDIRECT.to_string()),
        plain(204, "", Unknown, Host, empty),
        plain(202, html, Unknown, Host, with_html),
        plain(100, "", Unknown, Host, empty),
        (200, error("conflict"), Unknown, Host, String::new()),
        (
            500,
            r#"{"error":{"code":"","message":"m"}}"#.into(),
            Unknown,
            Host,
            "HTTP 500 with other JSON (35 bytes)".into(),
        ),
        (500, r#"{"error":["locked"]}"#.into(), Unknown, Host, "HTTP 500 with other JSON (20 bytes)".into()),
        (
            423,
            r#"{"error":{"code":["locked"]}}"#.into(),
            Unknown,
            Host,
            "HTTP 423 with other JSON (29 bytes)".into(),
        ),
        (
            423,
            r#"{"error":{"code":"locked","code":"locked"}}"#.into(),
            Unknown,
            Host,
            "HTTP 423 with other JSON (43 bytes)".into(),
        ),
        (
            423,
            r#"{"error":{"code":"locked""#.into(),
            Unknown,
            Host,
            "HTTP 423 with truncated or broken JSON (25 bytes)".into(),
        ),
        (423, "locked".into(), Unknown, Host, "HTTP 423 with text that is not JSON (6 bytes)".into()),
        (
            423,
            r#"{"error":{"code":"locked","message":["m"]}}"#.into(),
            Locked,
            Host,
            format!("HTTP 423 locked \"\": {lock}"),
        ),
    ];
    let mut count = 0;
    for (status, body, kind, stage, sentence) in &any {
        let answer = answer(*status, body);
        let begun = READER.begun(&answer).map(|_| ());
        let polled = READER.action(&answer, 13).map(|_| ());
        let place = READER.place(&answer, &SEVEN).map(|_| ());
        for (what, result) in [("begun", begun), ("polled", polled), ("place", place)] {
            let failure = result.expect_err(body);
            assert_eq!((failure.kind, failure.stage), (*kind, *stage), "{what}: {status} {body}");
            assert!(sentence.is_empty() || failure.sentence == *sentence, "{what}: {}", failure.sentence);
            assert!(!failure.sentence.contains("hunter2"));
        }
        count += 1;
    }
    // Of one of them: the right status, but not what it should be.
    let begun = |body: &str| READER.begun(&answer(201, body)).map(|_| ());
    let polled = |body: &str| READER.action(&answer(200, body), 13).map(|_| ());
    let place = |body: &str| READER.place(&answer(200, body), &SEVEN).map(|_| ());
    let page = |body: &str| READER.page(&answer(200, body), 1).map(|_| ());
    let no_action = "no action in it";
    let no_ip = "no floating_ip with id, ip and server in it";
    let no_list = "no list of floating_ips with id, ip and server in it";
    let another = "floating IP 7 is floating IP 8, not 4.4.4.4: check floating_ip and ip";
    for (result, kind, end) in [
        (begun(""), Unknown, "HTTP 201 with an empty body: no action in it"),
        (begun("<html>hunter2</html>"), Unknown, no_action),
        (begun("{}"), Unknown, no_action),
        (begun(r#"{"action":null}"#), Unknown, no_action),
        (begun(r#"{"action":[13,"success",null]}"#), Unknown, no_action),
        (begun(r#"{"action":{"id":13}}"#), Unknown, no_action),
        (begun(r#"{"action":{"status":"success"}}"#), Unknown, no_action),
        (begun(&action("\"success\"").replace("13", "\"13\"")), Unknown, no_action),
        (begun(&action("\"success\"").replace("13", "-13")), Unknown, no_action),
        (begun(&action("\"success\",\"status\":\"running\"")), Unknown, no_action),
        (begun(&action("null")), Unknown, no_action),
        (begun(&action("\"SUCCESS\"")), Unknown, "HTTP 201, but the action's status is \"SUCCESS\""),
        (begun(&action("\"hunter2\"")), Unknown, "HTTP 201, but the action's status is \"***\""),
        (begun(&action("\"success\"")[..200]), Unknown, no_action),
        (
            polled(&action("\"success\"").replace("13", "14")),
            Unknown,
            "HTTP 200, but the answer is about action 14, not 13",
        ),
        (polled(&action("\"\"")), Unknown, "HTTP 200, but the action's status is \"\""),
        (polled(&floating_ip("42")), Unknown, no_action),
        (place(""), Unknown, no_ip),
        (place(&action("\"success\"")), Unknown, no_ip),
        (place(r#"{"floating_ip":null}"#), Unknown, no_ip),
        (place(r#"{"floating_ip":[7,"4.4.4.4",42]}"#), Unknown, no_ip),
        (place(r#"{"floating_ip":{"id":7,"ip":"4.4.4.4"}}"#), Unknown, no_ip),
        (place(r#"{"floating_ip":{"id":7,"server":42}}"#), Unknown, no_ip),
        (place(r#"{"floating_ip":{"ip":"4.4.4.4","server":42}}"#), Unknown, no_ip),
        (place(&floating_ip("\"42\"")), Unknown, no_ip),
        (place(&floating_ip("{\"id\":42}")), Unknown, no_ip),
        (place(&floating_ip("42,\"server\":43")), Unknown, no_ip),
        (place(&floating_ip("-42")), Unknown, no_ip),
        (place(&floating_ip("4.2e1")), Unknown, no_ip),
        (
            place(&floating_ip("42").replace("4.4.4.4", "hunter2")),
            Unknown,
            "HTTP 200, but ip is \"***\", not an IP address",
        ),
        (
            place(&floating_ip("42").replace("4.4.4.4", "4.4.4.4/32")),
            Unknown,
            "\"4.4.4.4/32\", not an IP address",
        ),
        (
            place(&floating_ip("42").replace("4.4.4.4", "5.5.5.5")),
            Final,
            "floating IP 7 is 5.5.5.5, not 4.4.4.4: check floating_ip and ip",
        ),
        (place(&floating_ip("42").replace("\"id\":7", "\"id\":8")), Final, another),
        (page("{}"), Unknown, no_list),
        (page(r#"{"floating_ips":{}}"#), Unknown, no_list),
        (page(r#"{"floating_ips":[[7,"4.4.4.4",42]]}"#), Unknown, no_list),
        (page(r#"{"floating_ips":[{"id":7}]}"#), Unknown, no_list),
        (page(&floating_ip("42")), Unknown, no_list),
    ] {
        let failure = result.expect_err(end);
        assert_eq!(failure.kind, kind, "{end}");
        assert_eq!(failure.stage, if kind == Final { Address } else { Host }, "{end}");
        assert!(failure.sentence.ends_with(end), "{}", failure.sentence);
        count += 1;
    }
    assert!(count >= 80, "{count}");
}

#[test]
fn the_fields_that_the_api_finds_fault_with_are_named() {
    let body = r#"{"error":{"code":"invalid_input","message":"m",
        "details":{"fields":[{"name":"server","messages":["hunter2"]},{"name":7},{"name":"hunter2"}]}}}"#;
    let failure = READER.begun(&answer(422, body)).unwrap_err();
    let expected = "HTTP 422 invalid_input \"m\" (fields: server, ***): check floating_ip and server";
    assert_eq!(failure.sentence, expected);
}

#[test]
fn assigned_already_is_no_answer_to_a_question() {
    let answer = answer(422, &error("floating_ip_assigned"));
    assert_eq!(READER.place(&answer, &SEVEN).unwrap_err().kind, Final);
    assert_eq!(READER.action(&answer, 13).unwrap_err().kind, Final);
}

#[test]
fn a_redirect_is_named_and_not_followed() {
    let location = Some("http://other/?t=hunter2".to_string());
    let failure = READER.begun(&Answer { status: 307, location, body: vec![] }).unwrap_err();
    assert_eq!((failure.kind, failure.stage), (Final, Host));
    assert!(failure.sentence.starts_with("HTTP 307, a redirect to http://other/?t=***: not followed"));
}

#[test]
fn a_long_message_is_cut() {
    let body = error("conflict").replace("a message", &"y".repeat(500));
    let sentence = READER.begun(&answer(409, &body)).unwrap_err().sentence;
    assert!(sentence.contains(&format!("\"{}\"", "y".repeat(200))), "{sentence}");
}
