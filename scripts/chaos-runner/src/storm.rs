//! The load and the faults: clients that call, while processes are killed and stopped.

use crate::cluster::{Cluster, Kind, launch, signal};
use crate::log::{ClientLog, Tail};
use crate::rng::Rng;
use anyhow::Context as _;
use muster_bench::process::RoleProcess;
use rustix::process::Signal;
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often faults and clients are looked after.
const TICK: Duration = Duration::from_millis(5);
/// A client's first call is numbered from a multiple of this.
const NUMBERS: u64 = 1_000_000_000;

/// What is to happen.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// What victims and times are drawn from.
    pub seed: u64,
    /// Calls that have to end.
    pub calls: u64,
    /// Calls a second, of all clients together.
    pub rate: f64,
    /// Clients; every other one is a bare DEALER.
    pub clients: usize,
    /// Calls of one client at once.
    pub in_flight: usize,
    /// How long a client waits for an answer.
    pub patience: Duration,
    /// SIGKILLs of workers a second.
    pub worker_kills: f64,
    /// SIGSTOPs of workers a second, each with a SIGCONT later.
    pub worker_stops: f64,
    /// SIGKILLs of clients a second.
    pub client_kills: f64,
    /// SIGKILLs of the broker a second, each with a new broker at once.
    pub broker_kills: f64,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Faults {
    /// SIGKILLs of workers and their children.
    pub worker_kills: u64,
    /// SIGSTOPs of workers and their children.
    pub worker_stops: u64,
    /// SIGKILLs of clients.
    pub client_kills: u64,
    /// SIGKILLs of the broker.
    pub broker_kills: u64,
}

/// A client's place: its process, and what is left for its successors.
struct Seat {
    is_library: bool,
    quota: u64,
    /// Calls that ended in the logs of those who sat here before.
    ended_before: u64,
    log: PathBuf,
    tail: Tail,
    process: Option<RoleProcess>,
}

/// A process that is stopped.
struct Stopped {
    pid: u32,
    until: Instant,
}

/// A kind of fault and when it comes next.
struct Clock {
    per_second: f64,
    next: Option<Instant>,
}

/// Lets it rage until all calls have ended.
///
/// # Errors
/// When the cluster can't be kept up. `false`: it was interrupted.
pub fn rage(
    storm: &Storm,
    cluster: &mut Cluster,
    interrupted: &AtomicBool,
) -> anyhow::Result<Option<Faults>> {
    let mut rage = Rage {
        rng: Rng::new(storm.seed),
        storm,
        cluster,
        seats: Vec::new(),
        stopped: Vec::new(),
        faults: Faults::default(),
        serial: 0,
    };
    let done = rage.run(interrupted);
    for stopped in rage.stopped.drain(..) {
        signal(stopped.pid, Signal::CONT);
    }
    Ok(done?.then_some(rage.faults))
}

struct Rage<'a> {
    rng: Rng,
    storm: &'a Storm,
    cluster: &'a mut Cluster,
    seats: Vec<Seat>,
    stopped: Vec<Stopped>,
    faults: Faults,
    /// Clients started so far.
    serial: u64,
}

