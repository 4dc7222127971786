//! A story: events told to a core one by one, and the whole list of actions it answers with,
//! each as a short line.

use muster_core::{
    Action, BatchItem, CancelTarget, ClientId, Config, Core, EndReason, Ending, Event, Failure,
    MonoTime, NewCall, Offer, Once, Outcome, Reply, Request, SlotId, Target, Verdict, WorkerId,
    WorkerKind, WorkerSpec,
};
use muster_proto::id::{CallId, DispatchId, Epoch};
use std::time::Duration;

/// A request that knows its size and nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Body(pub usize);

impl Request for Body {
    fn bytes(&self) -> usize {
        self.0
    }
}

/// A reply that can be told from others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value(pub u32);

impl Reply for Value {
    fn bytes(&self) -> usize {
        self.0 as usize
    }
}

pub const EPOCH: Epoch = Epoch(77);

/// A core with its clock.
pub struct Story {
    pub core: Core<Body, Value>,
    pub now: MonoTime,
}

/// A call for a method, with nothing special about it.
pub fn call(method: &str) -> NewCall<Body> {
    to(Target::Method(method.into()))
}

/// A call for a target, with nothing special about it.
pub fn to(target: Target) -> NewCall<Body> {
    NewCall {
        target,
        request: Body(10),
        is_notification: false,
        timeout: None,
        attempts_max: None,
        priority: 0,
        items: 1,
        key: None,
        parent: None,
    }
}

pub fn keyed(method: &str, key: &str) -> NewCall<Body> {
    NewCall {
        key: Some(key.into()),
        ..call(method)
    }
}

pub fn at_worker(method: &str, worker: &str) -> NewCall<Body> {
    to(Target::MethodAt {
        method: method.into(),
        worker: worker.into(),
    })
}

pub fn offer(methods: &[&str]) -> Offer {
    let named = methods.iter().map(|name| match name.strip_prefix("once:") {
        Some(name) => (name.into(), Once::Yes),
        None => ((*name).into(), Once::No),
    });
    Offer {
        methods: named.collect(),
        ..Offer::default()
    }
}

pub fn config() -> Config {
    Config {
        epoch: EPOCH,
        ..Config::default()
    }
}

impl Story {
    pub fn new() -> Self {
        Story::with(config())
    }

    pub fn with(config: Config) -> Self {
        let now = MonoTime::from_micros(1_000_000);
        let core = Core::new(config, 42, now, ["old".to_owned()]);
        Story { core, now }
    }

    /// A core with managed workers of these numbers of slots for `methods`; worker 1 is called
    /// `w1` and has the slots 11, 12 and so on.
    pub fn pool(config: Config, workers: &[u32], methods: &[&str]) -> Self {
        let mut story = Story::with(config);
        for (at, &slots) in workers.iter().enumerate() {
            let number = at as u32 + 1;
            story.worker(number, WorkerKind::Managed, offer(methods));
            for slot in 1..=slots {
                story.join(number, slot);
            }
        }
        story.says(&[]);
        story
    }

    pub fn tell(&mut self, event: Event<Body, Value>) -> &mut Self {
        self.core.handle(self.now, event);
        self.core.check_invariants();
        self
    }

    /// Lets time pass, with a wake-up at every deadline of the core.
    pub fn wait(&mut self, length: Duration) -> &mut Self {
        let until = self.now.after(length);
        while let Some(due) = self.core.poll_deadline().filter(|&due| due <= until) {
            self.now = self.now.max(due);
            self.tell(Event::Tick);
        }
        self.now = until;
        self.tell(Event::Tick)
    }

    pub fn wait_ms(&mut self, ms: u64) -> &mut Self {
        self.wait(Duration::from_millis(ms))
    }

    pub fn wait_us(&mut self, us: u64) -> &mut Self {
        self.wait(Duration::from_micros(us))
    }

    pub fn submit(&mut self, client: u32, call: NewCall<Body>) -> &mut Self {
        let client = ClientId(client);
        self.tell(Event::Call { client, call })
    }

    pub fn batch(&mut self, client: u32, items: Vec<BatchItem<Body>>) -> &mut Self {
        let (client, envelope) = (ClientId(client), Body(0));
        self.tell(Event::Batch {
            client,
            envelope,
            items,
        })
    }

