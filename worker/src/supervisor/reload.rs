//! How a worker gets fresh Python children after their files changed, without a call lost: the
//! files are tried in a child of their own first, then slot after slot gets one of its own, which
//! loads while the old one serves and takes over between two calls.
//!
//! Until the last slot is done the broker is told of those methods alone that old and new children
//! have in common.

use super::{ServeError, Supervisor};
use crate::program::registry_of;
use crate::python::Python;
use crate::slot_orders::SlotProgram;
use muster_proto::socket::PollItem;
use muster_proto::worker::Method;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// A slot that is in a call for so long is left to it: the next slot has its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far a reload has come.
#[derive(Default)]
pub(super) enum Reload {
    /// There is none.
    #[default]
    No,
    /// A child tries the files.
    Trying(Box<Python>),
    /// The slots have their turns.
    Replacing(Replacing),
}

/// Slots on their way to fresh children.
pub(super) struct Replacing {
    /// Those whose turn is to come.
    queue: VecDeque<u32>,
    /// Those that were told and have not said that they are done.
    told: BTreeSet<u32>,
    /// When the next one has its turn, whatever the last one does.
    due: Instant,
    failures: u32,
}

impl Reload {
    /// What a child that tries the files may say.
    pub(super) fn poll_items(&self) -> impl Iterator<Item = PollItem<'_>> {
        let python = match self {
            Reload::Trying(python) => Some(python),
            Reload::No | Reload::Replacing(_) => None,
        };
        python
            .into_iter()
            .flat_map(|python| python.poll_items(true))
    }

    /// Looks at what was seen of [`Self::poll_items`].
    pub(super) fn heed(&mut self, ready: Option<[bool; 4]>) {
        if let (Reload::Trying(python), Some(ready)) = (self, ready) {
            python.heed(ready);
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Reload::Replacing(replacing) if !replacing.queue.is_empty() => Some(replacing.due),
            _ => None,
        }
    }
}

impl Supervisor {
    /// Begins a reload; one that is under way is followed by another.
    pub(super) fn reload(&mut self) {
        let name = &self.crew.name;
        let Some(source) = &self.crew.python else {
            log::info!("worker={name}: nothing to reload, it has no Python functions");
            return;
        };
        if !matches!(self.reload, Reload::No) {
            self.reloads_again = true;
            return;
        }
        log::info!("worker={name}: reloading {}", source.modules.join(", "));
        match Python::start(source, &format!("{name}.reload"), name, &self.crew.host) {
            Ok(python) => self.reload = Reload::Trying(Box::new(python)),
            Err(error) => log::error!("worker={name}: it goes on as before: {error}"),
        }
    }

    /// Goes on with a reload.
    pub(super) fn step_reload(&mut self) -> Result<(), ServeError> {
        match &mut self.reload {
            Reload::No => {
                if std::mem::take(&mut self.reloads_again) {
                    self.reload();
                }
            }
            Reload::Trying(python) => match python.loaded() {
                Ok(None) => {}
                Ok(Some(hello)) => {
                    self.reload = Reload::No;
                    self.replace_children(hello.methods)?;
                }
                Err(error) => {
                    let name = &self.crew.name;
                    log::error!("worker={name}: it goes on as before: {error}");
                    self.reload = Reload::No;
                }
            },
            Reload::Replacing(replacing) => {
                if replacing.due <= Instant::now() {
                    self.reload_next()?;
                }
            }
        }
        Ok(())
    }

    /// The files can be loaded, and offer these methods.
    fn replace_children(&mut self, methods: Vec<Method>) -> Result<(), ServeError> {
        let Some(program) = &self.crew.program else {
            return Ok(());
        };
        let program = SlotProgram {
            python_methods: methods,
            ..SlotProgram::clone(program)
        };
        let registry = match registry_of(&program) {
            Ok(registry) => registry,
            Err(error) => {
                let name = &self.crew.name;
                log::error!("worker={name}: it goes on as before: {error}");
                return Ok(());
            }
        };
        let mut common = registry.methods();
        common.retain(|method| self.crew.registry.find(&method.name).is_some());
        if !common.is_empty() {
            self.control
                .change(|registration| registration.methods = common)?;
        }
        self.crew.registry = registry.into();
        self.crew.program = Some(Box::new(program));
        self.reload = Reload::Replacing(Replacing {
            queue: self.slots.keys().copied().collect(),
            told: BTreeSet::new(),
            due: Instant::now(),
            failures: 0,
        });
        self.reload_next()
    }

    /// The next slot has its turn.
    fn reload_next(&mut self) -> Result<(), ServeError> {
        let Reload::Replacing(replacing) = &mut self.reload else {
            return Ok(());
        };
        let Some(program) = &self.crew.program else {
            return Ok(());
        };
        while let Some(number) = replacing.queue.pop_front() {
            let Some(slot) = self.slots.get_mut(&number) else {
                continue;
            };
            if slot.reload(program, &self.crew.registry) {
                replacing.told.insert(number);
                replacing.due = Instant::now() + PATIENCE;
                return Ok(());
            }
        }
        if !replacing.told.is_empty() {
            return Ok(());
        }
        let (name, failures) = (&self.crew.name, replacing.failures);
        let methods = self.crew.registry.methods();
        if failures == 0 {
            log::info!("worker={name}: reloaded, {} methods", methods.len());
        } else {
            log::error!("worker={name}: {failures} slots could not reload and go on as before");
        }
        self.reload = Reload::No;
        self.control
            .change(|registration| registration.methods = methods)?;
        Ok(())
    }

    /// A slot has a fresh child, or has failed to get one, or is gone.
    pub(super) fn slot_reloaded(&mut self, number: u32, is_done: bool) -> Result<(), ServeError> {
        let Reload::Replacing(replacing) = &mut self.reload else {
            return Ok(());
        };
        if !replacing.told.remove(&number) {
            return Ok(());
        }
        replacing.failures += u32::from(!is_done);
        self.reload_next()
    }
}
