//! What holds for every answer. Checked with the random answers below, and by `make fuzz`.

use std::net::IpAddr;

use serde_json::Value;

use super::{Answer, Begun, Named, Progress, Reader};
use crate::hosters::{Failure, Kind, Stage};

/// Floating IPs.
const IPS: [&str; 2] = ["4.4.4.4", "2001:db8:1:2::"];
/// Their id, the server that they belong to, and the action that is asked about.
const ID: u64 = 7;
const ACTION: u64 = 13;

/// A token.
const SECRETS: [&str; 1] = ["hunter2"];

/// In characters: at most four foreign texts of 200, and the plugin's own words.
const LONGEST: usize = 1000;

/// Checks all that must hold for `answer`. Returns whether it is what a takeover hopes for, at one of its steps.
pub fn check(answer: &Answer) -> bool {
    IPS.iter().fold(false, |success, ip| {
        let ip = ip.parse().expect("an address");
        success | check_for(answer, ip)
    })
}

fn check_for(answer: &Answer, ip: IpAddr) -> bool {
    let reader = Reader { ip, secrets: &SECRETS };
    let value = serde_json::from_slice::<Value>(&answer.body).ok();
    let value = value.as_ref();

    let begun = reader.begun(answer);
    match &begun {
        Ok(Begun::Already) => {
            assert_eq!((answer.status, code(value)), (422, Some("floating_ip_assigned")));
        }
        Ok(Begun::Action(id, progress)) => {
            assert_eq!((answer.status, action(value)), (201, Some((*id, word(progress)))));
        }
        Err(failure) => check_failure(answer, value, failure),
    }
    let polled = reader.action(answer, ACTION);
    match &polled {
        Ok(progress) => assert_eq!((answer.status, action(value)), (200, Some((ACTION, word(progress))))),
        Err(failure) => check_failure(answer, value, failure),
    }
    let place = reader.place(answer, &Named::Id(ID));
    match &place {
        Ok(found) => {
            let said = value.expect("it was read").get("floating_ip").expect("it was read");
            assert_eq!((answer.status, found.id), (200, ID));
            assert_eq!(said["id"].as_u64(), Some(ID));
            assert!(has_address(said, ip), "another one's");
            assert_eq!(found.server, said["server"].as_u64());
            assert!(found.server.is_some() || said["server"].is_null(), "assigned to none");
            assert_eq!(found.is_blocked, said["blocked"] == true);
        }
        Err(failure) => check_failure(answer, value, failure),
    }
    let page = reader.page(answer, 1);
    match &page {
        Ok(page) => {
            let ips = value.expect("it was read")["floating_ips"].as_array().expect("it was read");
            let is_it = |one: &&Value, id| one["id"].as_u64() == Some(id) && has_address(one, ip);
            assert!(page.found.is_none_or(|found| ips.iter().any(|one| is_it(&one, found.id))));
            assert!(page.next.is_none_or(|next| next > 1), "it leads on");
        }
        Err(failure) => check_failure(answer, value, failure),
    }
    let by_name = reader.by_name(answer, &Named::Name("web".into()));
    if let Err(failure) = &by_name {
        check_failure(answer, value, failure);
    }
    let server = reader.server(answer, "web-1");
    match &server {
        Ok(id) => {
            let servers = value.expect("it was read")["servers"].as_array().expect("it was read");
            assert!(servers.iter().any(|one| one["id"].as_u64() == Some(*id) && one["name"] == "web-1"));
        }
        Err(failure) => check_failure(answer, value, failure),
    }
    if let Ok(Begun::Action(_, Progress::Error(why))) = &begun {
        check_text(why);
    }
    if let Ok(Progress::Error(why)) = &polled {
        check_text(why);
    }
    let is_progress = polled.as_ref().is_ok_and(|progress| *progress == Progress::Success);
    begun.is_ok()
        || is_progress
        || place.is_ok()
        || page.is_ok_and(|page| page.found.is_some())
        || server.is_ok()
}

fn word(progress: &Progress) -> &'static str {
    match progress {
        Progress::Running => "running",
        Progress::Success => "success",
        Progress::Error(_) => "error",
    }
}

/// The id of the action in the answer, and its status.
fn action(value: Option<&Value>) -> Option<(u64, &str)> {
    let action = value?.get("action")?.as_object()?;
    Some((action.get("id")?.as_u64()?, action.get("status")?.as_str()?))
}

fn code(value: Option<&Value>) -> Option<&str> {
    value?.get("error")?.as_object()?.get("code")?.as_str()
}

/// Whether that object has this address, as a whole or as a /64.
fn has_address(said: &Value, ip: IpAddr) -> bool {
    let text = said["ip"].as_str().unwrap_or_default();
    let net = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    };
    text.trim_end_matches("/64").parse().is_ok_and(|address: IpAddr| net(address) == net(ip))
}