    pub fn client_gone(&mut self, client: u32) -> &mut Self {
        let client = ClientId(client);
        self.tell(Event::ClientGone { client })
    }

    pub fn worker(&mut self, number: u32, kind: WorkerKind, offer: Offer) -> &mut Self {
        let name = match kind {
            WorkerKind::Managed => format!("w{number}"),
            WorkerKind::Lane => format!("lane{number}"),
        };
        self.named_worker(number, &name, kind, offer)
    }

    pub fn named_worker(
        &mut self,
        number: u32,
        name: &str,
        kind: WorkerKind,
        offer: Offer,
    ) -> &mut Self {
        let spec = WorkerSpec {
            name: name.to_owned(),
            host: "host".to_owned(),
            pid: Some(number),
            kind,
            slots: 1,
            offer,
        };
        let worker = WorkerId(number);
        self.tell(Event::WorkerRegistered { worker, spec })
    }

    /// A lane with its slot, number 1 of the worker.
    pub fn lane(&mut self, number: u32, offer: Offer) -> &mut Self {
        self.worker(number, WorkerKind::Lane, offer).join(number, 1)
    }

    /// Joins the slot with this number, known as 10 × worker + number.
    pub fn join(&mut self, worker: u32, number: u32) -> &mut Self {
        self.join_as(worker, number, worker * 10 + number)
    }

    pub fn join_as(&mut self, worker: u32, number: u32, slot: u32) -> &mut Self {
        let (worker, slot) = (WorkerId(worker), SlotId(slot));
        let pid = Some(1_000 + slot.0);
        self.tell(Event::SlotJoined {
            worker,
            slot,
            number,
            pid,
        })
    }

    pub fn slot_gone(&mut self, slot: u32) -> &mut Self {
        let reason = EndReason::Disconnected;
        let slot = SlotId(slot);
        self.tell(Event::SlotGone { slot, reason })
    }

    pub fn worker_gone(&mut self, worker: u32) -> &mut Self {
        let reason = EndReason::Disconnected;
        let worker = WorkerId(worker);
        self.tell(Event::WorkerGone { worker, reason })
    }

    pub fn heard(&mut self, worker: u32) -> &mut Self {
        let worker = WorkerId(worker);
        self.tell(Event::WorkerHeard { worker })
    }

    pub fn reply(&mut self, slot: u32, call: u64, attempt: u32, service_us: u64) -> &mut Self {
        self.reply_as(slot, call, attempt, service_us, Verdict::Result)
    }

    pub fn reply_as(
        &mut self,
        slot: u32,
        call: u64,
        attempt: u32,
        service_us: u64,
        verdict: Verdict,
    ) -> &mut Self {
        self.tell(Event::Replied {
            slot: SlotId(slot),
            dispatch: dispatch(call, attempt),
            service: Some(Duration::from_micros(service_us)),
            verdict,
            reply: Value(call as u32),
        })
    }

    pub fn recalled(&mut self, slot: u32, call: u64, attempt: u32, back: bool) -> &mut Self {
        self.tell(Event::Recalled {
            slot: SlotId(slot),
            dispatch: dispatch(call, attempt),
            given_back: back,
        })
    }

    pub fn child_lost(&mut self, slot: u32, ending: Ending) -> &mut Self {
        let slot = SlotId(slot);
        self.tell(Event::ChildLost { slot, ending })
    }

    pub fn child_ready(&mut self, slot: u32) -> &mut Self {
        let (slot, pid) = (SlotId(slot), Some(2_000 + slot));
        self.tell(Event::ChildReady { slot, pid })
    }

    pub fn obituary(&mut self, worker: u32, number: u32, ending: Ending) -> &mut Self {
        let worker = WorkerId(worker);
        self.tell(Event::Obituary {
            worker,
            number,
            ending,
        })
    }

    pub fn cancel(&mut self, target: CancelTarget) -> &mut Self {
        let by = "me".into();
        self.tell(Event::Cancel { target, by })
    }

    pub fn drain(&mut self, grace: Duration) -> &mut Self {
        self.tell(Event::Drain { grace })
    }

    /// Gives calls of `method` a known service time, by a call to an idle slot.
    pub fn learns(&mut self, method: &str, service_us: u64) -> &mut Self {
        self.submit(9, call(method));
        let (slot, id) = match self.core.poll_action() {
            Some(Action::Dispatch { slot, dispatch, .. }) => (slot.0, dispatch.call.0),
            other => panic!("not dispatched: {other:?}"),
        };
        self.reply(slot, id, 1, service_us);
        self.says(&[&format!("k9 c{id} ={id}")])
    }