impl Rage<'_> {
    fn run(&mut self, interrupted: &AtomicBool) -> anyhow::Result<bool> {
        let count = self.storm.clients.max(1) as u64;
        for place in 0..count {
            let share = self.storm.calls / count + u64::from(place < self.storm.calls % count);
            let seat = self.seat(place % 2 == 0, share, 0)?;
            self.seats.push(seat);
        }
        let storm = self.storm;
        let mut clocks = [
            storm.worker_kills,
            storm.worker_stops,
            storm.client_kills,
            storm.broker_kills,
        ]
        .map(|per_second| Clock {
            per_second,
            next: self
                .rng
                .pause(per_second)
                .map(|pause| Instant::now() + pause),
        });
        let start = Instant::now();
        let mut shown = start;
        let is_shown = std::io::stderr().is_terminal();
        loop {
            if interrupted.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let mut is_over = true;
            for seat in &mut self.seats {
                is_over &= seat.process.as_mut().is_none_or(RoleProcess::has_ended);
            }
            if is_over {
                break;
            }
            for (what, clock) in clocks.iter_mut().enumerate() {
                if clock.next.is_some_and(|at| at <= Instant::now()) {
                    let pause = self.rng.pause(clock.per_second);
                    clock.next = pause.map(|pause| Instant::now() + pause);
                    match what {
                        0 => self.kill_worker(),
                        1 => self.stop_worker(),
                        2 => self.kill_client()?,
                        _ => self.kill_broker()?,
                    }
                }
            }
            self.wake_stopped();
            self.cluster.tend()?;
            if is_shown && shown.elapsed() > Duration::from_millis(250) {
                shown = Instant::now();
                self.show(start)?;
            }
            std::thread::sleep(TICK);
        }
        if is_shown {
            eprint!("\r\x1b[K");
        }
        Ok(true)
    }

    /// A new client in a place, for the calls of its quota that have not ended yet.
    fn seat(&mut self, is_library: bool, quota: u64, ended_before: u64) -> anyhow::Result<Seat> {
        let name = format!("client-{:05}.log", self.serial);
        let log = self.cluster.folder.join(name);
        // There even if the client is killed before its first line.
        ClientLog::open(&log)?;
        let process = self.start_client(is_library, &log, quota - ended_before)?;
        Ok(Seat {
            is_library,
            quota,
            ended_before,
            tail: Tail::new(log.clone()),
            log,
            process: Some(process),
        })
    }

    fn start_client(
        &mut self,
        is_library: bool,
        log: &Path,
        count: u64,
    ) -> anyhow::Result<RoleProcess> {
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path");
        let first = (self.serial + 1) * NUMBERS;
        self.serial += 1;
        let rate = self.storm.rate / self.storm.clients.max(1) as f64;
        let args = [
            match is_library {
                true => "library-client",
                false => "stock-client",
            },
            "--connection",
            &text(self.cluster.connection_path())?,
            "--log",
            &text(log)?,
            "--first",
            &first.to_string(),
            "--count",
            &count.to_string(),
            "--rate",
            &rate.to_string(),
            "--in-flight",
            &self.storm.in_flight.to_string(),
            "--patience-s",
            &self.storm.patience.as_secs().to_string(),
            "--seed",
            &self.storm.seed.to_string(),
        ];
        launch(&self.cluster.folder, &args)
    }

    /// A worker, or a child of one that has children.
    fn victim(&mut self) -> Option<(usize, u32, bool)> {
        let places: Vec<usize> = (0..self.cluster.members.len())
            .filter(|place| self.cluster.members[*place].pid().is_some())
            .collect();
        let place = *self.rng.pick(&places)?;
        let own = self.cluster.members[place].pid()?;
        let children = match self.cluster.members[place].kind {
            Kind::Program => self.cluster.children(place),
            Kind::Library | Kind::Lane => Vec::new(),
        };
        match self
            .rng
            .chance(0.6)
            .then(|| self.rng.pick(&children))
            .flatten()
        {
            Some(child) => Some((place, *child, true)),
            None => Some((place, own, false)),
        }
    }

    fn kill_worker(&mut self) {
        let Some((place, pid, is_child)) = self.victim() else {
            return;
        };
        self.faults.worker_kills += 1;
        if is_child {
            // Its worker starts another one.
            signal(pid, Signal::KILL);
        } else {
            let pause = Duration::from_millis(self.rng.below(300));
            self.cluster.kill_member(place, pause);
        }
    }

    fn stop_worker(&mut self) {
        let Some((_, pid, _)) = self.victim() else {
            return;
        };
        self.faults.worker_stops += 1;
        // Some are back before anyone missed them, some after they were given up.
        let ms = match self.rng.chance(0.3) {
            true => 3_500 + self.rng.below(2_500),
            false => 50 + self.rng.below(500),
        };
        signal(pid, Signal::STOP);
        let until = Instant::now() + Duration::from_millis(ms);
        self.stopped.push(Stopped { pid, until });
    }

    fn wake_stopped(&mut self) {
        let now = Instant::now();
        self.stopped.retain(|stopped| {
            if stopped.until <= now {
                signal(stopped.pid, Signal::CONT);
            }
            stopped.until > now
        });
    }

    fn kill_client(&mut self) -> anyhow::Result<()> {
        let mut places: Vec<usize> = Vec::new();
        for (place, seat) in self.seats.iter_mut().enumerate() {
            if !seat.process.as_mut().is_none_or(RoleProcess::has_ended) {
                places.push(place);
            }
        }
        let Some(&place) = self.rng.pick(&places) else {
            return Ok(());
        };
        self.faults.client_kills += 1;
        let (is_library, quota, ended) = {
            let seat = &mut self.seats[place];
            if let Some(mut process) = seat.process.take() {
                process.kill();
            }
            // It may have come to its end before the signal did.
            let text = std::fs::read_to_string(&seat.log)?;
            if text.ends_with("end\n") {
                return Ok(());
            }
            ClientLog::open(&seat.log)?.killed()?;
            let ended = seat.ended_before + seat.tail.ended()?;
            (seat.is_library, seat.quota, ended)
        };
        if ended >= quota {
            return Ok(());
        }
        let seat = self.seat(is_library, quota, ended)?;
        self.seats[place] = seat;
        Ok(())
    }

    fn kill_broker(&mut self) -> anyhow::Result<()> {
        self.faults.broker_kills += 1;
        self.cluster.crash_broker()
    }

    fn show(&mut self, start: Instant) -> anyhow::Result<()> {
        let mut ended = 0;
        for seat in &mut self.seats {
            ended += seat.ended_before + seat.tail.ended()?;
        }
        let Faults {
            worker_kills,
            worker_stops,
            client_kills,
            broker_kills,
        } = self.faults;
        let mut err = std::io::stderr();
        write!(
            err,
            "\r\x1b[K{:4.0} s  {ended} of {} calls; killed: {worker_kills} workers, \
             {client_kills} clients, {broker_kills} brokers; stopped: {worker_stops} workers",
            start.elapsed().as_secs_f64(),
            self.storm.calls,
        )?;
        Ok(err.flush()?)
    }
}
