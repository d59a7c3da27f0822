//! A command of the kind that `failover-command` runs: `move-ip start|monitor|stop IP TARGET LEGION`. It asks the Robot
//! stand-in, so that faults, slow switches and the journal are there for a command, too.
//!
//! It is started hundreds of times by a test, so it is small: one request, with no more than the standard library's socket.
//! Its `env_file` says where to ask and who asks (see `lab::command`); and, where it names a file that is there, what is
//! wrong with this command.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{ExitCode, abort};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lab::command::{PASSWORD, TROUBLE, Trouble, URL, USER};
use serde_json::Value;

const DONE: u8 = 0;
/// Nobody knows what has happened.
const UNKNOWN: u8 = 1;
const BAD_ARGUMENTS: u8 = 2;
const UNIMPLEMENTED: u8 = 3;
const NOT_PERMITTED: u8 = 4;
const NOT_CONFIGURED: u8 = 6;
const NOT_HERE: u8 = 7;
/// EX_TEMPFAIL.
const BUSY: u8 = 75;

fn main() -> ExitCode {
    trouble();
    let (status, said) = match work() {
        Ok(end) => end,
        Err((status, why)) => (status, why),
    };
    println!("{said}");
    ExitCode::from(status)
}

type End = (u8, String);

fn work() -> Result<End, End> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [action, ip, target, legion] = &arguments[..] else {
        return Err((BAD_ARGUMENTS, "expected start|monitor|stop IP TARGET LEGION".into()));
    };
    // Whoever reads the environment instead has to find the same there.
    let same = [("ACTION", action), ("IP", ip), ("TARGET", target), ("LEGION", legion)];
    for (name, argument) in same {
        let name = format!("FAILOVER_{name}");
        if variable(&name)? != *argument {
            return Err((BAD_ARGUMENTS, format!("{name} is not {argument}")));
        }
    }
    let (method, body) = match action.as_str() {
        "start" => ("POST", format!("active_server_ip={target}")),
        "monitor" => ("GET", String::new()),
        "stop" => ("DELETE", String::new()),
        _ => return Err((UNIMPLEMENTED, format!("{action}: expected start, monitor or stop"))),
    };
    let (status, code, server) = ask(method, &format!("{}/{ip}", variable(URL)?), &body)?;
    let said = |what: &str| format!("{method} {ip}: HTTP {status} {what}");
    let end = match (status, code.as_str()) {
        (200, _) => {
            let is_here = server.as_deref() == Some(target);
            let status = match (method, is_here) {
                ("DELETE", _) | (_, true) => DONE,
                ("GET", false) => NOT_HERE,
                // Robot has just said that it was done.
                _ => UNKNOWN,
            };
            return Ok((status, said(server.as_deref().unwrap_or("nowhere"))));
        }
        (409, "FAILOVER_ALREADY_ROUTED") => DONE,
        (409, "FAILOVER_LOCKED") | (403, "RATE_LIMIT_EXCEEDED") => BUSY,
        (401 | 403, _) => NOT_PERMITTED,
        (404, _) => NOT_CONFIGURED,
        (400, _) => BAD_ARGUMENTS,
        (405, _) => UNIMPLEMENTED,
        _ => UNKNOWN,
    };
    Ok((end, said(&code)))
}

fn variable(name: &str) -> Result<String, End> {
    env::var(name).map_err(|_| (NOT_CONFIGURED, format!("{name} is missing")))
}

/// The status, the code of an error, and the server that the IP is routed to.
fn ask(method: &str, url: &str, body: &str) -> Result<(u16, String, Option<String>), End> {
    let unclear = |why: String| (UNKNOWN, format!("{method}: {why}"));
    let not_http = || (NOT_CONFIGURED, format!("{URL}: expected http://HOST:PORT/PATH"));
    let (host, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or_else(not_http)?;
    let login = BASE64.encode(format!("{}:{}", variable(USER)?, variable(PASSWORD)?));
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {login}\r\nUser-Agent: move-ip\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    let mut stream = TcpStream::connect(host).map_err(|error| unclear(error.to_string()))?;
    stream.write_all(request.as_bytes()).map_err(|error| unclear(error.to_string()))?;
    // What was complete before the connection broke counts.
    let broken = stream.read_to_end(&mut answer).err();
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(unclear(broken.map_or("no answer".into(), |error| error.to_string())));
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (Some(status), Ok(body)) = (status, serde_json::from_str::<Value>(body)) else {
        let first = head.lines().next().unwrap_or_default();
        return Err(unclear(format!("{first}, and no JSON")));
    };
    let word = |value: &Value| value.as_str().map(str::to_string);
    let code = word(&body["error"]["code"]).unwrap_or_default();
    let known = status != 200 || body["failover"].get("active_server_ip").is_some();
    if !known {
        return Err(unclear("HTTP 200, and no active_server_ip".into()));
    }
    Ok((status, code, word(&body["failover"]["active_server_ip"])))
}

/// What is wrong with this command, if its env_file has named a file and it is there.
fn trouble() {
    let text = env::var(TROUBLE).ok().and_then(|file| fs::read_to_string(file).ok());
    match text.and_then(|text| Trouble::read(&text)) {
        None => {}
        Some(Trouble::Hangs) => loop {
            thread::park();
        },
        Some(Trouble::Dies) => abort(),
        Some(Trouble::Shouts) => {
            let line = [b'x'; 1 << 16];
            for _ in 0..1 << 8 {
                // Whoever does not read that any more has a reason.
                let _ = std::io::stdout().write_all(&line);
            }
        }
    }
}
