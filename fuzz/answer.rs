//! What the API may answer. The input's first line is the status, and behind a blank where a redirect leads; what
//! follows is the body.

#![no_main]

// The plugin is a cdylib, so its sources are taken in whole.
#[path = "../src/robot/answer.rs"]
mod answer;
#[allow(dead_code)]
#[path = "../src/hoster.rs"]
mod hoster;
#[path = "../src/robot/answer/properties.rs"]
mod properties;
#[path = "../src/text.rs"]
mod text;

use answer::{Answer, Reader, rate_limited_for};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    properties::check(&read(input));
});

fn read(input: &[u8]) -> Answer {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let head = String::from_utf8_lossy(&input[..end]);
    let (status, location) = match head.split_once(' ') {
        Some((status, location)) => (status, Some(location.to_string())),
        None => (&*head, None),
    };
    // What is no status stands for the one behind which most is read.
    let status = status.parse().unwrap_or(200);
    Answer { status, location, body: input[end..].into() }
}
