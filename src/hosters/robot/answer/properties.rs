//! What holds for every answer. Checked with the random answers below, and by `make fuzz`.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::{Answer, Reader, rate_limited_for};
use crate::hosters::{Failure, Kind, Stage};

/// Failover IPs, and the target of each.
const SWITCHES: [(&str, &str); 2] = [("4.4.4.4", "1.1.1.1"), ("2a01:4f8:fff1::", "2a01:4f8:0:5176::")];

/// A password, and in base64 the login of FOO with it.
const SECRETS: [&str; 2] = ["hunter2", "Rk9POmh1bnRlcjI="];

/// In characters: at most four foreign texts of 200, and the plugin's own words.
const LONGEST: usize = 1000;

/// Checks all that must hold for `answer`. Returns whether it is a success for one of the switches.
pub fn check(answer: &Answer) -> bool {
    check_rate_limit(answer);
    SWITCHES.iter().fold(false, |success, (ip, target)| {
        let (ip, target) = (parse(ip), parse(target));
        success | check_for(answer, ip, target)
    })
}

fn parse(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

fn check_for(answer: &Answer, ip: IpAddr, target: IpAddr) -> bool {
    let reader = Reader { ip, secrets: &SECRETS };
    let (switched, route) = (reader.switched(answer, target), reader.route(answer));
    let said = said(answer, ip);
    if let Ok(route) = route {
        assert_eq!(Some(route), said, "a route that is not in the answer");
    }
    if switched.is_ok() {
        assert!(is_success(answer, said, target), "not a success");
    }
    check_texts(&switched);
    check_texts(&route);
    if let Err(failure) = &route {
        check_kind(answer, failure.kind);
        check_stage(answer, failure.stage);
    }

    // If a name is given twice, serde_json uses the last value, while the plugin refuses both. Printed again, it is there once.
    let Some(value) = json(answer) else { return switched.is_ok() };
    let plain = Answer { body: value.to_string().into_bytes(), location: answer.location.clone(), ..*answer };
    let said = self::said(&plain, ip);
    assert_eq!(reader.route(&plain).ok(), said, "routed where the answer says");
    assert_eq!(reader.switched(&plain, target).is_ok(), is_success(&plain, said, target), "success or not");
    switched.is_ok()
}

fn json(answer: &Answer) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok()
}

/// Where a 200 says that `ip` is routed.
fn said(answer: &Answer, ip: IpAddr) -> Option<Option<IpAddr>> {
    let value = json(answer).filter(|_| answer.status == 200)?;
    let failover = value.get("failover")?.as_object()?;
    // An ip that is not an address is ignored.
    let about = failover.get("ip").and_then(Value::as_str).and_then(|text| text.parse().ok());
    if about.is_some_and(|about| net(about) != net(ip)) {
        return None;
    }
    match failover.get("active_server_ip")? {
        Value::Null => Some(None),
        Value::String(text) => text.parse().ok().map(Some),
        _ => None,
    }
}

/// The first 64 bits of an IPv6 address, all of an IPv4 address.
fn net(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    }
}

fn code(answer: &Answer) -> Option<String> {
    Some(json(answer)?.get("error")?.as_object()?.get("code")?.as_str()?.to_string())
}

fn is_success(answer: &Answer, said: Option<Option<IpAddr>>, target: IpAddr) -> bool {
    let already = answer.status == 409 && code(answer).as_deref() == Some("FAILOVER_ALREADY_ROUTED");
    already || said == Some(Some(target))
}

/// As documented, whatever else is in the answer.
fn check_kind(answer: &Answer, kind: Kind) {
    let over_limit = answer.status == 403 && code(answer).as_deref() == Some("RATE_LIMIT_EXCEEDED");
    match answer.status {
        300..=399 | 400 | 401 | 404 => assert_eq!(kind, Kind::Final),
        // A limit in an undocumented form is a refusal like any other.
        403 => assert!(kind == Kind::Refused || over_limit && kind == Kind::HeldBack, "{kind:?}"),
        503 => assert_eq!(kind, Kind::NotDone),
        _ => {}
    }
    let locked = answer.status == 409 && code(answer).as_deref() == Some("FAILOVER_LOCKED");
    assert!(kind != Kind::Locked || locked, "the answer does not say that it is locked");
    assert!(kind != Kind::HeldBack || over_limit, "the answer does not name a limit");
    assert!(kind != Kind::NotSent, "there was an answer");
}

