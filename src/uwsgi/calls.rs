//! The functions of `src/uwsgi/calls.c`, declared once: `make header` generates their prototypes from this file, and the C
//! file includes them. So the C compiler rejects a function that does not match its declaration here.
//!
//! The C file says what each function does and where it may be called.

use core::ffi::{c_char, c_int, c_uint, c_void};

// Under their C names, for the prototypes.
use super::abi::{
    UwsgiLegion as uwsgi_legion, UwsgiLegionAction as uwsgi_legion_action,
    UwsgiStringList as uwsgi_string_list,
};

/// Longer than any datagram.
pub const DATAGRAM_ROOM: usize = 65_536;

/// By how much a datagram may grow when it is encrypted.
pub const SEAL: usize = 64;
/// To read a file.
pub const NEED_READ: c_int = 0;
/// To run a program.
pub const NEED_RUN: c_int = 1;
/// To look into a folder.
pub const NEED_ENTER: c_int = 2;

unsafe extern "C" {
    pub fn hetzner_call_log(line: *const c_char);
    pub fn hetzner_call_cflags() -> *mut c_char;
    pub fn hetzner_call_has_master() -> bool;
    pub fn hetzner_call_is_reloading() -> bool;
    pub fn hetzner_call_is_dying() -> bool;
    pub fn hetzner_call_exits_on_reload() -> bool;
    pub fn hetzner_call_name() -> *const c_char;

    pub fn hetzner_call_register_action(
        name: *const c_char,
        func: extern "C" fn(*mut uwsgi_legion, *const c_char) -> c_int,
    ) -> *mut uwsgi_legion_action;
    pub fn hetzner_call_register_hook(legion: *mut uwsgi_legion, event: *const c_char, hook: *const c_char);
    pub fn hetzner_call_has_action(name: *const c_char) -> bool;
    pub fn hetzner_call_asap(name: *const c_char, func: extern "C" fn(*const c_char) -> c_int);
    pub fn hetzner_call_register_metric(
        name: *const c_char,
        oid: *const c_char,
        is_counter: bool,
        value: *mut i64,
    );
    pub fn hetzner_call_alarm(name: *const c_char, message: *const c_char, length: usize);
    pub fn hetzner_call_has_alarm(name: *const c_char) -> bool;

    pub fn hetzner_call_legions() -> *mut uwsgi_legion;
    pub fn hetzner_call_legion_freq() -> c_int;
    pub fn hetzner_call_legion_tolerance() -> c_int;
    pub fn hetzner_call_skew_tolerance() -> c_int;
    pub fn hetzner_call_death_on_lord_error() -> bool;
    pub fn hetzner_call_read_lock(legion: *mut uwsgi_legion);
    pub fn hetzner_call_write_lock(legion: *mut uwsgi_legion);
    pub fn hetzner_call_unlock(legion: *mut uwsgi_legion);

    pub fn hetzner_call_announce(legion: *mut uwsgi_legion);
    pub fn hetzner_call_receive(legion: *mut uwsgi_legion, datagram: *mut [u8; DATAGRAM_ROOM]) -> isize;
    pub fn hetzner_call_copy_cipher(legion: *mut uwsgi_legion) -> *mut c_void;
    pub fn hetzner_call_seal(
        cipher: *mut c_void,
        datagram: *const u8,
        length: usize,
        sealed: *mut u8,
    ) -> isize;
    pub fn hetzner_call_send(
        legion: *mut uwsgi_legion,
        nodes: *mut uwsgi_string_list,
        cipher: *mut c_void,
        datagram: *const u8,
        length: usize,
    );

    pub fn hetzner_call_option(number: c_int, key: *mut *const c_char, value: *mut *const c_char) -> bool;
    pub fn hetzner_call_log_file(number: c_int) -> *const c_char;
    pub fn hetzner_call_chroot() -> *const c_char;
    pub fn hetzner_call_user_to_be() -> i64;
    pub fn hetzner_call_become_user() -> *const c_char;
    pub fn hetzner_call_try(path: *const c_char, need: c_int, uid: *mut c_uint) -> c_int;
}
