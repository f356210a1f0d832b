//! The queue of a connection's output, against a plain stream.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| windlass::fuzzing::outbound(bytes));
