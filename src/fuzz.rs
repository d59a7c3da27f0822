//! What `make fuzz` runs, with whatever input it has found: it panics where that is read wrongly.

/// A datagram of a Legion, decrypted.
pub fn announcement(input: &[u8]) {
    crate::uwsgi::check_announcement(input);
}
