//! A hook's argument, from keyval list to options: the input is the argument.

#![no_main]

// The plugin is a cdylib, so its sources are taken in whole.
#[path = "../src/keyval.rs"]
mod keyval;
// Not everything that the plugin needs is needed here.
#[allow(dead_code, unused_imports)]
#[path = "../src/options.rs"]
mod options;
#[path = "../src/options/properties.rs"]
mod properties;
#[path = "../src/text.rs"]
mod text;

/// What a password's file is read by, which no argument here names.
mod host {
    pub fn may_have_threads() -> bool {
        false
    }

    pub fn spawn(_: impl FnOnce() + Send + 'static) -> Option<()> {
        None
    }
}

use libfuzzer_sys::fuzz_target;
use options::{Options, Parsed, Remark, Weight, address_at_its_end};

fuzz_target!(|argument: &[u8]| {
    properties::check(argument);
});
