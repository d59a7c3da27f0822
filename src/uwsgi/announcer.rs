//! Announces this node from a thread that is not uWSGI's, as `uwsgi_legion_announce` in uWSGI's core/legion.c does, and in
//! its place.
//!
//! That function uses a cipher that belongs to the Legion's thread, so an announcer has a copy of it. It sends to a list of
//! nodes in the Legion's struct: without them it sends nothing, so an announcer takes them.

use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull, addr_of, addr_of_mut};
use std::sync::atomic::{AtomicI64, Ordering};

use super::abi::UwsgiStringList;
use super::announcement::Announcement;
use super::calls::{SEAL, hetzner_call_copy_cipher, hetzner_call_name, hetzner_call_seal, hetzner_call_send};
use super::legion::{Legion, now, uuid};

/// Announces one Legion.
pub struct Announcer {
    legion: Legion,
    cipher: NonNull<c_void>,
    /// Whether uWSGI is silenced, and to whom it would announce.
    is_silenced: bool,
    taken: *mut UwsgiStringList,
}

// SAFETY: only this announcer uses the cipher, and any thread may use an OpenSSL context, one at a time. The list of nodes
// does not change.
unsafe impl Send for Announcer {}

impl Announcer {
    /// Must be called before the Legion's thread starts, because that uses the cipher that is copied here.
    pub fn new(legion: Legion) -> Option<Announcer> {
        // SAFETY: the Legion's cipher exists since the configuration was read, and nothing uses it yet.
        let cipher = NonNull::new(unsafe { hetzner_call_copy_cipher(legion.raw()) })?;
        Some(Announcer { legion, cipher, is_silenced: false, taken: ptr::null_mut() })
    }

    /// From now on uWSGI announces this node to nobody.
    pub fn silence_uwsgi(&mut self) {
        self.is_silenced = true;
        let nodes = self.legion.take_nodes();
        if !nodes.is_null() {
            self.taken = nodes;
        }
    }

    /// From now on uWSGI announces this node itself again.
    pub fn let_uwsgi_speak(&mut self) {
        self.is_silenced = false;
        let nodes = std::mem::replace(&mut self.taken, ptr::null_mut());
        if !nodes.is_null() {
            self.legion.give_nodes_back(nodes);
        }
    }

    pub fn has_silenced_uwsgi(&self) -> bool {
        self.is_silenced
    }

    /// Tells all nodes that this one is alive.
    pub fn announce(&mut self) {
        self.send(&announcement(self.legion));
    }

    /// Tells all nodes that the node that this was with another valor is dead.
    pub fn say_farewell(&mut self, valor: u64) {
        self.send(&Announcement { valor, dead: true, ..announcement(self.legion) });
    }

    /// What tells the nodes that this one, with this valor, is alive, or is dead, as if it were sent at that time (Unix time,
    /// seconds): for somebody else to send. `None` if it cannot be encrypted.
    pub fn sealed(&mut self, valor: u64, dead: bool, unix: i64) -> Option<Vec<u8>> {
        self.seal(&Announcement { valor, dead, unix, ..announcement(self.legion) })
    }

    /// A known text, encrypted: another announcer makes the same of it only if cipher and secret are the same.
    pub fn probe(&mut self) -> Option<Vec<u8>> {
        self.seal(&Announcement { legion: b"a probe of cipher and secret", ..Announcement::EMPTY })
    }

    fn seal(&mut self, said: &Announcement<'_>) -> Option<Vec<u8>> {
        let datagram = said.write()?;
        let mut sealed = vec![0; datagram.len() + SEAL];
        // SAFETY: the datagram has that length, there is as much room as that function asks for, and the cipher is ours.
        let length = unsafe {
            hetzner_call_seal(self.cipher.as_ptr(), datagram.as_ptr(), datagram.len(), sealed.as_mut_ptr())
        };
        sealed.truncate(usize::try_from(length).ok()?);
        Some(sealed)
    }

    fn send(&mut self, said: &Announcement<'_>) {
        let Some(datagram) = said.write() else { return };
        // SAFETY: the datagram has that length, the cipher is ours, and the Legion's list of nodes and its socket do not
        // change any more once its thread has started.
        unsafe {
            let nodes = if self.taken.is_null() { (*self.legion.raw()).nodes } else { self.taken };
            let (cipher, length) = (self.cipher.as_ptr(), datagram.len());
            hetzner_call_send(self.legion.raw(), nodes, cipher, datagram.as_ptr(), length);
        }
    }
}

/// What uWSGI would announce now.
fn announcement(legion: Legion) -> Announcement<'static> {
    let raw = legion.raw();
    // SAFETY: the texts are set before the Legion's thread starts, and do not change. The numbers that it changes are
    // aligned and read atomically; a uuid read while it changes is a vote for no node, until the next round.
    unsafe {
        let (lord_valor, lord_uuid, checksum) = legion.vote();
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
            checksum,
            lord_valor,
            lord_uuid,
            scroll,
            dead: false,
        }
    }
}
