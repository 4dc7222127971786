//! Hostile bytes for every parser that reads what a stranger or a peer sends.
//!
//! A target is a function of some bytes. It must return, whatever they are, and it checks what the
//! parser promises of its answer. `fuzz_targets` hands the targets to libFuzzer; [`mutator`] drives
//! the same functions on stable Rust, for a fixed number of runs that are the same everywhere.

pub mod mutator;
pub mod target;