/// Only documented answers say that the login was rejected, or that it is right.
fn check_stage(answer: &Answer, stage: Stage) {
    assert_ne!(stage, Stage::Way, "there was an answer");
    assert_eq!(stage == Stage::Login, answer.status == 401);
    assert!(stage != Stage::Address || matches!(answer.status, 200 | 400 | 404), "{}", answer.status);
}

fn check_texts<T: std::fmt::Debug>(result: &Result<T, Failure>) {
    let text = match result {
        Ok(said) => format!("{said:?}"),
        Err(failure) => failure.sentence.clone(),
    };
    let plain = |c: char| c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ';
    assert!(text.chars().all(plain), "more than a line: {text:?}");
    assert!(text.chars().count() < LONGEST, "{} characters: {text}", text.chars().count());
    assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "a secret is shown: {text}");
}

fn check_rate_limit(answer: &Answer) {
    let Some(time) = rate_limited_for(answer) else { return };
    assert_eq!((answer.status, code(answer).as_deref()), (403, Some("RATE_LIMIT_EXCEEDED")));
    assert!(time <= Duration::from_secs(24 * 3600), "far too long: {time:?}");
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use serde_json::json;

    use super::*;
    use lab::random::{Case, mutate, one, rng};

    /// All that are documented.
    const ERRORS: [(u16, &str); 11] = [
        (400, "INVALID_INPUT"),
        (401, "UNAUTHORIZED"),
        (403, "RATE_LIMIT_EXCEEDED"),
        (403, "FORBIDDEN"),
        (404, "NOT_FOUND"),
        (404, "FAILOVER_NEW_SERVER_NOT_FOUND"),
        (409, "FAILOVER_ALREADY_ROUTED"),
        (409, "FAILOVER_LOCKED"),
        (500, "FAILOVER_FAILED"),
        (500, "FAILOVER_NOT_COMPLETE"),
        (503, "MAINTENANCE"),
    ];

    /// What answers are changed with, beside a line's end.
    const WORDS: &str = "\" { } [ ] , : null \\ \\u0068unter2 hunter2 Rk9POmh1bnRlcjI= \\n \\ud800 \u{202e} 1.1.1.1 2.2.2.2 \
                         4.4.4.4 <html>hunter2</html> \"active_server_ip\":\"1.1.1.1\", \
                         \"failover\":{\"active_server_ip\":\"1.1.1.1\"}, \"code\":\"FAILOVER_ALREADY_ROUTED\", 1e999";

    /// An address as it may be written.
    fn spelled(rng: &mut Rng, address: &str) -> String {
        match parse(address) {
            IpAddr::V6(address) if rng.bool() => {
                address.segments().map(|segment| format!("{segment:04X}")).join(":")
            }
            address => address.to_string(),
        }
    }

    /// An answer as documented. In half of the successes the IP is routed to the switch's target.
    fn documented(rng: &mut Rng, (ip, target): (&str, &str)) -> (u16, Value) {
        if rng.bool() {
            let (status, code) = one(rng, &ERRORS);
            let lists = [json!(null), json!(["active_server_ip"]), json!(["ip", "hunter2"])];
            let error = json!({
                "status": status, "code": code, "message": "a message",
                "missing": lists[rng.usize(..3)], "invalid": lists[rng.usize(..3)],
                "max_request": 50, "interval": rng.u64(..200_000),
            });
            return (status, json!({ "error": error }));
        }
        let active = match rng.u8(..4) {
            0 => json!(null),
            1 => json!(one(rng, &["2.2.2.2", "2a01:4f8:0:1::"])),
            _ => json!(spelled(rng, target)),
        };
        let failover = json!({
            "ip": spelled(rng, ip), "netmask": "255.255.255.255", "server_ip": "2.2.2.2",
            "server_ipv6_net": "2a01:4f8:111:4221::", "server_number": 321, "active_server_ip": active,
        });
        (200, json!({ "failover": failover }))
    }

    /// A value that nobody expects.
    fn odd(rng: &mut Rng) -> Value {
        match rng.u8(..15) {
            0 => json!(null),
            1 => json!(true),
            2 => json!(rng.u64(..)),
            3 => json!(-0.5),
            4 => json!([]),
            5 => json!({}),
            6 => json!(one(rng, &["1.1.1.1", "2.2.2.2", "4.4.4.4", "2a01:4f8:0:5176::", "::ffff:1.1.1.1"])),
            7 => json!(one(rng, &["FAILOVER_ALREADY_ROUTED", "FAILOVER_LOCKED", "RATE_LIMIT_EXCEEDED"])),
            8 => json!(format!("{}{}", "x".repeat(rng.usize(150..250)), SECRETS[0]).repeat(rng.usize(1..20))),
            9 => json!(format!("a\n{}\r\u{1b}[31m{}\u{202e}", SECRETS[0], SECRETS[1])),
            10 => json!([SECRETS[0], "y".repeat(300), [null]]),
            11 => json!(one(rng, &["x", ""]).to_string() + &"ü".repeat(rng.usize(..300))),
            // serde accepts it as an object, field by field.
            12 => json!(["4.4.4.4", "1.1.1.1"]),
            13 => json!(["FAILOVER_ALREADY_ROUTED"]),
            _ => json!({ "failover": { "active_server_ip": "1.1.1.1" } }),
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
                            one(rng, &["ip", "active_server_ip", "code", "error", "failover", ""]).into(),
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

    #[test]
    fn a_documented_answer_means_what_it_says() {
        let mut rng = rng();
        for _ in 0..1_000 {
            let switch = one(&mut rng, &SWITCHES);
            let (status, mut value) = documented(&mut rng, switch);
            if let Some(object) = value.as_object_mut() {
                object.insert("added_later".into(), odd(&mut rng));
            }
            let body = if rng.bool() { value.to_string() } else { format!("{value:#}\r\n") };
            let _case = Case(body.as_bytes());
            let answer = Answer { status, location: None, body: body.clone().into() };
            let (ip, target) = (parse(switch.0), parse(switch.1));
            let already = value["error"]["code"] == "FAILOVER_ALREADY_ROUTED";
            let active = value["failover"]["active_server_ip"].as_str();
            let expected = already || active.is_some_and(|active| parse(active) == target);
            assert_eq!(check_for(&answer, ip, target), expected);

            // An answer that says two things says nothing.
            let names = if status == 200 { ["active_server_ip", "failover"] } else { ["code", "error"] };
            for (name, other) in names.into_iter().zip(["\"X\"", "{}"]) {
                // The last one, because what was added comes before it.
                if let Some(at) = body.rfind(&format!("\"{name}\":")) {
                    let mut body = body.clone();
                    body.insert_str(at, &format!("\"{name}\":{other},"));
                    let _case = Case(body.as_bytes());
                    let answer = Answer { status, location: None, body: body.clone().into() };
                    assert!(!check_for(&answer, ip, target), "{name} is named twice");
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
            let switch = one(&mut rng, &SWITCHES);
            let (mut status, mut value) = documented(&mut rng, switch);
            for _ in 0..rng.usize(..3) {
                distort(&mut rng, &mut value);
            }
            let mut body = value.to_string().into_bytes();
            if rng.bool() {
                mutate(&mut rng, &mut body, &words);
            }
            if rng.u8(..4) == 0 {
                let any = rng.u16(..);
                status = one(&mut rng, &[200, 200, 204, 302, 400, 403, 409, 500, 502, 503, any]);
            }
            let location = rng.bool().then(|| String::from_utf8_lossy(&body).into_owned());
            let shown = [status.to_string().as_bytes(), b" ", &body].concat();
            let _case = Case(&shown);
            successes += usize::from(check(&Answer { status, location, body }));
        }
        assert!((all / 20..all / 2).contains(&successes), "{successes} of {all}: too few, or too many");
    }
}
