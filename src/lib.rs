//! uWSGI plugin that moves a Hetzner failover IP to the Lord of a uWSGI Legion.
//!
//! The way of the data, one direction:
//!
//! ```text
//! uWSGI hook → plugin (door) → options (text to a checked value) → takeover (decides) → robot (asks the API)
//!                    ↑ return code, one log line a step ← verdict ←
//! ```
//!
//! Around it: `hook` runs a takeover while the Legion is kept informed, `guard` makes sure of the route as long
//! as this node is Lord, `keeper` that this node is a member of its Legion. `startup` tells at start what is wrong, `commands` are the operator's, `metrics` what is
//! counted.
//!
//! Only `host` and `plugin` know uWSGI and may use `unsafe`; only `robot` knows Hetzner's Robot API.
//! Between it and the rest lies `hoster`, the seam for another hoster.

mod commands;
mod config;
mod failover;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod hosters;
mod https;
mod metrics;
mod plugin;
mod startup;
mod sys;
mod text;
mod uwsgi;
