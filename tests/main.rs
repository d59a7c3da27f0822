//! The plugin as a sysadmin meets it: built, loaded and run by real uWSGI, against the Robot stand-in.
//!
//! Run by `make test`, which fetches both uWSGIs and builds the plugin for each.

mod action;
mod answers;
mod builds;
mod commands;
#[path = "soak/growth.rs"]
mod growth;
mod keyval;
mod legion;
mod outage;
mod package;
mod promise;
mod robot;
mod startup;
// What only the demo needs is here too.
#[allow(dead_code)]
mod support;
mod sysadmin;
