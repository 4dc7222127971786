//! The one that looks after a worker: it finds the broker, speaks for the worker on the control
//! link, starts the slots and sees them end. Its thread runs no function.

mod leaving;
mod nested;
mod reload;
mod slots;

use crate::address::{FindError, Finder, Found};
use crate::backoff::Backoff;
use crate::command::RunFunction;
use crate::control::{Control, ControlEvent};
use crate::crew::{Crew, SlotError};
use crate::descendants::Guard;
use crate::python::{Python, readiness};
use crate::rep::RepServers;
use crate::slot::LinkOrder;
use crate::slot_handle::SlotHandle;
use crate::stopper::Stopper;
use leaving::Leaving;
use muster_proto::socket::{Context, Interest, PollItem, SocketError, poll, random_bytes};
use muster_proto::worker::{Recalled, Refused, Registration, VERSION, Welcome};
use nested::NestedSlots;
use reload::Reload;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After this long without its broker a worker says so.
const SILENCE_NOTE: Duration = Duration::from_secs(1);

/// Why a worker can't serve, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The broker refuses it for good.
    #[error("the broker refuses this worker: {}", .0.message)]
    Refused(Refused),
    /// The broker can't even be looked for.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A slot can't be started.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// Sockets can't be used.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The system has no random bytes.
    #[error("no random bytes for the worker's token")]
    Random(#[source] std::io::Error),
}

/// Looks after one worker.
pub(crate) struct Supervisor {
    context: Context,
    crew: Crew,
    stopper: Stopper,
    control: Control,
    /// `None`: slots for stock brokers only, nothing to register at.
    finder: Option<Finder>,
    found: Option<Found>,
    /// The broker is not there: look for it.
    is_searching: bool,
    /// When its silence is worth a word: a broker that ends is often followed by us, or by its
    /// successor at once.
    tell_at: Option<Instant>,
    was_told: bool,
    generation: u64,
    link: Option<LinkOrder>,
    slots: BTreeMap<u32, SlotHandle>,
    nested: NestedSlots,
    /// Slots that ended by themselves, and when they start again.
    fallen: BTreeMap<u32, Instant>,
    backoffs: BTreeMap<u32, Backoff>,
    leaving: Leaving,
    reload: Reload,
    /// Another one was asked for meanwhile.
    reloads_again: bool,
    /// Ends what the worker leaves behind, if it has children.
    guard: Option<Guard>,
    grace: Duration,
}

impl Supervisor {
    pub fn new(
        context: Context,
        crew: Crew,
        finder: Option<Finder>,
        slots: u32,
        grace: Duration,
        stopper: Stopper,
    ) -> Result<Self, ServeError> {
        let token: [u8; 16] = random_bytes().map_err(ServeError::Random)?;
        let registration = Registration {
            protocol: (VERSION, VERSION),
            token: token.iter().map(|byte| format!("{byte:02x}")).collect(),
            name: crew.name.clone(),
            host: crew.host.clone(),
            pid: std::process::id(),
            slots,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            methods: crew.registry.methods(),
            raw: crew.rep.as_ref().is_some_and(RepServers::takes_raw),
            allow_run: crew.registry.find(RunFunction::METHOD).is_some(),
            allow_apply: crew.allows_apply(),
        };
        Ok(Supervisor {
            control: Control::new(context.clone(), registration),
            context,
            crew,
            stopper,
            is_searching: finder.is_some(),
            finder,
            found: None,
            tell_at: None,
            was_told: false,
            generation: 0,
            link: None,
            slots: BTreeMap::new(),
            nested: NestedSlots::default(),
            fallen: BTreeMap::new(),
            backoffs: BTreeMap::new(),
            leaving: Leaving::No,
            reload: Reload::No,
            reloads_again: false,
            guard: None,
            grace,
        })
    }

    /// Has this guard, and another when it ends.
    pub fn be_guarded(&mut self, guard: Guard) {
        self.guard = Some(guard);
    }

    fn keep_guard(&mut self) {
        if let Some(guard) = &mut self.guard
            && guard.has_ended()
        {
            self.guard = Guard::start(&self.crew.name)
                .inspect_err(|error| log::error!("worker={}: no guard: {error}", self.crew.name))
                .ok();
        }
    }

    /// Serves until the stopper says to end. `first_child`: for the first slot.
    pub fn run(mut self, first_child: Option<Python>) -> Result<(), ServeError> {
        let mut first_child = first_child;
        for number in 1..=self.control.registration().slots {
            self.start_slot(number, first_child.take())?;
        }
        let mut events = Vec::new();
        loop {
            self.heed_stopper()?;
            self.search()?;
            self.tell_silence();
            self.control.step(&mut events)?;
            for event in events.drain(..) {
                self.heed_broker(event)?;
            }
            self.heed_slots()?;
            self.step_reload()?;
            self.keep_guard();
            if self.step_leaving() {
                break;
            }
            self.wait()?;
        }
        self.control.leave()?;
        log::info!("worker={}: stopped", self.crew.name);
        Ok(())
    }

    /// Looks for the broker while it is not there.
    fn search(&mut self) -> Result<(), ServeError> {
        let Some(finder) = self.finder.as_mut().filter(|_| self.is_searching) else {
            return Ok(());
        };
        match finder.look()? {
            // It goes on until the broker answers: what was found may be of its predecessor.
            Some(found) if self.found.as_ref() != Some(&found) => {
                log::debug!("worker={}: connecting to {}", self.crew.name, found.workers);
                self.control.connect(&found)?;
                self.found = Some(found);
            }
            Some(_) => {}
            None if self.tell_at.is_some() || self.leaving != Leaving::No => {}
            None if !self.was_told && !finder.reason().is_empty() => {
                self.was_told = true;
                log::warn!(
                    "worker={}: {}; waiting for one (`muster-broker` starts it)",
                    self.crew.name,
                    finder.reason()
                );
            }
            None => {}
        }
        Ok(())
    }

