//! How a worker leaves: no more calls, what runs is finished, then goodbye; or at once.

use super::{ServeError, Supervisor};
use crate::slot::Phase;
use std::time::{Duration, Instant};

/// How long a draining worker waits for the broker's sign that it was heard.
const HEARD_WAIT: Duration = Duration::from_secs(1);
/// How long slots that were stopped may take to end.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// How far a worker that leaves has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The broker was told and has not shown that it heard.
    Told {
        heard_by: Instant,
        end: Instant,
    },
    /// The slots finish what they have.
    Draining {
        end: Instant,
    },
    /// They don't any more.
    Stopping {
        end: Instant,
    },
}

impl Leaving {
    /// When the next step is due.
    pub(super) fn due(self) -> Option<Instant> {
        match self {
            Leaving::No => None,
            Leaving::Told { heard_by, .. } => Some(heard_by),
            Leaving::Draining { end } | Leaving::Stopping { end } => Some(end),
        }
    }
}

impl Supervisor {
    pub(super) fn heed_stopper(&mut self) -> Result<(), ServeError> {
        match (self.stopper.phase(), self.leaving) {
            (Phase::Drain, Leaving::No) => self.drain(self.grace)?,
            (Phase::Stop, Leaving::Stopping { .. }) => {}
            (Phase::Stop, _) => {
                log::info!("worker={}: stopping at once", self.crew.name);
                self.stop_slots();
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn drain(&mut self, grace: Duration) -> Result<(), ServeError> {
        if self.leaving != Leaving::No {
            return Ok(());
        }
        let now = Instant::now();
        let end = now
            .checked_add(grace)
            .unwrap_or(now + Duration::from_secs(86_400));
        log::info!(
            "worker={}: draining for up to {} s; a second signal stops it at once",
            self.crew.name,
            grace.as_secs_f32()
        );
        if self.control.is_registered() {
            self.control.send_draining()?;
            self.leaving = Leaving::Told {
                heard_by: now + HEARD_WAIT,
                end,
            };
        } else {
            self.drain_slots(end);
        }
        Ok(())
    }

    pub(super) fn drain_slots(&mut self, end: Instant) {
        self.leaving = Leaving::Draining { end };
        self.slots
            .values_mut()
            .for_each(|slot| slot.order_end(Phase::Drain));
    }

    fn stop_slots(&mut self) {
        self.leaving = Leaving::Stopping {
            end: Instant::now() + STOP_WAIT,
        };
        self.slots
            .values_mut()
            .for_each(|slot| slot.order_end(Phase::Stop));
    }

    /// Goes on with leaving; true when nothing is left to do.
    pub(super) fn step_leaving(&mut self) -> bool {
        let now = Instant::now();
        match self.leaving {
            Leaving::No => return false,
            Leaving::Told { heard_by, end } if heard_by <= now => self.drain_slots(end),
            Leaving::Draining { end } if end <= now && !self.slots.is_empty() => {
                let (name, slots) = (&self.crew.name, self.slots.len());
                log::warn!("worker={name}: {slots} slots were still busy when the grace ended");
                self.stop_slots();
            }
            Leaving::Stopping { end } if end <= now => {
                // Threads in functions that look at nothing: they end with the process.
                if !self.slots.is_empty() {
                    log::warn!("worker={}: functions still run", self.crew.name);
                }
                return true;
            }
            _ => {}
        }
        self.slots.is_empty() && !matches!(self.leaving, Leaving::Told { .. })
    }
}
