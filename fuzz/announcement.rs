//! What another node of the Legion may send: the input is a datagram with its header, decrypted.

#![no_main]

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| hetzner_plugin::fuzz::announcement(datagram));
