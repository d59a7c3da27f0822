//! The keys of a command: what is called, for which IPs, with what.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::{Variables, is_name};
use crate::config::{Argument, Common, IP, Key, Pace, Remark, Secret, Takes, Weight, shown};
use crate::text::printable;

const COMMAND: Key = Key { spellings: &["command"], takes: Takes::Text };
const AGENT: Key = Key::word(&["agent"]);
const TARGET: Key = Key::word(&["target"]);
const ENV_FILE: Key = Key { spellings: &["env_file"], takes: Takes::Text };
/// Beside the common ones.
const KEYS: [Key; 5] = [COMMAND, AGENT, IP, TARGET, ENV_FILE];
/// A key that begins like this is a parameter of an agent.
const PARAMETER: &str = "ocf_";

const AGENTS: &str = "/usr/lib/ocf/resource.d";
const A_COMMAND: &str = "the absolute path of a program, without arguments";
const AN_AGENT: &str = "expected ocf:PROVIDER:NAME, like ocf:heartbeat:IPaddr2";
const AN_IP: &str = "what the command moves: an address, or another name for it";

pub const PACE: Pace = Pace {
    timeout: Duration::from_secs(60),
    // It may ask whomever it asks right before it is killed.
    longest_way: Duration::MAX,
    longest_switch: Duration::from_secs(60),
    lock_tried_after: Duration::from_secs(5),
    // How long it takes is known to nobody but the command.
    shortest_deadline: Duration::ZERO,
    verify: Duration::from_secs(60),
};

/// What a hook asks for, for one of its IPs.
#[derive(Clone)]
pub struct Options {
    pub program: Program,
    /// What the command moves, in its own words.
    pub ip: String,
    /// What it points it at. Empty: it knows that itself.
    pub target: String,
    pub env_file: Option<Secret>,
}

#[derive(Clone)]
pub struct Program {
    pub path: PathBuf,
    pub agent: Option<Agent>,
}

/// A resource agent of the Open Cluster Framework.
#[derive(Clone)]
pub struct Agent {
    pub provider: String,
    pub name: String,
    pub parameters: Vec<(String, Vec<u8>)>,
}

/// What an argument was read as.
pub struct Parsed {
    pub common: Common,
    /// One for each IP, in order; none if the hook cannot work.
    pub options: Vec<Options>,
    pub remarks: Vec<Remark>,
}

/// Reads a hook's argument, with every remark about it, not only the first.
pub fn parse(argument: &[u8]) -> Parsed {
    let mut argument = Argument::read_with(argument, &KEYS, Some(PARAMETER));
    let program = program(&mut argument);
    let ips = ips(&mut argument);
    let target = argument.get(TARGET).map(<[u8]>::to_vec).unwrap_or_default();
    let target = word(&mut argument, TARGET, &target);
    let env_file = env_file(&mut argument);
    let common = argument.common(&PACE);
    let mut options = Vec::new();
    if let (Some(program), Some(target), false) = (program, target, argument.is_wrong()) {
        let option =
            |ip| Options { program: program.clone(), ip, target: target.clone(), env_file: env_file.clone() };
        options.extend(ips.into_iter().map(option));
    }
    Parsed { common, options, remarks: argument.remarks }
}

fn program(argument: &mut Argument) -> Option<Program> {
    let program = match (argument.has(COMMAND), argument.has(AGENT)) {
        (true, true) => {
            argument.wrong(format!("{COMMAND} and {AGENT} are both given: keep one"));
            return None;
        }
        (false, true) => {
            let value = argument.required(AGENT, "ocf:PROVIDER:NAME")?;
            let agent = agent(&value);
            if agent.is_none() {
                argument.wrong(format!("{} is not valid: {AN_AGENT}", shown(AGENT, &value)));
            }
            let (provider, name) = agent?;
            let path = Path::new(AGENTS).join(&provider).join(&name);
            Program { path, agent: Some(Agent { provider, name, parameters: parameters(argument) }) }
        }
        (_, false) => {
            let value = argument.required(COMMAND, &format!("{A_COMMAND}, or {AGENT} to an OCF agent"))?;
            if let Some((name, _)) = argument.family.first() {
                let name = printable(name, &[]);
                argument.wrong(format!(
                    "{PARAMETER}{name} is for an {AGENT}: put it into {ENV_FILE} for a {COMMAND}"
                ));
            }
            if !value.starts_with(b"/") {
                argument.wrong(format!("{} is not valid: expected {A_COMMAND}", shown(COMMAND, &value)));
                return None;
            }
            Program { path: PathBuf::from(OsStr::from_bytes(&value)), agent: None }
        }
    };
    if let Err(why) = runnable(&program.path) {
        let key = if program.agent.is_some() { AGENT } else { COMMAND };
        let path = shown(key, program.path.as_os_str().as_bytes());
        let hint = if program.agent.is_some() { "install it" } else { "expected a program" };
        argument.remark(Remark::new(Weight::Away, format!("{path} cannot be run ({why}): {hint}")));
    }
    Some(program)
}

