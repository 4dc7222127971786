//! The jobs of one `muster run`: started, awaited, logged, printed.

use super::ended::Ended;
use super::items::{Item, Items};
use super::printed::{Printed, Turns};
use super::tally::Tally;
use super::template::Template;
use super::{METHOD, stdin_failed};
use crate::cli::RunArgs;
use crate::commands::{CommandResult, Failure};
use crate::joblog::{Done, JobKey, Joblog, Row};
use crate::output::Output;
use crate::progress::Progress;
use muster_client::{Call, Client, Error, Outcome, Pending};
use muster_proto::exit::Exit;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(100);
/// After this long jobs that nobody can run say that they wait.
const WAITING_NOTE: Duration = Duration::from_secs(1);
/// The pause after the broker refused a job for the time being.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);
/// After so many refusals, some minutes, a job fails.
const REFUSALS_MAX: u32 = 1_000;
/// How long interrupted jobs may take to be cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// What the driver waits for.
pub enum Event {
    Item(Item),
    InputEnd(io::Result<()>),
    Ended(u64, Outcome),
    Interrupt,
}

/// A job from its item to its end.
struct Job {
    item: String,
    command: String,
    key: JobKey,
    /// Starts so far.
    attempts: u32,
    refusals: u32,
    started: SystemTime,
    clock: Instant,
    /// `None`: it waits for its next start.
    call: Option<Pending>,
}

/// What all jobs have in common.
pub struct Jobs<'a> {
    pub args: &'a RunArgs,
    pub client: Client,
    pub template: Template,
    /// Where jobs work; `None`: in the worker's directory.
    pub folder: Option<String>,
    pub log: Option<Joblog>,
    /// Jobs to leave out.
    pub done: Done,
}

/// The jobs of one command while they run.
pub struct Run<'a> {
    common: Jobs<'a>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    /// Lets the feeding thread read one more item.
    permits: Sender<()>,
    /// Items it may read and has not.
    permitted: usize,
    is_fed: bool,
    /// Items so far.
    seq: u64,
    jobs: BTreeMap<u64, Job>,
    /// Jobs to start again, by the time for it.
    later: BTreeSet<(Instant, u64)>,
    turns: Turns,
    tally: Tally,
}

impl<'a> Run<'a> {
    /// Starts to read the items.
    pub fn start(common: Jobs<'a>, items: Items, progress: Option<Progress>) -> Self {
        let (sender, events) = channel();
        let (permits, granted) = channel();
        let feed = sender.clone();
        // Not joined: it may wait for standard input for ever.
        std::thread::spawn(move || items.feed(&granted, &feed));
        Run {
            turns: Turns::new(common.args.unordered),
            common,
            events,
            sender,
            permits,
            permitted: 0,
            is_fed: false,
            seq: 0,
            jobs: BTreeMap::new(),
            later: BTreeSet::new(),
            tally: Tally::new(progress),
        }
    }

    /// For a signal handler's interrupt.
    pub fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// Runs every job to its end.
    ///
    /// # Errors
    /// When it was interrupted, or can't go on; what was under way is cancelled then.
    pub fn finish(mut self, out: &mut Output) -> CommandResult {
        let result = self.drive(out);
        if result.is_err() {
            self.cancel();
        }
        out.flush()?;
        self.tally.clear();
        self.tell(&result, out);
        result
    }

