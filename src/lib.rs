//! uWSGI plugin that moves a failover IP to the Lord of a uWSGI Legion.
//!
//! The way of the data, one direction:
//!
//! ```text
//! uWSGI hook → plugin (door) → startup (its hooks, read once) → failover (decides) → hosters (asks the API)
//!                    ↑ return code, one log line a step ← verdict ←
//! ```
//!
//! The rooms, from the ground up. Each may use those above it in this list, and none below:
//!
//! - `text`: what of a foreign text may be shown.
//! - `sys`: threads, and the addresses of this host.
//! - `uwsgi`: all that is uWSGI's: its structs, its calls, its Legions, its log. With `sys` and `plugin` the only place
//!   for `unsafe`.
//! - `config`: a hook's argument, from text to checked values.
//! - `https`: a request and its answer.
//! - `metrics`: what is counted.
//! - `hosters`: the seam to whoever runs the network, and a folder for each of them.
//! - `failover`: takeovers, and all that keeps a failover IP where it belongs.
//! - `startup`: reads all hooks at start, and tells what is wrong with them.
//! - `commands`: the operator's.
//! - `process`: what a process remembers, in one place.
//! - `plugin`: the door: what uWSGI finds, and calls.

mod commands;
mod config;
mod failover;
mod hosters;
mod https;
mod metrics;
mod plugin;
mod process;
mod startup;
mod sys;
mod text;
mod uwsgi;
