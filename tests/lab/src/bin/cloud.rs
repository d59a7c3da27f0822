//! The stand-in as a program, to rehearse an ini without a Cloud Project: see `--help`.

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

use lab::cloud::{Certificate, Cloud, Config, FloatingIp, Own, Rule, Server, Token, duration};
use lab::console::{Options, attend, help, say, show, value_of};

/// Of the first floating IP; the next ones count on.
const FIRST_ID: u64 = 4711;

const USAGE: &str = "\
A stand-in for Hetzner's Cloud API, to rehearse a failover.

  cargo run -p lab --bin cloud -- --ip 4.4.4.4=41 [OPTION VALUE ...]

  --ip IP[=SERVER]     a floating IP, and the id of the server that it is assigned to at first; may be
                       repeated; their ids are 4711, 4712 and so on
  --server ID          a server of the Project; may be repeated (none given: any id is one)
  --listen ADDR:PORT   loopback only (127.0.0.1:8405)
  --https              HTTPS, with a CA of its own
  --ca-file PATH       where to write that CA (a temporary directory); says --https
  --certificate KIND   right, expired, not-yet-valid, other-host, unknown-issuer; says --https
  --switch TIME        how long an action takes (5s)
  --early              an IP shows the new server while the action still runs
  --limit N            requests of the Project at once, and how many come back in an hour (3600)
  --instance-id ID     the server that the metadata service tells, which is this program for a uWSGI that has
                       HETZNER_METADATA=http://ADDR:PORT in its environment
  --fault SPEC         something that shall go wrong, see below; may be repeated

Any token is right, unless CLOUD_TOKEN is set in the environment, or CLOUD_TOKEN_READONLY for one that may
only read.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        say(&format!("{USAGE}\n{}", help::<Own>()));
        return ExitCode::SUCCESS;
    }
    match run(arguments.into_iter()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cloud: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut config, faults) = parse(arguments)?;
    config.tokens = tokens(std::env::var("CLOUD_TOKEN").ok(), std::env::var("CLOUD_TOKEN_READONLY").ok());
    let (events, heard) = channel();
    let cloud = Cloud::start(Config { events: Some(events), ..config.clone() })
        .map_err(|error| format!("{}: {error}", config.listen))?;
    introduce(&cloud, &config);
    faults.into_iter().for_each(|rule| cloud.fault(rule));
    attend(&cloud, heard)
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<(Config, Vec<Rule>), String> {
    let mut faults = Vec::new();
    let mut config =
        Config { listen: ([127, 0, 0, 1], 8405).into(), switch: Duration::from_secs(5), ..Config::default() };
    let mut options = Options(arguments);
    while let Some((name, value)) = options.option() {
        match name.as_str() {
            "--https" if value.is_none() => {
                config.tls.get_or_insert(Certificate::Right);
                continue;
            }
            "--early" if value.is_none() => {
                config.early = true;
                continue;
            }
            _ => {}
        }
        let mut option = || options.value(&name, value.clone());
        let wrong = |why: String| format!("{name}: {why}");
        match name.as_str() {
            "--ip" => {
                let id = FIRST_ID + config.floating_ips.len() as u64;
                config.floating_ips.push(floating_ip(id, &option()?).map_err(wrong)?);
            }
            "--server" => {
                config.servers.push(Server::new(value_of(&option()?, "a server's id").map_err(wrong)?))
            }
            "--listen" => config.listen = value_of(&option()?, "an address and a port").map_err(wrong)?,
            "--ca-file" => {
                config.ca_file = Some(option()?.into());
                config.tls.get_or_insert(Certificate::Right);
            }
            "--certificate" => config.tls = Some(option()?.parse().map_err(wrong)?),
            "--switch" => config.switch = duration(&option()?).map_err(wrong)?,
            "--limit" => config.limit = value_of(&option()?, "a number").map_err(wrong)?,
            "--instance-id" => {
                config.instance_id = Some(value_of(&option()?, "a server's id").map_err(wrong)?)
            }
            "--fault" => faults.push(option()?.parse().map_err(wrong)?),
            _ => return Err(format!("{name}: no such option (see --help)")),
        }
    }
    if config.floating_ips.is_empty() {
        return Err("expected at least one --ip IP=SERVER (see --help)".to_owned());
    }
    if config.tls.is_some() && config.instance_id.is_some() {
        return Err("--instance-id: not with --https, for the metadata service speaks plain HTTP".to_owned());
    }
    Ok((config, faults))
}

fn tokens(all: Option<String>, read_only: Option<String>) -> Vec<Token> {
    let all = all.map(|secret| Token::new("CLOUD_TOKEN", secret));
    let read_only = read_only.map(|secret| Token::new("CLOUD_TOKEN_READONLY", secret).read_only());
    all.into_iter().chain(read_only).collect()
}

fn floating_ip(id: u64, text: &str) -> Result<FloatingIp, String> {
    let (ip, server) = match text.split_once('=') {
        Some((ip, server)) => (ip, Some(value_of(server, "a server's id")?)),
        None => (text, None),
    };
    // An IPv6 one may be written as the API writes it.
    let ip: IpAddr = value_of(ip.trim_end_matches("/64"), "an address")?;
    Ok(FloatingIp::new(id, ip, server))
}