    /// The actions since the last look, exactly.
    #[track_caller]
    pub fn says(&mut self, expected: &[&str]) -> &mut Self {
        let lines = self.lines();
        assert_eq!(lines, expected, "actions");
        self
    }

    /// The actions since the last look.
    pub fn lines(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.core.poll_action())
            .map(|action| line(&action))
            .collect()
    }
}

pub fn dispatch(call: u64, attempt: u32) -> DispatchId {
    DispatchId {
        epoch: EPOCH,
        call: CallId(call),
        attempt,
    }
}

pub fn crash(signal: i32) -> Ending {
    Ending {
        reason: EndReason::ChildEnded,
        signal: Some(signal),
        ..Ending::default()
    }
}

pub fn on_purpose() -> Ending {
    Ending {
        reason: EndReason::OnPurpose,
        ..Ending::default()
    }
}

fn line(action: &Action<Body, Value>) -> String {
    let held = |dispatch: &DispatchId, slot: &SlotId, seq: &u32| {
        let DispatchId { call, attempt, .. } = dispatch;
        format!("{call}.{attempt} s{}#{seq}", slot.0)
    };
    match action {
        Action::Dispatch {
            slot,
            dispatch,
            seq,
            remaining,
            is_long,
        } => {
            let left = remaining.map_or(String::new(), |left| format!(" {left:?}"));
            let short = if *is_long { "" } else { " short" };
            format!("run {}{left}{short}", held(dispatch, slot, seq))
        }
        Action::Answer {
            client,
            call,
            outcome,
            ..
        } => {
            format!("k{} {call} {}", client.0, ending(outcome))
        }
        Action::AnswerBatch { client, items, .. } => {
            let items: Vec<String> = items
                .iter()
                .map(|(_, outcome)| outcome.as_ref().map_or("refused".into(), ending))
                .collect();
            format!("k{} batch [{}]", client.0, items.join(", "))
        }
        Action::Acknowledge { client, call } => format!("k{} {call} ack", client.0),
        Action::AcknowledgeRefused { client, .. } => format!("k{} ack refused", client.0),
        Action::Cancel {
            slot,
            seq,
            dispatch,
        } => format!("cancel {}", held(dispatch, slot, seq)),
        Action::Recall {
            slot,
            seq,
            dispatch,
        } => format!("recall {}", held(dispatch, slot, seq)),
        Action::OpenSlot { worker, nest } => {
            format!("open w{} for {}.{}", worker.0, nest.call, nest.attempt)
        }
        Action::CloseSlot { slot } => format!("close nest s{}", slot.0),
        Action::CloseLink { slot } => format!("close s{}", slot.0),
        Action::ForgetWorker { worker } => format!("forget w{}", worker.0),
        Action::Note(note) => format!("note {note:?}"),
        Action::Drained => "drained".into(),
    }
}

fn ending(outcome: &Outcome<Value>) -> String {
    match outcome {
        Outcome::Replied { reply, is_error } => {
            let sign = if *is_error { "!" } else { "=" };
            format!("{sign}{}", reply.0)
        }
        Outcome::Failed(failure) => match failure {
            Failure::MethodNotFound { no_workers: true } => "not found, no workers".into(),
            Failure::MethodNotFound { no_workers: false } => "not found".into(),
            Failure::DeadlineExceeded { was_running: true } => "expired running".into(),
            Failure::DeadlineExceeded { was_running: false } => "expired queued".into(),
            Failure::WorkerLost { attempts } => {
                let attempts: Vec<String> = attempts
                    .iter()
                    .map(|attempt| match attempt.ending.signal {
                        Some(signal) => format!("{} signal {signal}", attempt.slot),
                        None => format!("{} {:?}", attempt.slot, attempt.ending.reason),
                    })
                    .collect();
                format!("lost [{}]", attempts.join(", "))
            }
            Failure::Overloaded { limit, max } => format!("overloaded {limit} {max}"),
            Failure::Cancelled { by } => format!("cancelled by {by}"),
            Failure::Draining => "draining".into(),
            Failure::BadReply { worker } => format!("bad reply of {worker}"),
        },
    }
}
