//! What a supervisor and a slot process say to each other: a JSON object a line, orders to its
//! standard input, reports from its standard output.

use crate::child_rules::ChildRules;
use crate::command::CommandModes;
use crate::python;
use crate::slot::LinkOrder;
use muster_proto::worker::Method;
use serde::{Deserialize, Serialize};

/// What a slot process is told first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SlotProgram {
    /// The worker's name and host.
    pub worker: String,
    pub host: String,
    /// Whether it runs the built-in functions.
    pub builtin: bool,
    /// Commands as given, and how they are run.
    pub commands: Vec<String>,
    pub modes: CommandModes,
    /// Whether it runs commands of clients.
    pub allow_run: bool,
    /// What holds for the children.
    pub rules: ChildRules,
    pub python: Option<python::Source>,
    /// What the Python modules offer.
    pub python_methods: Vec<Method>,
    /// Patterns of methods that must not run twice.
    pub once: Vec<String>,
    /// Endpoints of brokers to be a stock REP for.
    pub plain: Vec<String>,
}

/// From the supervisor to a slot process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Who it is: the first order.
    Start {
        number: u32,
        program: Box<SlotProgram>,
    },
    /// Join this broker.
    Link(LinkOrder),
    /// The broker is lost: do not join before the next such order.
    Suspend,
    /// Give the call with this number back.
    Recall(u32),
    /// Cancel the call with this number.
    Cancel(u32),
    /// Take a fresh child, and offer what this program does.
    Reload(Box<SlotProgram>),
    /// End when no call is left.
    Drain,
}

/// From a slot process to the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// Whether the call with this number was given back.
    Recalled(u32, bool),
    /// The cancelled call with this number has ended, or will not start.
    Ended(u32),
    /// Whether a fresh child serves, as ordered.
    Reloaded(bool),
    /// It has answered its first call.
    Answered,
}
