//! What the system does for the plugin beside uWSGI: threads that take no signals, and the addresses of this host.

#![allow(unsafe_code)]

mod interfaces;
mod threads;

pub use interfaces::{interface_addresses, is_here, net};
pub use threads::{lock, side_by_side, spawn};
