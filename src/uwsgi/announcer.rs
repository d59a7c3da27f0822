//! Announces this node from a thread that is not uWSGI's.
//!
//! uWSGI's own announcement uses a cipher that belongs to the Legion's thread, so here is a copy of it. What is said is
//! uWSGI's own: the pairs of its protocol, in its own words.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull, addr_of, addr_of_mut};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::abi::UwsgiLegion;
use super::legion::{Legion, now, uuid};

// src/uwsgi/calls.c
unsafe extern "C" {
    fn hetzner_host_copy_cipher(legion: *mut UwsgiLegion) -> *mut c_void;
    fn hetzner_host_name() -> *const c_char;
    fn hetzner_host_send(legion: *mut UwsgiLegion, cipher: *mut c_void, pairs: *const u8, length: u16);
}

/// Announces one Legion.
pub struct Announcer {
    legion: Legion,
    cipher: NonNull<c_void>,
}

// SAFETY: the cipher is this announcer's alone, and OpenSSL's contexts may be used by any thread, one at a time.
unsafe impl Send for Announcer {}

impl Announcer {
    /// Called before the Legion's thread is started, which uses the cipher that is copied here.
    pub fn new(legion: Legion) -> Option<Announcer> {
        // SAFETY: the Legion's cipher is made while the configuration is read, and nobody uses it yet.
        let cipher = NonNull::new(unsafe { hetzner_host_copy_cipher(legion.raw()) })?;
        Some(Announcer { legion, cipher })
    }

    /// Says to all nodes that this one is alive, as uWSGI would.
    pub fn announce(&mut self) {
        self.send(&pairs(self.legion, self.legion.valor()));
    }

    /// Says to all nodes that the one that this was, with that valor, is dead.
    pub fn say_farewell(&mut self, valor: u64) {
        let mut pairs = pairs(self.legion, valor);
        put(&mut pairs, "dead", b"1");
        self.send(&pairs);
    }

    fn send(&mut self, pairs: &[u8]) {
        let Ok(length) = u16::try_from(pairs.len()) else { return };
        // SAFETY: the pairs are of that length, the cipher is ours, and the Legion's list of nodes and its socket stay
        // as they are since its thread has started.
        unsafe { hetzner_host_send(self.legion.raw(), self.cipher.as_ptr(), pairs.as_ptr(), length) }
    }
}

/// What uWSGI's own announcement says (`uwsgi_legion_announce` in its core/legion.c).
fn pairs(legion: Legion, valor: u64) -> Vec<u8> {
    let raw = legion.raw();
    let mut pairs = Vec::with_capacity(512);
    // SAFETY: texts and valor are set before the Legion's thread starts. The numbers that it changes are aligned, and
    // are read as a whole; a uuid that is being changed is a vote for nobody, until the next round.
    unsafe {
        let number = |field: *mut u64| AtomicU64::from_ptr(field).load(Ordering::Relaxed);
        let lord_since = AtomicI64::from_ptr(addr_of_mut!((*raw).i_am_the_lord)).load(Ordering::Relaxed);
        let text = |number: &dyn ToString| number.to_string().into_bytes();
        for (key, value) in [
            ("legion", CStr::from_ptr((*raw).legion).to_bytes().to_vec()),
            ("valor", text(&valor)),
            ("unix", text(&now())),
            ("lord", text(&lord_since)),
            ("name", CStr::from_ptr(hetzner_host_name()).to_bytes().to_vec()),
            ("pid", text(&(*raw).pid)),
            ("uuid", uuid(addr_of!((*raw).uuid).cast()).to_vec()),
            ("checksum", text(&number(addr_of_mut!((*raw).checksum)))),
            ("lord_valor", text(&number(addr_of_mut!((*raw).lord_valor)))),
            ("lord_uuid", uuid(addr_of!((*raw).lord_uuid).cast()).to_vec()),
        ] {
            put(&mut pairs, key, &value);
        }
        if !(*raw).scroll.is_null() && (*raw).scroll_len > 0 {
            let scroll =
                ptr::slice_from_raw_parts((*raw).scroll.cast::<u8>(), usize::from((*raw).scroll_len));
            put(&mut pairs, "scroll", &*scroll);
        }
    }
    pairs
}

/// A pair of uwsgi's protocol: each part behind its length, two bytes, the low one first.
fn put(pairs: &mut Vec<u8>, key: &str, value: &[u8]) {
    for part in [key.as_bytes(), value] {
        let Ok(length) = u16::try_from(part.len()) else { return };
        pairs.extend(length.to_le_bytes());
        pairs.extend(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_two_texts_behind_their_lengths() {
        let mut pairs = Vec::new();
        put(&mut pairs, "unix", b"1");
        put(&mut pairs, "", &[b'x'; 300]);
        assert_eq!(pairs[..9], *b"\x04\0unix\x01\x001");
        assert_eq!(pairs[9..13], [0, 0, 44, 1]);
        assert_eq!(pairs.len(), 9 + 4 + 300);
    }
}
