//! Reads the argument of a hook, and the options of a Legion, into checked values. Knows no hoster: each hoster defines its own keys and what they
//! mean. Uses only `text`, and for a secret's file `sys` and `uwsgi`, to read it in a thread.
//!
//! Everything wrong or doubtful is reported at once, before any request is sent. What the C plugin accepted and what
//! can still work is never refused, and keeps the C plugin's meaning where that is safe: it read its argument with
//! uWSGI's own keyval parser, which ignores unknown keys and uses the last of two values, and it passed `timeout` to
//! atoi() and the rest to curl. No remark shows a secret, not even the part of it after an unescaped comma.

mod argument;
mod check;
mod common;
mod key;
pub mod keyval;
mod legion;
mod remark;
mod secret;
mod url;

pub use argument::{Argument, parsed, shown};
pub use check::Check;
pub use common::{Common, Pace};
pub use key::{IP, Key, Takes, URL, distance};
pub use legion::{LEGION_OPTIONS, LegionOptions, OfLegion, read_legion_options};
pub use remark::{Remark, Weight};
pub use secret::Secret;
pub use url::{authority, checked_url, host_of, is_local};

#[cfg(any(test, feature = "fuzz"))]
pub mod properties;

#[cfg(test)]
mod tests;
