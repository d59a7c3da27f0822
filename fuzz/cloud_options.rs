//! The argument of a hook with a floating IP, from the list of keys to checked values: the input is the argument.

#![no_main]

libfuzzer_sys::fuzz_target!(|argument: &[u8]| hetzner_plugin::fuzz::cloud_options(argument));
