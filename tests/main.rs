//! The plugin as a sysadmin meets it: built, loaded and run by real uWSGI, against the Robot stand-in.
//!
//! Run by `make test`, which fetches both uWSGIs and builds the plugin for each.

mod action;
mod answers;
mod badcommand;
mod beside;
mod builds;
mod check;
mod cloud;
mod commands;
mod dns;
mod dns_record;
mod drain;
mod examples;
mod exoscale_eip;
mod failovercommand;
mod floatingip;
mod growth;
mod health;
mod init_script;
mod installation;
mod legion;
mod membership;
mod mistaken;
mod ocf;
mod outage;
mod ovh_ip;
mod own;
mod package;
mod privileges;
mod promise;
mod rank;
mod readiness;
mod rejected;
mod reload;
mod reload_bridge;
mod scripts;
mod sickness;
mod startup;
mod strays;
mod stuck;
mod sysadmin;
mod told;
