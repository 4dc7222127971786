//! Hosts functions for a Muster cluster.
//!
//! Embedded in a program of your own, [`Worker`] offers its closures:
//!
//! ```no_run
//! use muster_worker::Worker;
//!
//! Worker::new()
//!     .function("multiply", |x: i64, y: i64| x * y)
//!     .params(["x", "y"])
//!     .doc("Return x * y.")
//!     .serve("tcp://127.0.0.1:5555")?;
//! # Ok::<(), muster_worker::WorkerError>(())
//! ```
//!
//! The program `muster-worker` hosts Python modules, commands and a few built-in functions.
//!
//! A worker has one supervisor, whose thread runs no function and speaks for the worker on the
//! control link, and slots, each with a data link of its own. In a program that embeds the worker
//! slots are threads; in `muster-worker` whatever runs functions is a process of its own, to be
//! killed and replaced alone.

mod address;
mod answer;
mod attachment;
mod backoff;
mod builtin;
mod call_error;
mod cancel;
mod child;
mod child_rules;
mod chunk;
mod command;
mod context;
mod control;
mod crew;
mod descendants;
mod hosted;
mod link;
mod log_file;
mod memory;
mod native;
mod params;
mod plain;
#[doc(hidden)]
pub mod program;
mod python;
mod registry;
mod rep;
mod slot;
mod slot_handle;
mod slot_orders;
mod slot_process;
mod stopper;
mod supervisor;
mod worker;

pub use address::{BrokerAddress, FindError};
pub use answer::{Answer, Json};
pub use attachment::Attachment;
pub use call_error::CallError;
#[doc(hidden)]
pub use child_rules::{ChildRules, Environment};
#[doc(hidden)]
pub use command::{CommandError, CommandModes};
pub use context::CallContext;
pub use crew::SlotError;
#[doc(hidden)]
pub use log_file::ToFile;
pub use native::{Callable, ContextCallable};
pub use params::{Arguments, Params};
#[doc(hidden)]
pub use python::{LoadFailure, Source as PythonSource, StartError};
pub use registry::RegistryError;
#[doc(hidden)]
pub use rep::{RepError, RepServers};
pub use stopper::Stopper;
pub use supervisor::ServeError;
pub use worker::{Serving, Worker, WorkerError};
