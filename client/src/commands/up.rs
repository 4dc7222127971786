//! `muster up`: a broker and a worker of this machine, together.

use super::{CommandResult, Failure, connect, on_interrupt};
use crate::cli::{Common, UpArgs};
use crate::output::{Output, counted, note};
use crate::process::{Process, find_program};
use crate::upfile::{Ready, UpFile, clean};
use muster_client::{Call, Client};
use muster_proto::connection::Connection;
use muster_proto::exit::Exit;
use muster_proto::parent::PARENT_VARIABLE;
use muster_proto::runtime::{CLUSTER_DEFAULT, RuntimeDir};
use rustix::process::Signal;
use serde_json::Value;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often what is awaited is looked at.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the broker may take to serve.
const BROKER_TIMEOUT: Duration = Duration::from_secs(10);
/// A question that gets no answer is asked again.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
/// After a drain was asked for, longer than the programs' own grace.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What happened while `up` waited.
enum Event {
    Interrupt,
    Ended(&'static str, ExitStatus),
}

/// A child and the thread's news of its end.
struct Child {
    name: &'static str,
    process: Process,
}

/// The cluster while it runs.
struct Up {
    dir: RuntimeDir,
    events: Receiver<Event>,
    sender: Sender<Event>,
    broker: Option<Child>,
    worker: Option<Child>,
}

/// Starts both and stays with them.
pub fn run(common: &Common, args: &UpArgs, out: &mut Output) -> CommandResult {
    if common.endpoint.is_some() || common.connection.is_some() {
        let text = "up starts a broker here; --endpoint and --connection name another one";
        return Err(Failure::Usage(text.into()));
    }
    let dir = common.target().runtime()?;
    if dir.is_live() {
        let pid = Connection::read(&dir.connection_path()).map_or(0, |file| file.pid);
        let name = dir.cluster();
        return Err(Failure::State(format!(
            "cluster {name} is up already (broker pid {pid})"
        )));
    }
    let broker = program("muster-broker")?;
    let worker = program("muster-worker")?;
    if args.detach {
        return super::detach::run(common, &dir, out);
    }
    let (sender, events) = channel();
    let interrupts = sender.clone();
    on_interrupt(move || {
        let _ = interrupts.send(Event::Interrupt);
    })?;
    let mut up = Up {
        dir,
        events,
        sender,
        broker: None,
        worker: None,
    };
    let result = up
        .start(common, args, broker, worker, out)
        .and_then(|()| up.watch());
    up.stop();
    result
}

fn program(name: &'static str) -> Result<Command, Failure> {
    let path = find_program(name).map_err(|source| Failure::System {
        what: name.to_owned(),
        source,
    })?;
    Ok(Command::new(path))
}

impl Up {
    fn start(
        &mut self,
        common: &Common,
        args: &UpArgs,
        mut broker: Command,
        mut worker: Command,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let mut place = vec!["--cluster".to_owned(), self.dir.cluster().to_owned()];
        if let Some(base) = &common.runtime_dir {
            place.extend(["--runtime-dir".to_owned(), base.display().to_string()]);
        }
        broker.args(&place).args(args.broker_flags());
        worker.args(&place).args(args.worker_flags());
        self.broker = Some(self.spawn("muster-broker", broker)?);
        let client = self.wait_for_broker(common)?;
        let system = |source| Failure::System {
            what: "up.json".into(),
            source,
        };
        let mut file = UpFile::own();
        file.write(&self.dir).map_err(system)?;
        let child = self.spawn("muster-worker", worker)?;
        let pid = child.process.pid();
        self.worker = Some(child);
        let ready = self.wait_for_slots(&client, pid)?;
        file.ready = Some(ready.clone());
        file.write(&self.dir).map_err(system)?;
        print_ready(&self.dir, &ready, out)?;
        Ok(())
    }

