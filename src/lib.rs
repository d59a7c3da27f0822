//! uWSGI plugin that moves a failover IP to the Lord of a uWSGI Legion.
//!
//! Data flows in one direction:
//!
//! ```text
//! uWSGI hook → plugin (door) → startup (its hooks, read once) → failover (decides) → hosters (asks the API)
//!                    ↑ return code, one log line a step ← verdict ←
//! ```
//!
//! The rooms, from the ground up. Each may use those above it in this list, and none below it:
//!
//! - `text`: which part of a foreign text may be logged.
//! - `sys`: threads, and the addresses of this host.
//! - `uwsgi`: everything that is uWSGI's: its structs, its calls, its Legions, its log. Only here and in `sys` and `plugin`
//!   is there `unsafe`.
//! - `config`: a hook's argument and a Legion's options, from text to checked values.
//! - `https`: a request and its answer.
//! - `health`: whether this node serves, and whether it is drained.
//! - `metrics`: what is counted.
//! - `hosters`: the seam to the companies that run the network, and a folder for each of them.
//! - `failover`: takeovers, and everything that keeps a failover IP where it belongs.
//! - `startup`: reads all hooks at start, and reports what is wrong with them.
//! - `commands`: the operator's commands.
//! - `process`: what the process remembers, in one place.
//! - `plugin`: the door: what uWSGI finds and calls.

mod commands;
mod config;
mod failover;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod health;
mod hosters;
mod https;
mod metrics;
mod plugin;
mod process;
mod startup;
mod sys;
mod text;
mod uwsgi;
