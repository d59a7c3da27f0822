//! What `make fuzz` runs, with whatever input it has found: it panics where that is read wrongly.

/// A hook's argument.
pub fn options(argument: &[u8]) {
    crate::hosters::fuzz::check_options(argument);
}

/// The argument of a hook with a floating IP.
pub fn cloud_options(argument: &[u8]) {
    crate::hosters::fuzz::check_cloud_options(argument);
}

/// A datagram of a Legion, decrypted.
pub fn announcement(input: &[u8]) {
    crate::uwsgi::check_announcement(input);
}

/// An answer of the Robot webservice, and where it leads if it is a redirect.
pub fn answer(status: u16, location: Option<String>, body: Vec<u8>) {
    crate::hosters::fuzz::check_answer(&crate::https::Answer { status, location, body });
}

/// An answer of the Cloud API.
pub fn cloud_answer(status: u16, location: Option<String>, body: Vec<u8>) {
    crate::hosters::fuzz::check_cloud_answer(&crate::https::Answer { status, location, body });
}
