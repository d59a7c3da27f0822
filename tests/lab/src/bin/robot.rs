//! The stand-in as a program, to rehearse an ini without a Robot account: see `--help`.

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

use lab::console::{Options, attend, help, say, show, value_of};
use lab::robot::{Certificate, Config, Failover, Login, Own, Robot, Rule, duration};

const USAGE: &str = "\
A stand-in for Hetzner's Robot API, to rehearse a failover.

  cargo run -p lab --bin robot -- --ip 4.4.4.4=1.1.1.1 [OPTION VALUE ...]

  --ip IP[=SERVER]     a failover IP, and where it is routed at first; may be repeated
  --server ADDR        a server of the account; may be repeated (none given: any address is one)
  --listen ADDR:PORT   loopback only (127.0.0.1:8404)
  --https              HTTPS, with a CA of its own
  --ca-file PATH       where to write that CA (a temporary directory); says --https
  --certificate KIND   right, expired, not-yet-valid, other-host, unknown-issuer; says --https
  --switch TIME        how long a switch takes (5s)
  --limit-get N        GETs an hour (100)
  --limit-post N       POSTs an hour (50)
  --limit-delete N     DELETEs an hour (50)
  --lockout TIME       how long three failed logins lock their source address out (10m)
  --fault SPEC         something that shall go wrong, see below; may be repeated

