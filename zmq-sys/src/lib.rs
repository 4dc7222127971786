//! The C API of libzmq 4.3.5, built statically by this crate's build script.
//!
//! It stands in for the registry's `zmq-sys` (see the workspace's `[patch.crates-io]`), so the
//! names and types are those that the `zmq` crate expects: constants are `u32` as bindgen makes
//! them, errno values `i32`. Beyond that crate's needs come the options which Muster sets itself.

// C's names are kept; zmq.h and the reference manual of libzmq document them.
#![allow(non_camel_case_types)]

// Linked for its library alone: libzmq's CURVE calls it.
use libsodium_sys as _;

pub use std::os::fd::RawFd;

pub mod constant;
pub mod errno;
pub mod function;

pub use constant::*;
pub use function::*;