fn introduce(cloud: &Cloud, config: &Config) {
    say(&format!("Cloud stand-in. For the hook:\n  url={}", cloud.url()));
    for FloatingIp { id, ip, .. } in &config.floating_ips {
        say(&format!("  ip={ip} (floating_ip={id})"));
    }
    if let Some(path) = cloud.ca_file() {
        say(&format!("and for the environment of uWSGI:\n  SSL_CERT_FILE={}", path.display()));
    }
    if let Some(id) = config.instance_id {
        say(&format!(
            "and for a hook without server, which is {id} then:\n  HETZNER_METADATA=http://{}",
            cloud.addr()
        ));
    }
    match config.tokens.as_slice() {
        [] => say("Any token is right."),
        tokens => {
            let names = tokens.iter().map(|token| token.name.as_str()).collect::<Vec<_>>().join(" and of ");
            say(&format!("The token is the one of {names}."));
        }
    }
    match config.servers.as_slice() {
        [] => say("Any id is a server's."),
        servers => {
            let ids: Vec<String> = servers.iter().map(|server| server.id.to_string()).collect();
            say(&format!("Servers: {}", ids.join(", ")));
        }
    }
    say(&format!("An action takes {:?}; the Project may ask {} times an hour.", config.switch, config.limit));
    say(&format!("{}Type help for what can be typed. Times are UTC.", show(cloud)));
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use lab::console::{line, obey};
    use lab::{LIMIT, ip};

    use super::*;

    fn rule(spec: &str) -> Rule {
        spec.parse().unwrap()
    }

    fn parsed(arguments: &str) -> Result<(Config, Vec<Rule>), String> {
        parse(arguments.split('|').map(str::to_owned))
    }

    #[test]
    fn options() {
        let (config, faults) = parsed(
            "--ip|4.4.4.4=41|--ip=2001:db8::/64|--server|41|--ca-file|x.pem|--switch|90ms|--early|--limit=7\
             |--fault|post target=42 fails|--fault=any hang",
        )
        .unwrap();
        let expected =
            [FloatingIp::new(4711, ip("4.4.4.4"), Some(41)), FloatingIp::new(4712, ip("2001:db8::"), None)];
        assert_eq!(config.floating_ips, expected);
        assert_eq!((&config.servers[..], config.tls), (&[Server::new(41)][..], Some(Certificate::Right)));
        assert_eq!((config.switch, config.early, config.limit), (Duration::from_millis(90), true, 7));
        assert_eq!(parsed("--ip|4.4.4.4|--instance-id|42").unwrap().0.instance_id, Some(42));
        assert_eq!(faults, [rule("post target=42 fails"), rule("any hang")]);

        for (arguments, expected) in [
            ("--https", "at least one --ip"),
            ("--ip", "--ip: expected a value"),
            ("--ip|4.4.4.4=here", "--ip: expected a server's id"),
            ("--ip|4.4.4.4|--fault|post burn", "--fault: expected"),
            ("--ip|4.4.4.4|--instance-id|42|--https", "--instance-id: not with --https"),
            ("--ip|4.4.4.4|--token|x", "--token: no such option"),
        ] {
            let why = parsed(arguments).unwrap_err();
            assert!(why.contains(expected), "{arguments}: {why}");
        }
        let tokens = tokens(Some("a".into()), Some("b".into()));
        let expected = [Token::new("CLOUD_TOKEN", "a"), Token::new("CLOUD_TOKEN_READONLY", "b").read_only()];
        assert_eq!(tokens, expected);
    }

    #[test]
    fn typed_lines_and_what_is_printed() {
        let (events, heard) = channel();
        let floating_ips = vec![FloatingIp::new(4711, ip("4.4.4.4"), Some(41))];
        let cloud = Cloud::start(Config { floating_ips, events: Some(events), ..Config::default() }).unwrap();
        let printed = || line::<Own>(&heard.recv_timeout(LIMIT).unwrap())["00:00:00 ".len()..].to_owned();
        let typed = |line| obey(&cloud, line);
        let post = || {
            let mut stream = TcpStream::connect(cloud.addr()).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let request = "POST /v1/floating_ips/4711/actions/assign HTTP/1.1\r\nHost: x\r\n\
                           Authorization: Bearer SECRET\r\nContent-Length: 13\r\n\r\n{\"server\":42}";
            stream.write_all(request.as_bytes()).unwrap();
            stream.read_exact(&mut [0; 12]).unwrap();
        };
        post();
        assert_eq!(printed(), "4.4.4.4 is routed to 42 (before: 41)");
        let answered = printed();
        let start = "POST /v1/floating_ips/4711/actions/assign server=42 user=token → 201 success after ";
        assert!(answered.starts_with(start), "{answered}");

        assert_eq!(typed("route 4.4.4.4 none"), Ok(Some(String::new())));
        assert_eq!(printed(), "4.4.4.4 is routed nowhere (before: 42)");
        assert_eq!(
            typed("post fails times=1"),
            Ok(Some("fault: post times=1 fails action_failed".to_owned()))
        );
        post();
        assert!(printed().contains("→ 201 error after "));
        let why = typed("route 4.4.4.4 here").unwrap_err();
        assert_eq!(why, "expected a server's id or none, not \"here\"");
        assert!(typed("route 5.5.5.5 41").is_err());
        assert_eq!(typed("show"), Ok(Some("4.4.4.4 is routed nowhere\n".to_owned())));
        assert_eq!(typed("quit"), Ok(None));
    }
}