Any login is right, unless ROBOT_USER and ROBOT_PASSWORD are set in the environment.
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
            eprintln!("robot: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut config, faults) = parse(arguments)?;
    config.login = login(std::env::var("ROBOT_USER").ok(), std::env::var("ROBOT_PASSWORD").ok())?;
    let (events, heard) = channel();
    let robot = Robot::start(Config { events: Some(events), ..config.clone() })
        .map_err(|error| format!("{}: {error}", config.listen))?;
    introduce(&robot, &config);
    faults.into_iter().for_each(|rule| robot.fault(rule));
    attend(&robot, heard)
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<(Config, Vec<Rule>), String> {
    let mut faults = Vec::new();
    let mut config =
        Config { listen: ([127, 0, 0, 1], 8404).into(), switch: Duration::from_secs(5), ..Config::default() };
    let mut options = Options(arguments);
    while let Some((name, value)) = options.option() {
        if name == "--https" && value.is_none() {
            config.tls.get_or_insert(Certificate::Right);
            continue;
        }
        let mut option = || options.value(&name, value.clone());
        let wrong = |why: String| format!("{name}: {why}");
        match name.as_str() {
            "--ip" => config.failover.push(failover(&option()?).map_err(wrong)?),
            "--server" => config.servers.push(value_of(&option()?, "an address").map_err(wrong)?),
            "--listen" => config.listen = value_of(&option()?, "an address and a port").map_err(wrong)?,
            "--ca-file" => {
                config.ca_file = Some(option()?.into());
                config.tls.get_or_insert(Certificate::Right);
            }
            "--certificate" => config.tls = Some(option()?.parse().map_err(wrong)?),
            "--switch" => config.switch = duration(&option()?).map_err(wrong)?,
            "--limit-get" => config.limits.get = value_of(&option()?, "a number").map_err(wrong)?,
            "--limit-post" => config.limits.post = value_of(&option()?, "a number").map_err(wrong)?,
            "--limit-delete" => config.limits.delete = value_of(&option()?, "a number").map_err(wrong)?,
            "--lockout" => config.lockout = duration(&option()?).map_err(wrong)?,
            "--fault" => faults.push(option()?.parse().map_err(wrong)?),
            _ => return Err(format!("{name}: no such option (see --help)")),
        }
    }
    if config.failover.is_empty() {
        return Err("expected at least one --ip IP=SERVER (see --help)".to_owned());
    }
    Ok((config, faults))
}

fn login(user: Option<String>, password: Option<String>) -> Result<Option<Login>, String> {
    match (user, password) {
        (None, None) => Ok(None),
        (Some(user), Some(password)) => Ok(Some(Login::new(user, password))),
        _ => Err("expected both ROBOT_USER and ROBOT_PASSWORD in the environment, or neither".to_owned()),
    }
}

fn failover(text: &str) -> Result<Failover, String> {
    let (ip, server) = match text.split_once('=') {
        Some((ip, server)) => (ip, Some(value_of(server, "an address")?)),
        None => (text, None),
    };
    Ok(Failover::new(value_of(ip, "an address")?, server))
}

fn introduce(robot: &Robot, config: &Config) {
    say("Robot stand-in. For the hook:");
    for failover in &config.failover {
        say(&format!("  url={}", robot.url(failover.ip)));
    }
    if let Some(path) = robot.ca_file() {
        say(&format!("and for the environment of uWSGI:\n  SSL_CERT_FILE={}", path.display()));
    }
    match &config.login {
        Some(_) => say("The login is the one of ROBOT_USER and ROBOT_PASSWORD."),
        None => say("Any login is right."),
    }
    match config.servers.as_slice() {
        [] => say("Any address is a server."),
        servers => {
            say(&format!("Servers: {}", servers.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")))
        }
    }
    let limits = config.limits;
    say(&format!(
        "A switch takes {:?}; an hour's limits are {} GET, {} POST, {} DELETE.",
        config.switch, limits.get, limits.post, limits.delete
    ));
    say(&format!("{}Type help for what can be typed. Times are UTC.", show(robot)));
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::time::Instant;

    use lab::console::{line, obey};
    use lab::ip;

    use super::*;

    const IP: &str = "4.4.4.4";
    const HERE: &str = "1.1.1.1";
    const THERE: &str = "2.2.2.2";
    /// Far more than anything here takes: who waits that long waits in vain.
    const LONG: Duration = Duration::from_secs(20);

    fn rule(spec: &str) -> Rule {
        spec.parse().unwrap()
    }

    /// From the user `foo`.
    fn send(robot: &Robot, method: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(robot.addr()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        // foo:geheim
        let request = format!(
            "{method} /failover/4.4.4.4 HTTP/1.1\r\nHost: robot\r\nAuthorization: Basic Zm9vOmdlaGVpbQ==\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    #[track_caller]
    fn post(robot: &Robot, target: &str) {
        let mut answer = [0; 12];
        send(robot, "POST", &format!("active_server_ip={target}")).read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }

    fn parsed(arguments: &str) -> Result<(Config, Vec<Rule>), String> {
        parse(arguments.split('|').map(str::to_owned))
    }

    #[test]
    fn options() {
        let (config, faults) = parsed(
            "--ip|4.4.4.4=1.1.1.1|--ip=2a01:4f8:fff1::|--server|1.1.1.1|--ca-file|x.pem|--switch|90ms|--limit-post=3\
             |--lockout|1m|--fault|post target=1.1.1.1 close|--fault=any hang",
        )
        .unwrap();
        assert_eq!(
            config.failover,
            [Failover::new(ip(IP), Some(ip(HERE))), Failover::new(ip("2a01:4f8:fff1::"), None)]
        );
        assert_eq!(
            (config.servers.as_slice(), config.tls),
            ([ip(HERE)].as_slice(), Some(Certificate::Right))
        );
        assert_eq!((config.switch, config.lockout), (Duration::from_millis(90), Duration::from_secs(60)));
        assert_eq!((config.limits.get, config.limits.post), (100, 3));
        assert_eq!(faults, [rule("post target=1.1.1.1 close"), rule("any hang")]);

        for (arguments, expected) in [
            ("--https", "at least one --ip"),
            ("--ip", "--ip: expected a value"),
            ("--ip|4.4.4.4=here", "--ip: expected an address"),
            ("--ip|4.4.4.4|--fault|post burn", "--fault: expected"),
            ("--ip|4.4.4.4|--password|x", "--password: no such option"),
        ] {
            let why = parsed(arguments).unwrap_err();
            assert!(why.contains(expected), "{arguments}: {why}");
        }
        assert!(login(Some("foo".to_owned()), None).is_err());
    }

    #[test]
    fn typed_lines_and_what_is_printed() {
        let (events, heard) = channel();
        let failover = vec![Failover::new(ip(IP), Some(ip(HERE)))];
        let robot = Robot::start(Config { failover, events: Some(events), ..Config::default() }).unwrap();
        let printed = || line::<Own>(&heard.recv_timeout(LONG).unwrap())["00:00:00 ".len()..].to_owned();
        let typed = |line| obey(&robot, line);

        post(&robot, THERE);
        assert_eq!(printed(), "4.4.4.4 is routed to 2.2.2.2 (before: 1.1.1.1)");
        let answered = printed();
        let (line, seconds) = answered.rsplit_once(" after ").expect("how long it took");
        assert_eq!(line, "POST /failover/4.4.4.4 active_server_ip=2.2.2.2 user=foo → 200");
        // A busy machine takes more than nothing.
        assert!(seconds.trim_end_matches(" s").parse::<f64>().is_ok(), "{answered}");

        assert_eq!(typed("get hang times=1"), Ok(Some("fault: get times=1 hang".to_owned())));
        let client = send(&robot, "GET", "");
        assert_eq!(printed(), "GET /failover/4.4.4.4 user=foo → left hanging (fault: hang)");
        drop(client);
        assert!(printed().starts_with("GET /failover/4.4.4.4 user=foo → gone before it was answered after "));

        assert_eq!(typed("route 4.4.4.4 none"), Ok(Some(String::new())));
        assert_eq!(printed(), "4.4.4.4 is routed nowhere (before: 2.2.2.2)");
        assert!(
            typed("route 5.5.5.5 none").is_err() && typed("route").is_err() && typed("nonsense").is_err()
        );

        typed("any refuse").unwrap();
        let refused = TcpStream::connect(robot.addr()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        typed("clear").unwrap();
        typed("switch 300ms").unwrap();
        let began = Instant::now();
        post(&robot, HERE);
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert_eq!(typed("quit"), Ok(None));
    }
}
