//! What this process remembers, in one place. The door hands each room its part of it.

use std::sync::{Mutex, Once, OnceLock};

use crate::commands::Asked;
use crate::failover::Node;
use crate::hosters::Shared;
use crate::startup::Reading;

pub struct Process {
    /// Set where this uWSGI is none that the plugin was built for, and has to go on all the same: nothing of it may be read.
    pub unfit: OnceLock<String>,
    /// The options of ours on the command line.
    pub asked: Mutex<Asked>,
    /// The hooks of ours, once uWSGI has read its configuration.
    pub reading: OnceLock<Reading>,
    pub shared: Shared,
    pub node: Node,
    pub first_cycle: Once,
}

pub static PROCESS: Process = Process {
    unfit: OnceLock::new(),
    asked: Mutex::new(Asked::new()),
    reading: OnceLock::new(),
    shared: Shared::new(),
    node: Node::new(),
    first_cycle: Once::new(),
};