    fn drive(&mut self, out: &mut Output) -> CommandResult {
        let mut is_told = false;
        loop {
            self.permit();
            self.tally.show();
            if self.is_fed && self.jobs.is_empty() {
                break;
            }
            match self.events.recv_timeout(TICK) {
                Ok(Event::Item(item)) => self.take(item, out)?,
                Ok(Event::InputEnd(result)) => {
                    self.is_fed = true;
                    self.permitted = 0;
                    result.map_err(stdin_failed)?;
                }
                Ok(Event::Ended(seq, outcome)) => self.ended(seq, outcome, out)?,
                Ok(Event::Interrupt) => {
                    return Err(Failure::Ended(Exit::Signal(2)));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let is_late = !is_told && self.tally.elapsed() >= WAITING_NOTE;
                    if is_late && self.slots() == Some(0) && !self.jobs.is_empty() {
                        is_told = true;
                        let text = "no slot is there now; the jobs wait for one";
                        self.tally.aside(|| out.note(text));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.start_later()?;
        }
        Ok(if self.tally.failed > 0 {
            Exit::Failed
        } else {
            Exit::Done
        })
    }

    /// Slots of the cluster, while its broker is there.
    fn slots(&self) -> Option<usize> {
        let status = self.common.client.last_status()?;
        usize::try_from(status.slots.total).ok()
    }

    /// Has items read while there is room for their jobs.
    fn permit(&mut self) {
        let slots = self.slots().unwrap_or(0);
        // What waits at the broker keeps slots busy; what waits here is not lost with a broker.
        let usual = slots + slots / 4 + 2;
        let max = self.common.args.in_flight.map_or(usual, |max| max as usize);
        while !self.is_fed && !self.turns.is_full() && self.jobs.len() + self.permitted < max {
            self.permitted += 1;
            if self.permits.send(()).is_err() {
                return;
            }
        }
    }

    fn take(&mut self, item: Item, out: &mut Output) -> Result<(), Failure> {
        self.permitted = self.permitted.saturating_sub(1);
        self.seq += 1;
        let seq = self.seq;
        let (item, unfit) = match item {
            Ok(item) => (item, None),
            Err(reason) => (String::new(), Some(reason)),
        };
        let key = JobKey::of(&[
            b"run",
            self.common.template.source().as_bytes(),
            item.as_bytes(),
        ]);
        if self.common.done.covers(seq, key) {
            self.tally.left_out += 1;
            return self.print(seq, None, out);
        }
        let job = Job {
            command: self.common.template.show(&item, seq),
            item,
            key,
            attempts: 0,
            refusals: 0,
            started: SystemTime::now(),
            clock: Instant::now(),
            call: None,
        };
        self.jobs.insert(seq, job);
        match unfit {
            None => self.start_job(seq),
            Some(reason) => {
                let what = "item";
                self.ended(seq, Err(Error::BadInput { what, reason }), out)
            }
        }
    }

    fn start_job(&mut self, seq: u64) -> Result<(), Failure> {
        let Some(job) = self.jobs.get_mut(&seq) else {
            return Ok(());
        };
        let call = call(
            self.common.args,
            self.common.folder.as_deref(),
            &self.common.template.fill(&job.item, seq),
        )?;
        job.attempts += 1;
        job.started = SystemTime::now();
        job.clock = Instant::now();
        if self.common.args.no_wait {
            self.jobs.remove(&seq);
            self.tally.done += 1;
            return Ok(self.common.client.notify(call)?);
        }
        let pending = self.common.client.submit(call)?;
        let sender = self.sender.clone();
        pending.when_done(move |outcome| drop(sender.send(Event::Ended(seq, outcome))));
        job.call = Some(pending);
        Ok(())
    }

    fn start_later(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        while let Some(due @ (_, seq)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&due);
            self.start_job(seq)?;
        }
        Ok(())
    }

    fn ended(&mut self, seq: u64, outcome: Outcome, out: &mut Output) -> Result<(), Failure> {
        let ended = Ended::read(outcome);
        let Some(job) = self.jobs.get_mut(&seq) else {
            return Ok(());
        };
        job.call = None;
        if ended.is_refused() && job.refusals < REFUSALS_MAX {
            job.attempts -= 1;
            job.refusals += 1;
            self.later.insert((Instant::now() + REFUSED_PAUSE, seq));
            return Ok(());
        }
        if !ended.is_well() && job.attempts > 0 && job.attempts < self.common.args.retries {
            return self.start_job(seq);
        }
        let Some(job) = self.jobs.remove(&seq) else {
            return Ok(());
        };
        self.tally.done += 1;
        self.tally.failed += u64::from(!ended.is_well());
        self.log(seq, &job, &ended)?;
        let line = out.json.then(|| object(seq, &job, &ended).to_string());
        let failure = (!ended.is_well()).then(|| format!("job {seq}: {ended}: {}", job.command));
        let printed = Printed {
            stdout: ended.stdout,
            stderr: ended.stderr,
            failure,
            line,
        };
        self.print(seq, Some(printed), out)
    }

    /// Prints the job in its turn, above the progress bar if there is one.
    fn print(&mut self, seq: u64, job: Option<Printed>, out: &mut Output) -> Result<(), Failure> {
        let Run { turns, tally, .. } = self;
        Ok(tally.aside(|| turns.print(seq, job, out))?)
    }

    /// At the end of the job, not when it is printed: what has run does not run again, and of that
    /// more depends than of a line that was not printed when this process was killed.
    fn log(&mut self, seq: u64, job: &Job, ended: &Ended) -> Result<(), Failure> {
        let Some(log) = &mut self.common.log else {
            return Ok(());
        };
        log.add(&Row {
            seq,
            host: ended.host.as_deref(),
            started: job.started,
            runtime: job.clock.elapsed(),
            sent_bytes: job.item.len() as u64,
            received_bytes: ended.bytes() as u64,
            exit: ended.exit,
            signal: ended.signal,
            command: &job.command,
            key: job.key,
            attempts: job.attempts,
        });
        Ok(log.flush()?)
    }

    /// Has the broker end what is under way, and waits a moment for that.
    fn cancel(&mut self) {
        let calls: Vec<Pending> = self
            .jobs
            .values()
            .filter_map(|job| job.call.clone())
            .collect();
        // The last first: what waits is gone before a slot gets free for it.
        calls.iter().rev().for_each(Pending::cancel);
        let deadline = Instant::now() + CANCEL_TIMEOUT;
        for call in calls {
            let _ = call.wait_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }

    fn tell(&self, result: &CommandResult, out: &Output) {
        let how = match result {
            Ok(_) if self.common.args.no_wait => "sent",
            Ok(_) => "done",
            Err(Failure::Ended(_)) => "interrupted",
            Err(_) => return,
        };
        self.tally.tell(how, out);
    }
}

/// The job as `--json` prints it.
fn object(seq: u64, job: &Job, ended: &Ended) -> Value {
    let mut object = json!({
        "seq": seq,
        "item": job.item,
        "command": job.command,
        "attempts": job.attempts,
        "runtime_s": job.clock.elapsed().as_secs_f64(),
    });
    if let (Value::Object(members), Value::Object(more)) = (&mut object, ended.to_json()) {
        members.extend(more);
    }
    object
}

/// The call that runs these words.
fn call(args: &RunArgs, folder: Option<&str>, words: &[String]) -> Result<Call, Error> {
    let mut params = json!({"argv": words});
    if let Some(folder) = folder {
        params["cwd"] = json!(folder);
    }
    let mut call = Call::new(METHOD, &params)?
        .timeout(args.timeout)
        .attempts_max(1)
        .attachments_wanted();
    if let Some(worker) = &args.to {
        call = call.to(worker);
    }
    if let Some(priority) = args.priority {
        call = call.priority(priority);
    }
    Ok(call)
}
