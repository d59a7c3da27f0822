//! The operating system: threads that take no signals, and the addresses of this host. Knows nothing of uWSGI.

#![allow(unsafe_code)]

mod interfaces;
mod threads;

pub use interfaces::{interface_addresses, is_here, net};
pub use threads::{lock, side_by_side, spawn};