/// As documented, whatever else is in the answer.
fn check_failure(answer: &Answer, value: Option<&Value>, failure: &Failure) {
    let Failure { kind, stage, sentence } = failure;
    check_text(sentence);
    let code = code(value).unwrap_or_default();
    match answer.status {
        300..=399 | 400 | 401 | 405 | 410 => assert_eq!(*kind, Kind::Final),
        429 => assert_eq!(*kind, Kind::NotSent),
        502 | 504 => assert_eq!(*kind, Kind::Unknown),
        _ => {}
    }
    assert!(
        *kind != Kind::Locked || (answer.status, code) == (423, "locked"),
        "it does not say that it is locked"
    );
    assert!(*kind != Kind::NotSent || answer.status == 429, "there was an answer");
    assert!(!matches!(kind, Kind::HeldBack | Kind::Refused), "no answer says so");
    assert_ne!(*stage, Stage::Way, "there was an answer");
    let is_login =
        answer.status == 401 || answer.status == 403 && matches!(code, "forbidden" | "token_readonly");
    // A code that is there twice is none.
    assert!(*stage != Stage::Login || is_login, "it does not say so");
    assert!(*stage == Stage::Login || answer.status != 401);
    assert!(*stage != Stage::Address || matches!(answer.status, 200 | 404 | 422), "{}", answer.status);
    // An answer without a code of the API says nothing of what was done, if its status does not.
    if code.is_empty() && !matches!(answer.status, 200 | 201 | 300..=405 | 410 | 429) {
        assert_eq!(*kind, Kind::Unknown);
    }
}

