//! An answer ready to be sent.
//!
//! One that an account comes to and one that a fault scripts are the same type, so that a scripted error cannot differ by a
//! byte from one that the stand-in came to by itself.

use serde_json::Value;

/// A whole answer. One with a `code` is in the API's own form.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// What `error.code` of the body says, or how far an action is; for the journal.
    pub code: Option<String>,
    pub content_type: &'static str,
    /// Whatever else stands in the head, as where a redirect leads.
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    /// Any body with any status.
    pub fn raw(status: u16, content_type: &'static str, body: impl Into<String>) -> Answer {
        Answer { status, code: None, content_type, headers: Vec::new(), body: body.into() }
    }

    /// JSON with any status.
    pub fn json(status: u16, body: &Value) -> Answer {
        Answer::raw(status, "application/json", body.to_string())
    }

    /// 200 with JSON.
    pub fn ok(body: &Value) -> Answer {
        Answer::json(200, body)
    }

    /// A page such as a proxy in front of the API sends.
    pub fn html(status: u16) -> Answer {
        let body = format!("<!DOCTYPE html>\n<html><body><h1>{status}</h1></body></html>\n");
        Answer::raw(status, "text/html; charset=utf-8", body)
    }

    /// 302 to any URL.
    pub fn redirect(location: &str) -> Answer {
        Answer { headers: vec![("location", location.to_owned())], ..Answer::html(302) }
    }

    /// Where it redirects to.
    pub fn location(&self) -> Option<&str> {
        self.headers.iter().find(|(name, _)| *name == "location").map(|(_, value)| value.as_str())
    }

    /// Whether it says that what was asked for is done, or has begun.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}
