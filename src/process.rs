//! What this process remembers, in one place. The door hands each room its part of it.

use std::sync::{LazyLock, Mutex, Once, OnceLock};

use crate::commands::Asked;
use crate::failover::Node;
use crate::hosters::Shared;
use crate::startup::Reading;

pub struct Process {
    /// Why nothing of this uWSGI may be read: the plugin was not built for it, and a reload has to go on anyway.
    pub unfit: OnceLock<String>,
    /// The plugin's options on the command line.
    pub asked: Mutex<Asked>,
    /// The options of Legions that are this plugin's: name and value of each, in order.
    pub legion_options: Mutex<Vec<(String, Vec<u8>)>>,
    /// The plugin's hooks and options, once uWSGI has read its configuration.
    pub reading: OnceLock<Reading>,
    pub shared: Shared,
    pub node: LazyLock<Node>,
    pub first_cycle: Once,
}

pub static PROCESS: Process = Process {
    unfit: OnceLock::new(),
    asked: Mutex::new(Asked::new()),
    legion_options: Mutex::new(Vec::new()),
    reading: OnceLock::new(),
    shared: Shared::new(),
    node: LazyLock::new(Node::default),
    first_cycle: Once::new(),
};