fn check_text(text: &str) {
    let plain = |c: char| c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ';
    assert!(text.chars().all(plain), "more than a line: {text:?}");
    assert!(text.chars().count() < LONGEST, "{} characters: {text}", text.chars().count());
    assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "a secret is shown: {text}");
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use serde_json::json;

    use super::*;
    use lab::random::{Case, mutate, one, rng};

    /// All that are documented.
    const ERRORS: [(u16, &str); 18] = [
        (400, "json_error"),
        (401, "unauthorized"),
        (401, "token_readonly"),
        (403, "forbidden"),
        (403, "maintenance"),
        (403, "resource_limit_exceeded"),
        (404, "not_found"),
        (409, "conflict"),
        (412, "resource_unavailable"),
        (422, "floating_ip_assigned"),
        (422, "invalid_input"),
        (422, "service_error"),
        (422, "unsupported_error"),
        (423, "locked"),
        (423, "protected"),
        (429, "rate_limit_exceeded"),
        (500, "server_error"),
        (503, "unavailable"),
    ];

    /// What answers are changed with, beside a line's end.
    const WORDS: &str = "\" { } [ ] , : null \\ \\u0068unter2 hunter2 \\n \\ud800 \u{202e} 42 7 13 4.4.4.4 2001:db8:1:2::/64 \
                         <html>hunter2</html> \"server\":42, \"status\":\"success\", \"id\":7, \
                         \"action\":{\"id\":13,\"status\":\"success\"}, \"code\":\"floating_ip_assigned\", 1e999";

    fn object(rng: &mut Rng) -> Value {
        let ip = one(rng, &["4.4.4.4", "2001:db8:1:2::/64", "2001:0DB8:1:2::", "5.5.5.5"]);
        json!({
            "id": one(rng, &[7, 7, 7, 8]), "name": "web", "ip": ip, "server": one(rng, &[Some(42), Some(43), None]),
            "blocked": rng.bool(), "home_location": { "network_zone": "eu-central" },
        })
    }

    /// An answer as documented.
    fn documented(rng: &mut Rng) -> (u16, Value) {
        match rng.u8(..5) {
            0 => {
                let (status, code) = one(rng, &ERRORS);
                let details =
                    [json!(null), json!({}), json!({"fields": [{"name": "server"}, {"name": "hunter2"}]})];
                let error = json!({"code": code, "message": "a message", "details": details[rng.usize(..3)]});
                (status, json!({ "error": error }))
            }
            1 => {
                let status = one(rng, &["running", "success", "error"]);
                let error = json!({"code": "action_failed", "message": "hunter2"});
                let error = if status == "error" { error } else { json!(null) };
                let action =
                    json!({"id": one(rng, &[13, 13, 14]), "status": status, "progress": 100, "error": error});
                (one(rng, &[200, 201]), json!({ "action": action }))
            }
            2 => {
                let ips: Vec<Value> = (0..rng.usize(..4)).map(|_| object(rng)).collect();
                let next = one(rng, &[None, Some(2)]);
                (200, json!({ "floating_ips": ips, "meta": { "pagination": { "next_page": next } } }))
            }
            3 => (200, json!({ "servers": [{"id": 41, "name": "web-12"}, {"id": 42, "name": "web-1"}] })),
            _ => (200, json!({ "floating_ip": object(rng) })),
        }
    }

    /// A value that nobody expects.
    fn odd(rng: &mut Rng) -> Value {
        match rng.u8(..14) {
            0 => json!(null),
            1 => json!(true),
            2 => json!(rng.u64(..)),
            3 => json!(-0.5),
            4 => json!([]),
            5 => json!({}),
            6 => json!(one(
                rng,
                &["4.4.4.4", "5.5.5.5", "2001:db8:1:2::/64", "4.4.4.4/64", "::ffff:4.4.4.4", "/64"]
            )),
            7 => json!(one(rng, &["success", "SUCCESS", "locked", "floating_ip_assigned"])),
            8 => json!(format!("{}{}", "x".repeat(rng.usize(150..250)), SECRETS[0]).repeat(rng.usize(1..20))),
            9 => json!(format!("a\n{}\r\u{1b}[31m\u{202e}", SECRETS[0])),
            10 => json!([SECRETS[0], "y".repeat(300), [null]]),
            // serde accepts it as an object, field by field.
            11 => json!([7, "4.4.4.4", 42]),
            12 => json!([13, "success"]),
            _ => json!({ "action": { "id": 13, "status": "success" } }),
        }
    }

    /// Changes the value itself, or one somewhere in it.
    fn distort(rng: &mut Rng, value: &mut Value) {
        match value {
            Value::Object(map) if !map.is_empty() && rng.u8(..8) != 0 => {
                let names: Vec<String> = map.keys().cloned().collect();
                let name = names[rng.usize(..names.len())].clone();
                match rng.u8(..8) {
                    0 => drop(map.remove(&name)),
                    1 => {
                        let moved = map.remove(&name).unwrap_or_default();
                        map.insert(
                            one(rng, &["ip", "server", "id", "status", "error", "action", ""]).into(),
                            moved,
                        );
                    }
                    2 => {
                        map.insert(one(rng, &["added_later", "message", "ip", "status"]).into(), odd(rng));
                    }
                    _ => distort(rng, &mut map[&name]),
                }
            }
            Value::Array(list) if !list.is_empty() && rng.bool() => {
                let at = rng.usize(..list.len());
                distort(rng, &mut list[at]);
            }
            _ if rng.u8(..8) == 0 => *value = json!([value.take()]),
            _ => *value = odd(rng),
        }
    }

    /// Objects, and what they have only once.
    const TWICE: [(&str, &str); 4] =
        [("action", "status"), ("action", "id"), ("floating_ip", "server"), ("error", "code")];

    #[test]
    fn a_documented_answer_means_what_it_says() {
        let mut rng = rng();
        for _ in 0..1_000 {
            let (status, mut value) = documented(&mut rng);
            let is_already = value["error"]["code"] == "floating_ip_assigned";
            let action =
                value["action"]["status"].as_str().filter(|_| status == 201 || value["action"]["id"] == 13);
            let is_one = IPS.iter().any(|ip| {
                let said = value["floating_ip"]["ip"].as_str().unwrap_or_default();
                let same = |text: &str| super::super::address(text.as_bytes());
                value["floating_ip"]["id"] == 7 && same(said).is_some() && same(said) == same(ip)
            });
            let begun = action.is_some_and(|action| status == 201 || action == "success");
            let in_list = value["floating_ips"]
                .as_array()
                .is_some_and(|list| list.iter().any(|one| one["ip"] != "5.5.5.5"));
            let expected = is_already || begun || is_one || in_list || value["servers"].is_array();
            if let Some(object) = value.as_object_mut() {
                object.insert("added_later".into(), odd(&mut rng));
            }
            let body = if rng.bool() { value.to_string() } else { format!("{value:#}\r\n") };
            let _case = Case(body.as_bytes());
            assert_eq!(check(&Answer { status, location: None, body: body.clone().into() }), expected);

            // An answer that says two things says nothing.
            for (outer, inner) in TWICE.into_iter().filter(|(outer, _)| value[outer].is_object()) {
                let at = body.find(&format!("\"{outer}\":")).expect("it is there");
                let within = at + body[at..].find('{').expect("an object") + 1;
                for (at, name) in [(at, outer), (within, inner)] {
                    let mut body = body.clone();
                    body.insert_str(at, &format!("\"{name}\":7,"));
                    let _case = Case(body.as_bytes());
                    assert!(
                        !check(&Answer { status, location: None, body: body.clone().into() }),
                        "{name} is named twice"
                    );
                }
            }
        }
    }

    #[test]
    fn a_distorted_answer_is_not_mistaken_for_a_success() {
        let mut rng = rng();
        let words: Vec<&str> = WORDS.split(' ').chain(["\n"]).collect();
        let (mut successes, all) = (0, 5_000);
        for _ in 0..all {
            let (mut status, mut value) = documented(&mut rng);
            for _ in 0..rng.usize(..3) {
                distort(&mut rng, &mut value);
            }
            let mut body = value.to_string().into_bytes();
            if rng.bool() {
                mutate(&mut rng, &mut body, &words);
            }
            if rng.u8(..4) == 0 {
                let any = rng.u16(..);
                status =
                    one(&mut rng, &[200, 200, 201, 204, 302, 400, 403, 422, 423, 429, 500, 502, 503, any]);
            }
            let location = rng.bool().then(|| String::from_utf8_lossy(&body).into_owned());
            let shown = [status.to_string().as_bytes(), b" ", &body].concat();
            let _case = Case(&shown);
            successes += usize::from(check(&Answer { status, location, body }));
        }
        assert!((all / 20..all * 3 / 5).contains(&successes), "{successes} of {all}: too few, or too many");
    }
}
