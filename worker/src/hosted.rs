//! The inside of a slot process: `muster-worker slot NAME.NUMBER`, started by a supervisor.
//!
//! The main thread is the slot. A second one reads the supervisor's orders, so that a recall or a
//! cancel reaches a slot that computes, and ends the process when the supervisor is gone.

use crate::crew::{Crew, Placement};
use crate::program::{ProgramError, registry_of};
use crate::slot::{Cancel, Desk, Phase, ReloadOrder};
use crate::slot_orders::{Order, Report};
use muster_proto::socket::{Context, Interest, PollItem, poll};
use rustix::process::{Signal, getpid, kill_process};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// How often it is seen whether a cancelled call has ended.
const CANCEL_LOOK: Duration = Duration::from_millis(20);

/// Runs a slot process until its supervisor lets it go.
///
/// # Errors
/// When it was not started by a supervisor, or its functions can't be set up.
pub(crate) fn run() -> Result<(), ProgramError> {
    let mut orders = Orders::default();
    let Some(Order::Start { number, program }) = orders.first()? else {
        return Err(ProgramError::NotASlot);
    };
    let registry = Arc::new(registry_of(&program)?);
    let crew = Crew {
        name: program.worker,
        host: program.host,
        registry,
        python: program.python,
        plain: program.plain,
        rep: None,
        program: None,
        placement: Placement::Threads,
    };
    let context = Context::new(1)?;
    let desk = Arc::new(Desk::new().map_err(ProgramError::Io)?);
    desk.on_first_answer(|| report(Report::Answered));
    let spec = crew.spec(number, Arc::clone(&desk), None);
    let slot = crew.slot_loop(context, spec)?;
    std::thread::Builder::new()
        .name("orders".into())
        .spawn(move || orders.obey(&desk))
        .map_err(ProgramError::Io)?;
    Ok(slot()?)
}

/// The supervisor's orders, line by line.
#[derive(Default)]
struct Orders {
    unread: Vec<u8>,
    /// Cancelled calls that have not ended.
    cancelled: Vec<u32>,
}

impl Orders {
    /// Waits for the first order. What comes with it is kept; nothing more is waited for.
    fn first(&mut self) -> Result<Option<Order>, ProgramError> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line).ok());
            }
            match rustix::io::read(io::stdin(), &mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(ProgramError::Io(error.into())),
            }
        }
    }

    fn obey(mut self, desk: &Desk) {
        loop {
            while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(order) => self.follow(order, desk),
                    Err(error) => log::error!("an unreadable order: {error}"),
                }
            }
            self.cancelled.retain(|&seq| {
                let is_running = desk.gate.is_running(seq);
                if !is_running {
                    report(Report::Ended(seq));
                }
                is_running
            });
            self.wait();
        }
    }

    fn follow(&mut self, order: Order, desk: &Desk) {
        match order {
            Order::Start { .. } => {}
            Order::Link(link) => desk.order_link(link),
            Order::Suspend => desk.suspend(),
            Order::Recall(seq) => report(Report::Recalled(seq, desk.gate.recall(seq))),
            Order::Cancel(seq) => {
                if desk.gate.cancel(seq) == Cancel::Running {
                    desk.wake.wake();
                }
                self.cancelled.push(seq);
            }
            Order::Reload(program) => match registry_of(&program) {
                Ok(registry) => desk.order_reload(ReloadOrder {
                    registry: Arc::new(registry),
                    done: Box::new(|is_done| report(Report::Reloaded(is_done))),
                }),
                Err(error) => {
                    log::error!("it goes on as before: {error}");
                    report(Report::Reloaded(false));
                }
            },
            Order::Drain => desk.order_end(Phase::Drain),
        }
    }

    /// Waits for more orders; not for long while a cancelled call runs.
    fn wait(&mut self) {
        let stdin = io::stdin();
        let timeout = (!self.cancelled.is_empty()).then_some(CANCEL_LOOK);
        let mut items = [PollItem::fd(&stdin, Interest::Read)];
        if poll(&mut items, timeout).is_ok_and(|ready| ready == 0) {
            return;
        }
        let mut buffer = [0; 4096];
        match rustix::io::read(&stdin, &mut buffer) {
            Ok(0) => die(),
            Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(_) => die(),
        }
    }
}

fn report(report: Report) {
    let mut line = serde_json::to_vec(&report).expect("reports have string keys only");
    line.push(b'\n');
    if io::stdout()
        .write_all(&line)
        .and_then(|()| io::stdout().flush())
        .is_err()
    {
        die();
    }
}

/// The supervisor is gone. The slot's thread may be deep in a function, so nothing is unwound.
fn die() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}