    /// Says once that the broker is not there, when it has been so for a while.
    fn tell_silence(&mut self) {
        if self.tell_at.is_some_and(|at| at <= Instant::now()) {
            self.tell_at = None;
            if self.leaving == Leaving::No {
                self.was_told = true;
                log::warn!(
                    "worker={}: the broker does not answer; waiting",
                    self.crew.name
                );
            }
        }
    }

    fn heed_broker(&mut self, event: ControlEvent) -> Result<(), ServeError> {
        match event {
            ControlEvent::Welcome { welcome, is_new } => self.welcomed(welcome, is_new),
            ControlEvent::Refused(refused) => return Err(ServeError::Refused(refused)),
            ControlEvent::Silent => {
                if !self.was_told {
                    self.tell_at = Some(Instant::now() + SILENCE_NOTE);
                }
                self.is_searching = true;
                if let Some(finder) = &mut self.finder {
                    finder.restart();
                }
                self.slots.values_mut().for_each(SlotHandle::suspend);
                // Nobody is left to show that it heard.
                if let Leaving::Told { end, .. } = self.leaving {
                    self.drain_slots(end);
                }
            }
            ControlEvent::Back => {
                log::info!("worker={}: the broker answers again", self.crew.name);
                (self.was_told, self.is_searching) = (false, false);
                self.tell_at = None;
                self.order_links();
            }
            ControlEvent::Cancel(call) => {
                if let Some(slot) = self.slots.get_mut(&call.slot) {
                    slot.cancel(call.seq);
                }
            }
            ControlEvent::Recall(calls) => {
                let answers = calls.into_iter().filter_map(|call| {
                    let given_back = self.slots.get_mut(&call.slot)?.recall(call)?;
                    Some(Recalled { call, given_back })
                });
                let answers: Vec<Recalled> = answers.collect();
                if !answers.is_empty() {
                    self.control.send_recalled(&answers)?;
                }
            }
            ControlEvent::Drain(grace) => self.drain(grace.unwrap_or(self.grace))?,
            ControlEvent::Resize(slots) => self.resize(slots)?,
            ControlEvent::Open(nest) => {
                if self.leaving == Leaving::No {
                    self.open_nested(nest)?;
                }
            }
            ControlEvent::Close(number) => self.close_nested(number),
            ControlEvent::Reload => self.reload(),
            ControlEvent::Beat => {
                if let Leaving::Told { end, .. } = self.leaving {
                    self.drain_slots(end);
                }
            }
        }
        Ok(())
    }

    fn welcomed(&mut self, welcome: Welcome, is_new: bool) {
        let Some(found) = &self.found else { return };
        (self.was_told, self.is_searching) = (false, false);
        self.tell_at = None;
        if !is_new {
            // The control link alone was gone: the slots are where they were.
            log::debug!("worker={}: known to the broker as before", welcome.name);
            return self.order_links();
        }
        let (slots, methods) = (self.slots.len(), self.crew.registry.len());
        log::info!(
            "worker={}: {slots} slots offer {methods} methods",
            welcome.name
        );
        if welcome.name != self.crew.name {
            let (name, old) = (&welcome.name, &self.crew.name);
            log::warn!("worker={name}: the name {old} was taken");
        }
        crate::log_file::rename(&welcome.name);
        self.generation += 1;
        let link = LinkOrder {
            endpoint: found.workers.clone(),
            curve: found.curve.clone(),
            token: self.control.registration().token.clone(),
            worker: welcome.name,
            generation: self.generation,
            nest: None,
        };
        self.link = Some(link);
        self.close_all_nested();
        self.order_links();
    }

    fn order_links(&mut self) {
        if let Some(link) = &self.link {
            for (&number, slot) in &mut self.slots {
                slot.order_link(&self.nested.order(number, link));
            }
        }
    }

    /// Waits until something happens or is due.
    fn wait(&mut self) -> Result<(), ServeError> {
        let search_due = self
            .finder
            .as_ref()
            .filter(|_| self.is_searching)
            .map(Finder::due);
        let leaving_due = self.leaving.due();
        let slots_due = self.slots.values().filter_map(SlotHandle::due).min();
        let fallen_due = self.fallen.values().min().copied();
        let due = [
            search_due,
            self.tell_at,
            leaving_due,
            slots_due,
            fallen_due,
            self.reload.due(),
            self.control.due(),
        ];
        let timeout = due
            .into_iter()
            .flatten()
            .min()
            .map(|due| due.saturating_duration_since(Instant::now()));
        let mut items = vec![PollItem::fd(self.stopper.wake(), Interest::Read)];
        items.extend(self.control.poll_items());
        let asked = self
            .finder
            .as_ref()
            .filter(|_| self.is_searching)
            .and_then(Finder::socket);
        items.extend(asked.map(|socket| PollItem::socket(socket, Interest::Read)));
        for slot in self.slots.values() {
            if let SlotHandle::Process(process) = slot {
                items.extend(process.poll_items());
            }
        }
        let guard = self.guard.as_ref().and_then(Guard::pidfd);
        let guard = guard.as_ref().map(|fd| PollItem::fd(fd, Interest::Read));
        items.extend(guard);
        let reload_items = items.len();
        items.extend(self.reload.poll_items());
        poll(&mut items, timeout)?;
        let ready = (reload_items < items.len()).then(|| readiness(&items[reload_items..]));
        drop(items);
        self.reload.heed(ready);
        self.stopper.wake().drain();
        Ok(())
    }
}
