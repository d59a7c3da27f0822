//! The argument of a hook: from text to checked values. Knows no hoster: each names its own keys, and says what they mean.
//! Touches nothing but `text`, and what reads a secret's file in a thread.
//!
//! Everything is found before anything is sent, and all at once: what cannot work, and what works, but not as one may
//! think. What the C plugin took and what can still work is never refused, and has the C plugin's meaning where that is
//! safe: it read its argument by uWSGI's own keyval parser, which passes over unknown keys and takes the last of two
//! values, handed `timeout` to atoi() and everything else to curl. No remark shows a secret, not even as the rest of one
//! that holds an unescaped comma.

mod argument;
mod common;
mod key;
pub mod keyval;
mod remark;
mod secret;
mod url;

pub use argument::{Argument, parsed, shown};
pub use common::{Common, Pace};
pub use key::{IP, Key, Takes, URL, distance};
pub use remark::{Remark, Weight};
pub use secret::{Secret, Unreadable};
pub use url::{checked_url, host_of};

#[cfg(test)]
pub mod properties;

#[cfg(test)]
mod tests;
