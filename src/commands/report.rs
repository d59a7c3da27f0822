//! The result of a command, and how it is printed: lines for people, or one JSON document.

use std::io::Write;

use serde_json::{Value, json};

use super::asked::Command;
use crate::failover::FailoverIp;

/// How a step went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    Ok,
    Note,
    Warning,
    Error,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Mark::Ok => "ok",
            Mark::Note => "note",
            Mark::Warning => "warning",
            Mark::Error => "ERROR",
        }
    }
}

/// One line.
pub struct Step(pub Mark, pub String);

/// The result for one failover IP.
pub struct Report {
    /// Where the IP is: `here`, `elsewhere`, `nowhere`, `unknown`.
    pub state: &'static str,
    /// The server that the IP is routed to.
    pub route: Option<String>,
    /// Why the command failed, or why the state is unknown.
    pub reason: Option<String>,
    pub steps: Vec<Step>,
    /// The exit status for this IP alone.
    pub code: i32,
}

/// How this node is in one Legion.
pub struct LegionReport {
    pub legion: String,
    /// `healthy`, `sick`, `drained`.
    pub state: String,
    /// Why it is not healthy.
    pub reason: Option<String>,
    pub steps: Vec<Step>,
    /// 1 if that is an error.
    pub code: i32,
}

/// All that a command prints.
pub struct Document {
    /// `None` if the command line has none, or several.
    pub command: Option<Command>,
    pub code: i32,
    /// Why no request was sent at all.
    pub error: Option<String>,
    /// What is wrong with the configuration.
    pub problems: Vec<String>,
    /// What is not about a single IP.
    pub steps: Vec<Step>,
    /// Those with a check or a drain file.
    pub legions: Vec<LegionReport>,
    pub ips: Vec<(FailoverIp, Report)>,
}

impl Document {
    pub fn error(command: Option<Command>, code: i32, sentence: &str) -> Document {
        let error = Some(sentence.to_string());
        Document {
            command,
            code,
            error,
            problems: Vec::new(),
            steps: Vec::new(),
            legions: Vec::new(),
            ips: Vec::new(),
        }
    }

    pub fn print(&self, as_json: bool) {
        if as_json {
            return print(&self.json().to_string());
        }
        let say = |what: &str, Step(mark, text): &Step| print(&format!("{:<8} {what}{text}", mark.word()));
        self.steps.iter().for_each(|step| say("", step));
        for report in &self.legions {
            report.steps.iter().for_each(|step| say(&format!("{}: ", report.legion), step));
        }
        for (ip, report) in &self.ips {
            let what = format!("{} {}: ", ip.legion.name(), ip.name());
            report.steps.iter().for_each(|step| say(&what, step));
        }
        // Mistakes in the configuration and on the command line are in the log already.
        if let (Some(error), Some(_), []) = (&self.error, self.command, &self.problems[..]) {
            print(error);
        }
    }

    fn json(&self) -> Value {
        let step = |Step(mark, text): &Step| json!({"result": mark.word(), "text": text});
        let steps = |steps: &[Step]| steps.iter().map(step).collect::<Vec<_>>();
        let ip = |(ip, report): &(FailoverIp, Report)| {
            json!({
                "legion": ip.legion.name(),
                "ip": ip.name(),
                ip.about.target_key: ip.remote.target().ok(),
                "state": report.state,
                "route": report.route,
                "reason": report.reason,
                "steps": steps(&report.steps),
            })
        };
        let legion = |report: &LegionReport| {
            json!({
                "legion": report.legion,
                "state": report.state,
                "reason": report.reason,
                "steps": steps(&report.steps),
            })
        };
        json!({
            "command": self.command.map(Command::name),
            "exit_status": self.code,
            "error": self.error,
            "problems": self.problems,
            "steps": steps(&self.steps),
            "legions": self.legions.iter().map(legion).collect::<Vec<_>>(),
            "ips": self.ips.iter().map(ip).collect::<Vec<_>>(),
        })
    }
}

fn print(line: &str) {
    // println!() would panic if the reader has gone.
    let _ = writeln!(std::io::stdout(), "{line}");
}
