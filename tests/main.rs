//! The plugin as a sysadmin meets it: built, loaded and run by real uWSGI, against the Robot stand-in.
//!
//! Run by `make test`, which fetches both uWSGIs and builds the plugin for each.

mod action;
mod answers;
mod beside;
mod builds;
mod check;
mod commands;
mod examples;
#[path = "soak/growth.rs"]
mod growth;
mod init_script;
mod installation;
mod keyval;
mod legion;
mod membership;
mod mistaken;
mod outage;
mod own;
mod package;
mod privileges;
mod promise;
mod readiness;
mod rejected;
mod robot;
mod scene;
mod startup;
mod stuck;
// What only the demo needs is here too.
#[allow(dead_code)]
mod support;
mod sysadmin;
mod told;
