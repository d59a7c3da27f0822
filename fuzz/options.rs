//! A hook's argument, from the list of keys to checked values: the input is the argument.

#![no_main]

libfuzzer_sys::fuzz_target!(|argument: &[u8]| hetzner_plugin::fuzz::options(argument));
