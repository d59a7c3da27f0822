//! The operating system: threads that take no signals, commands that uWSGI does not notice, and the addresses of this host. Knows nothing of uWSGI.

#![allow(unsafe_code)]

mod child;
mod interfaces;
mod threads;

pub use child::{Call, Ended, KEPT, LONGEST_END, Runner, end_commands, forget_ended};
pub use interfaces::{interface_addresses, is_here, net};
pub use threads::{lock, side_by_side, spawn};
