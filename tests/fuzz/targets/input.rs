//! The unread bytes of a connection and every way to consume them, against a plain list.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| windlass::fuzzing::input(bytes));
