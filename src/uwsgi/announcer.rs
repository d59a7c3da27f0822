//! Announces this node from a thread that is not uWSGI's.
//!
//! uWSGI's own announcement uses a cipher that belongs to the Legion's thread, so here is a copy of it. What is said is
//! uWSGI's own (`uwsgi_legion_announce` in its core/legion.c).

use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull, addr_of, addr_of_mut};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::announcement::Announcement;
use super::calls::{hetzner_call_copy_cipher, hetzner_call_name, hetzner_call_send};
use super::legion::{Legion, now, uuid};

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
        let cipher = NonNull::new(unsafe { hetzner_call_copy_cipher(legion.raw()) })?;
        Some(Announcer { legion, cipher })
    }

    /// Says to all nodes that this one is alive, as uWSGI would.
    pub fn announce(&mut self) {
        self.send(&announcement(self.legion));
    }

    /// Says to all nodes that the one that this was, with that valor, is dead.
    pub fn say_farewell(&mut self, valor: u64) {
        self.send(&Announcement { valor, dead: true, ..announcement(self.legion) });
    }

    fn send(&mut self, said: &Announcement<'_>) {
        let Some(datagram) = said.write() else { return };
        // SAFETY: the datagram is of that length, the cipher is ours, and the Legion's list of nodes and its socket stay
        // as they are since its thread has started.
        unsafe {
            hetzner_call_send(self.legion.raw(), self.cipher.as_ptr(), datagram.as_ptr(), datagram.len());
        }
    }
}

/// What uWSGI would say of this node now.
fn announcement(legion: Legion) -> Announcement<'static> {
    let raw = legion.raw();
    // SAFETY: texts are set before the Legion's thread starts, and stay. The numbers that it changes are aligned, and are
    // read as a whole; a uuid that is being changed is a vote for nobody, until the next round.
    unsafe {
        let number = |field: *mut u64| AtomicU64::from_ptr(field).load(Ordering::Relaxed);
        let scroll = match (*raw).scroll_len {
            length if length > 0 && !(*raw).scroll.is_null() => {
                &*ptr::slice_from_raw_parts((*raw).scroll.cast::<u8>(), length.into())
            }
            _ => b"",
        };
        Announcement {
            legion: CStr::from_ptr((*raw).legion).to_bytes(),
            valor: legion.valor(),
            unix: now(),
            lord: AtomicI64::from_ptr(addr_of_mut!((*raw).i_am_the_lord)).load(Ordering::Relaxed),
            name: CStr::from_ptr(hetzner_call_name()).to_bytes(),
            pid: (*raw).pid,
            uuid: uuid(addr_of!((*raw).uuid).cast()),
            checksum: number(addr_of_mut!((*raw).checksum)),
            lord_valor: number(addr_of_mut!((*raw).lord_valor)),
            lord_uuid: uuid(addr_of!((*raw).lord_uuid).cast()),
            scroll,
            dead: false,
        }
    }
}
