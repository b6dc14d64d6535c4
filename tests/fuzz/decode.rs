//! Any bytes, read by the decoder: what `tests/it/events/fuzzed.rs` says must hold.
//!
//! It is separate from the tests because libFuzzer makes the bytes, guided by what code they
//! reach, and wants a program of its own.
#![no_main]

#[path = "../it/events/fuzzed.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzed::check(input));