/// Why a file is no program, if it is none.
fn runnable(path: &Path) -> Result<(), String> {
    let file = path.metadata().map_err(|error| error.to_string())?;
    if !file.is_file() {
        return Err("it is no file".into());
    }
    if file.permissions().mode() & 0o111 == 0 {
        Err(format!("it is not executable: chmod 755 {}", path.display()))
    } else {
        Ok(())
    }
}

fn agent(value: &[u8]) -> Option<(String, String)> {
    let (provider, name) = std::str::from_utf8(value).ok()?.strip_prefix("ocf:")?.split_once(':')?;
    let is_plain = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    (is_plain(provider) && is_plain(name)).then(|| (provider.into(), name.into()))
}

fn parameters(argument: &mut Argument) -> Vec<(String, Vec<u8>)> {
    let parameters = std::mem::take(&mut argument.family);
    for (name, value) in &parameters {
        if !is_name(format!("{PARAMETER}{name}").as_bytes()) || value.contains(&0) {
            let name = printable(name, &[]);
            argument
                .wrong(format!("{PARAMETER}{name} cannot be a parameter: expected letters, digits and _"));
        }
    }
    parameters
}

fn ips(argument: &mut Argument) -> Vec<String> {
    let Some(value) = argument.required(IP, AN_IP) else { return Vec::new() };
    let mut ips = Vec::new();
    for item in value.split(|byte| *byte == b';') {
        if item.trim_ascii().is_empty() {
            argument.wrong(format!(
                "{} has an empty item: expected {AN_IP}, several with ; between",
                shown(IP, &value)
            ));
            continue;
        }
        let Some(ip) = word(argument, IP, item.trim_ascii()) else { continue };
        if ips.contains(&ip) {
            argument.wrong(format!("{} contains {ip} twice", shown(IP, &value)));
        } else {
            ips.push(ip);
        }
    }
    ips
}

/// A value that becomes an argument of the command, and stands in the log.
fn word(argument: &mut Argument, key: Key, value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok().filter(|text| printable(text, &[]) == *text);
    let Some(text) = text else {
        argument
            .wrong(format!("{} is not valid: expected at most 200 printable characters", shown(key, value)));
        return None;
    };
    if text.starts_with('-') {
        argument
            .wrong(format!("{} is not valid: the command would take it for an option", shown(key, value)));
        return None;
    }
    Some(text.into())
}

fn env_file(argument: &mut Argument) -> Option<Secret> {
    let path = argument.get(ENV_FILE)?;
    let check = |content: &[u8]| Variables::read(content).map(drop);
    let secret = Secret::in_checked_file(Path::new(OsStr::from_bytes(path)), ENV_FILE, check);
    if let Err(why) = secret.read() {
        let sentence = format!("{}: expected a file with lines NAME=value", printable(&why, &[]));
        argument.remark(Remark::new(Weight::Away, sentence));
    }
    Some(secret)
}

impl Program {
    /// The arguments behind the program's path. An agent has its own in its environment.
    pub fn words(&self, verb: &str, about: [&str; 3]) -> Vec<CString> {
        let about = if self.agent.is_some() { &[][..] } else { &about };
        let path = self.path.as_os_str().as_bytes();
        let texts = [path, verb.as_bytes()].into_iter().chain(about.iter().map(|text| text.as_bytes()));
        // The options have no NUL in them.
        texts.filter_map(|text| CString::new(text).ok()).collect()
    }
}
