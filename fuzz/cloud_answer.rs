//! What the Cloud API may answer. The input's first line is the status, and behind a blank where a redirect leads; what
//! follows is the body.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let head = String::from_utf8_lossy(&input[..end]);
    let (status, location) = match head.split_once(' ') {
        Some((status, location)) => (status, Some(location.to_string())),
        None => (&*head, None),
    };
    // What is no status stands for the one behind which most is read.
    let status = status.parse().unwrap_or(200);
    hetzner_plugin::fuzz::cloud_answer(status, location, input[end..].into());
});
