//! What all slots of a worker have in common, and how one is started.

use crate::call_error::Origin;
use crate::plain::PlainSlot;
use crate::python::{self, Python};
use crate::registry::Registry;
use crate::rep::RepServers;
use crate::slot::{Desk, Slot, SlotSpec};
use crate::slot_handle::{SlotHandle, ThreadSlot};
use crate::slot_orders::SlotProgram;
use crate::slot_process::SlotProcess;
use muster_proto::socket::{Context, SocketError, Wake};
use std::io;
use std::sync::Arc;

/// What every slot of a worker is made of.
pub(crate) struct Crew {
    pub name: String,
    pub host: String,
    pub registry: Arc<Registry>,
    pub python: Option<python::Source>,
    /// Endpoints of other brokers at which slots are stock REP sockets; empty: managed slots.
    pub plain: Vec<String>,
    /// The stock servers that run the calls, one behind each slot; empty: the slots do.
    pub rep: Option<RepServers>,
    /// What the program was asked for, as slot processes and reloads need it.
    pub program: Option<Box<SlotProgram>>,
    pub placement: Placement,
}

/// Where slots live.
pub(crate) enum Placement {
    /// In this process.
    Threads,
    /// In processes of their own, so that each can be killed and replaced alone.
    Processes,
}

/// Why a slot could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// No descriptor, thread or process is left.
    #[error("cannot start a slot")]
    Io(#[from] io::Error),
    /// No socket is left.
    #[error("cannot start a slot")]
    Socket(#[from] SocketError),
}

impl Crew {
    /// The name of a slot.
    pub fn label(&self, number: u32) -> String {
        format!("{}.{number}", self.name)
    }

    /// Whether it runs functions that clients send.
    pub fn allows_apply(&self) -> bool {
        self.python
            .as_ref()
            .is_some_and(|source| source.allow_apply)
    }

    /// Starts a slot. `ended` is woken when it ends; `first_child` is a Python child that has
    /// loaded its modules already.
    pub fn start_slot(
        &self,
        number: u32,
        context: &Context,
        ended: &Wake,
        first_child: Option<Python>,
    ) -> Result<SlotHandle, SlotError> {
        match (&self.placement, &self.program) {
            (Placement::Processes, Some(program)) => {
                let process = SlotProcess::start(program, number, self.label(number))?;
                Ok(SlotHandle::Process(Box::new(process)))
            }
            (Placement::Threads, _) | (_, None) => {
                let desk = Arc::new(Desk::new()?);
                let spec = self.spec(number, Arc::clone(&desk), first_child);
                let run = self.slot_loop(context.clone(), spec)?;
                let thread = ThreadSlot::start(self.label(number), desk, ended, run)?;
                Ok(SlotHandle::Thread(thread))
            }
        }
    }

    /// What the slot with this number is made of.
    pub fn spec(&self, number: u32, desk: Arc<Desk>, first_child: Option<Python>) -> SlotSpec {
        SlotSpec {
            number,
            label: self.label(number),
            origin: Origin {
                worker: self.name.clone(),
                host: self.host.clone(),
                pid: std::process::id(),
            },
            registry: Arc::clone(&self.registry),
            python: self.python.clone(),
            first_child,
            rep: self
                .rep
                .as_ref()
                .and_then(|servers| servers.of_slot(number)),
            desk,
        }
    }

    /// The loop of a slot, managed or plain.
    #[allow(
        clippy::type_complexity,
        reason = "a closure that runs once, elsewhere"
    )]
    pub fn slot_loop(
        &self,
        context: Context,
        spec: SlotSpec,
    ) -> Result<Box<dyn FnOnce() -> Result<(), SocketError> + Send>, SocketError> {
        if self.plain.is_empty() {
            let slot = Slot::new(context, spec)?;
            return Ok(Box::new(move || slot.run()));
        }
        let slot = PlainSlot::new(&context, spec, &self.plain)?;
        Ok(Box::new(move || slot.run()))
    }
}
