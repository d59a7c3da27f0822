//! An action: what was asked for, and how far it is.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::standin::Answer;

#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    Running,
    Success,
    /// With its code.
    Error(String),
}

/// An action on a floating IP.
#[derive(Clone, Debug)]
pub struct Action {
    pub id: u64,
    /// The floating IP.
    pub of: u64,
    /// The server that it is to be assigned to; none: it is unassigned.
    pub to: Option<u64>,
    pub status: Status,
    /// How it is to end; running: it is not.
    pub end: Status,
    /// Whether it is carried out when its time has come.
    pub is_done: bool,
    /// Whether the IP shows the new server while it still runs.
    pub is_early: bool,
    pub started: SystemTime,
    pub finished: Option<SystemTime>,
}

impl Action {
    /// Ends it, as it is to end.
    pub fn finish(&mut self) {
        self.status = self.end.clone();
        if self.status != Status::Running {
            self.finished = Some(SystemTime::now());
        }
    }

    fn word(&self) -> &'static str {
        match self.status {
            Status::Running => "running",
            Status::Success => "success",
            Status::Error(_) => "error",
        }
    }

    fn object(&self) -> Value {
        let server = self.to.map(|id| json!({ "id": id, "type": "server" }));
        let ip = json!({ "id": self.of, "type": "floating_ip" });
        let error = match &self.status {
            Status::Error(code) => json!({ "code": code, "message": "the action has failed" }),
            Status::Running | Status::Success => Value::Null,
        };
        json!({ "action": {
            "id": self.id,
            "command": if self.to.is_some() { "assign_floating_ip" } else { "unassign_floating_ip" },
            "status": self.word(),
            "progress": if self.status == Status::Running { 0 } else { 100 },
            "started": timestamp(self.started),
            "finished": self.finished.map(timestamp),
            "resources": server.into_iter().chain([ip]).collect::<Vec<_>>(),
            "error": error,
        } })
    }

    /// As the API answers; `status` takes the place of the right one.
    pub fn answer(&self, http: u16, status: Option<&str>) -> Answer {
        let mut object = self.object();
        if let Some(status) = status {
            object["action"]["status"] = json!(status);
        }
        let code = status.unwrap_or(self.word()).to_owned();
        Answer { code: Some(code), ..Answer::json(http, &object) }
    }
}

/// As in the API's objects: 2026-02-28T23:59:59+00:00.
pub fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (of_day, mut days) = (seconds % 86_400, seconds / 86_400);
    let is_leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 0;
    let february = 28 + u64::from(is_leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}+00:00", month + 1, days + 1)
}