    fn spawn(&self, name: &'static str, mut command: Command) -> Result<Child, Failure> {
        let what = || name.to_owned();
        // Ctrl-C comes here alone: a signal to the whole group would be each child's own, and ours
        // its second, which stops instead of draining.
        command.process_group(0).stdin(Stdio::null());
        // Both end when this process does, even by SIGKILL.
        command.env(PARENT_VARIABLE, std::process::id().to_string());
        if std::env::var_os("MUSTER_LOG").is_none() {
            command.env("MUSTER_LOG", "warn");
        }
        let mut child = command.spawn().map_err(|source| Failure::System {
            what: what(),
            source,
        })?;
        let gone = io::Error::from(io::ErrorKind::NotFound);
        let process = Process::open(child.id());
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0));
            let _ = sender.send(Event::Ended(name, status));
        });
        // A child that ended at once is told by its thread.
        process
            .map(|process| Child { name, process })
            .ok_or(Failure::System {
                what: what(),
                source: gone,
            })
    }

    /// Waits a moment for news: a child's end or an interrupt ends the start.
    fn pause(&self) -> Result<(), Failure> {
        match self.events.recv_timeout(PAUSE) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(Event::Ended(name, status)) => Err(ended(name, status)),
            Ok(Event::Interrupt) | Err(RecvTimeoutError::Disconnected) => {
                Err(Failure::Ended(Exit::Signal(Signal::INT.as_raw())))
            }
        }
    }

    fn wait_for_broker(&self, common: &Common) -> Result<Client, Failure> {
        let deadline = Instant::now() + BROKER_TIMEOUT;
        loop {
            self.pause()?;
            match connect(common) {
                Err(Failure::Client(_)) if Instant::now() < deadline => {}
                result => return result,
            }
        }
    }

    /// Waits until every slot of the worker is there.
    fn wait_for_slots(&self, client: &Client, pid: u32) -> Result<Ready, Failure> {
        loop {
            self.pause()?;
            let call = Call::new("broker.workers", &())?.timeout(QUESTION_TIMEOUT);
            let workers: Vec<Value> = client.submit(call)?.wait()?.json()?;
            let Some(worker) = workers.iter().find(|worker| worker["pid"] == pid) else {
                continue;
            };
            let slots = worker["slot_states"]
                .as_array()
                .map_or(&[][..], Vec::as_slice);
            let is_ready =
                |slot: &Value| ["ready", "busy"].iter().any(|name| slot["state"] == *name);
            let wanted = worker["slots"].as_u64().unwrap_or(0);
            let ready = slots.iter().filter(|slot| is_ready(slot)).count() as u64;
            if ready > 0 && ready >= wanted {
                let names = worker["methods"].as_array().into_iter().flatten();
                let methods = names
                    .filter_map(|name| Some(name.as_str()?.to_owned()))
                    .collect();
                return Ok(Ready {
                    slots: ready,
                    methods,
                });
            }
        }
    }

    /// Stays until somebody ends it.
    fn watch(&self) -> CommandResult {
        match self.events.recv() {
            Ok(Event::Ended(name, status)) => Err(ended(name, status)),
            Ok(Event::Interrupt) | Err(_) => Ok(Exit::Done),
        }
    }

    /// The broker first: it finishes what runs, for which it needs the worker.
    fn stop(&mut self) {
        for child in [self.broker.take(), self.worker.take()]
            .into_iter()
            .flatten()
        {
            child.process.ask_to_end();
            let deadline = Instant::now() + DRAIN_TIMEOUT;
            while !child.process.has_ended(PAUSE) {
                let is_impatient = matches!(self.events.try_recv(), Ok(Event::Interrupt));
                if is_impatient || Instant::now() >= deadline {
                    note(&format!("{} is told to stop at once", child.name));
                    child.process.end(Duration::ZERO);
                    break;
                }
            }
        }
        clean(&self.dir);
    }
}

fn ended(name: &str, status: ExitStatus) -> Failure {
    note(&format!("{name} ended ({status}); stopping"));
    Failure::Ended(match status.code() {
        // Its own words are on standard error, and its code says which kind they are.
        Some(code) if code == Exit::Usage.number() => Exit::Usage,
        _ => Exit::Failed,
    })
}

/// What is there now, and what to try.
pub fn print_ready(dir: &RuntimeDir, ready: &Ready, out: &mut Output) -> io::Result<()> {
    let (slots, count) = (ready.slots, ready.methods.len());
    if out.json {
        let name = dir.cluster();
        let object = serde_json::json!({"cluster": name, "slots": slots, "methods": ready.methods});
        out.line(&object.to_string())?;
        return out.flush();
    }
    let flag = match dir.cluster() {
        CLUSTER_DEFAULT => String::new(),
        name => format!(" --cluster {name}"),
    };
    let has = |name: &str| ready.methods.iter().any(|method| method == name);
    let example = match ready.methods.first() {
        _ if has("multiply") => format!("; try: muster call multiply 5 3{flag}"),
        Some(_) => format!("; try: muster methods --long{flag}"),
        None => String::new(),
    };
    let slots = counted(slots, "slot");
    let methods = counted(count as u64, "method");
    out.line(&format!("ready: {slots}, {methods}{example}"))?;
    out.flush()
}
