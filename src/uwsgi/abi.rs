//! uWSGI's structs as this plugin sees them.
//!
//! uWSGI checks nothing when it loads a plugin. So every size and offset here is compared at build time with the
//! `uwsgi.h` of the uWSGI that the plugin is built for: by `src/uwsgi/structs.c`, through the header that cbindgen
//! generates from this file. `struct uwsgi_server` is missing on purpose: it depends on version and build flags, so only
//! `src/uwsgi/calls.c` reads it.

use core::ffi::{c_char, c_int, c_void};

/// `struct uwsgi_plugin`, up to the last field that is set here.
///
/// uWSGI reads as much of it as its version knows. The struct has only ever grown at its end, so the zeroed tail is longer
/// than in any known version.
#[repr(C)]
pub struct UwsgiPlugin {
    pub name: *const c_char,
    pub alias: *const c_char,
    pub modifier1: u8,
    pub data: *mut c_void,
    pub on_load: Option<extern "C" fn()>,
    pub init: Option<extern "C" fn() -> c_int>,
    pub post_init: Option<extern "C" fn()>,
    pub post_fork: Option<extern "C" fn()>,
    pub options: *const UwsgiOption,
    pub unused: [Option<extern "C" fn()>; 9],
    pub master_cycle: Option<extern "C" fn()>,
    pub unused_too: [Option<extern "C" fn()>; 20],
    pub master_cleanup: Option<extern "C" fn()>,
    pub unused_rest: [Option<extern "C" fn()>; 33],
}

/// `struct uwsgi_option`: one command-line option. A list of them ends with a NULL name.
#[repr(C)]
pub struct UwsgiOption {
    pub name: *const c_char,
    pub kind: c_int,
    pub shortcut: c_int,
    pub help: *const c_char,
    pub func: Option<extern "C" fn(*const c_char, *const c_char, *mut c_void)>,
    pub data: *mut c_void,
    pub flags: u64,
}

/// `struct uwsgi_string_list`: the hooks of a Legion and the addresses it announces to.
#[repr(C)]
pub struct UwsgiStringList {
    pub value: *const c_char,
    pub len: usize,
    pub custom: u64,
    pub custom2: u64,
    pub custom_ptr: *mut c_void,
    pub next: *mut UwsgiStringList,
}

/// `struct uwsgi_legion_action`: one entry in the list of actions that hooks may name.
#[repr(C)]
pub struct UwsgiLegionAction {
    pub name: *const c_char,
    pub func: Option<extern "C" fn(*mut UwsgiLegion, *const c_char) -> c_int>,
    /// What uWSGI logs at each call. If unset, it logs the hook with its argument.
    pub log_msg: *const c_char,
    pub next: *mut UwsgiLegionAction,
}

/// `struct uwsgi_legion_node`: a peer that was heard from within the tolerance.
#[repr(C)]
pub struct UwsgiLegionNode {
    pub name: *const c_char,
    pub name_len: u16,
    pub valor: u64,
    pub uuid: [c_char; 37],
    pub scroll: *const c_char,
    pub scroll_len: u16,
    pub checksum: u64,
    pub lord_valor: u64,
    pub lord_uuid: [c_char; 36],
    /// Unix time, seconds.
    pub last_seen: i64,
    pub prev: *mut UwsgiLegionNode,
    pub next: *mut UwsgiLegionNode,
}

/// `struct uwsgi_legion`: this process's membership in one Legion.
#[repr(C)]
pub struct UwsgiLegion {
    /// Its name, as in `legion = NAME ...`.
    pub legion: *const c_char,
    pub legion_len: u16,
    pub valor: u64,
    pub addr: *const c_char,
    pub name: *const c_char,
    pub name_len: u16,
    pub pid: c_int,
    pub uuid: [c_char; 37],
    pub socket: c_int,
    pub quorum: c_int,
    pub changed: c_int,
    pub dead: c_int,
    pub joined: c_int,
    pub checksum: u64,
    pub scroll: *const c_char,
    pub scroll_len: u16,
    pub lord_scroll: *const c_char,
    pub lord_scroll_len: u16,
    pub lord_scroll_size: u16,
    pub lord_uuid: [c_char; 36],
    pub lord_valor: u64,
    /// Unix time (seconds) since which this node is Lord; 0 when it is not.
    pub i_am_the_lord: i64,
    pub unix_check: i64,
    pub last_warning: i64,
    pub lock: *mut c_void,
    pub encrypt_ctx: *mut c_void,
    pub decrypt_ctx: *mut c_void,
    pub scrolls: *const c_char,
    pub scrolls_len: u64,
    pub scrolls_max_size: u64,
    pub nodes_head: *mut UwsgiLegionNode,
    pub nodes_tail: *mut UwsgiLegionNode,
    /// None while an announcer has them.
    pub nodes: *mut UwsgiStringList,
    pub lord_hooks: *mut UwsgiStringList,
    pub unlord_hooks: *mut UwsgiStringList,
    pub setup_hooks: *mut UwsgiStringList,
    pub death_hooks: *mut UwsgiStringList,
    pub join_hooks: *mut UwsgiStringList,
    pub node_joined_hooks: *mut UwsgiStringList,
    pub node_left_hooks: *mut UwsgiStringList,
    /// Unix time, seconds.
    pub suspended_til: i64,
    pub next: *mut UwsgiLegion,
}
