//! Failover: a takeover, the guard of a route, the keeper of a node.

pub mod guard;
pub mod hook;
pub mod keeper;
pub mod readiness;
pub mod takeover;
