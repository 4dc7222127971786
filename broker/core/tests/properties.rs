//! Drawn sequences of events: after each one the core's invariants hold and a second account of
//! what it did agrees; at the end every request has had its answer.

mod shadow;

use muster_core::{
    Action, BatchItem, CancelTarget, ClientId, Config, EndReason, Ending, Event, MonoTime, NestId,
    NewCall, Offer, Once, SlotId, Target, Verdict, WorkerId, WorkerKind, WorkerSpec,
};
use muster_proto::id::{CallId, DispatchId, Epoch};
use proptest::collection::vec;
use proptest::prelude::*;
use shadow::{Held, Rep, Req, Shadow, TestCore, TestEvent};
use std::time::Duration;

const EPOCH: Epoch = Epoch(5);

/// One step of a story. Numbers pick among what is there at that moment.
#[derive(Clone, Debug)]
enum Step {
    Call(Draft),
    Batch(u8, Vec<Option<Draft>>),
    ClientGone(u8),
    Register(u8, u8),
    Draining(u8),
    WorkerGone(u8),
    Heard(u8),
    Join(u8, u8),
    SlotGone(u8),
    ChildLost(u8, bool),
    ChildReady(u8),
    Obituary(u8, u8),
    Reply {
        pick: u8,
        service_us: u32,
        verdict: u8,
    },
    Again,
    Forged {
        slot: u8,
        call: u8,
        attempt: u8,
    },
    Recalled {
        pick: u8,
        back: bool,
    },
    DispatchFailed(u8),
    /// A worker that was asked for a slot opens it or has none to spare.
    Nest {
        pick: u8,
        opens: bool,
    },
    Cancel(u8),
    CancelKey(u8),
    Wait(u32),
    /// Time passes and nobody wakes the core.
    Freeze(u32),
    Drain(u32),
}

/// A call to be made.
#[derive(Clone, Debug)]
struct Draft {
    client: u8,
    target: u8,
    is_notification: bool,
    timeout_ms: Option<u8>,
    attempts_max: Option<u8>,
    priority: i8,
    items: u8,
    key: Option<u8>,
    bytes: u8,
}

fn draft() -> impl Strategy<Value = Draft> {
    let limits = (
        prop::option::weighted(0.2, 0..60u8),
        prop::option::weighted(0.2, 1..4u8),
    );
    let looks = (
        -2..3i8,
        1..4u8,
        prop::option::weighted(0.2, 0..3u8),
        0..40u8,
    );
    (0..4u8, 0..9u8, prop::bool::weighted(0.1), limits, looks).prop_map(
        |(client, target, is_notification, (timeout_ms, attempts_max), looks)| {
            let (priority, items, key, bytes) = looks;
            Draft {
                client,
                target,
                is_notification,
                timeout_ms,
                attempts_max,
                priority,
                items,
                key,
                bytes,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => draft().prop_map(Step::Call),
        2 => (0..4u8, vec(prop::option::weighted(0.9, draft()), 0..5))
            .prop_map(|(client, items)| Step::Batch(client, items)),
        1 => (0..4u8).prop_map(Step::ClientGone),
        3 => (0..5u8, any::<u8>()).prop_map(|(worker, offer)| Step::Register(worker, offer)),
        1 => (0..5u8).prop_map(Step::Draining),
        1 => (0..5u8).prop_map(Step::WorkerGone),
        3 => (0..5u8).prop_map(Step::Heard),
        6 => (0..5u8, 1..4u8).prop_map(|(worker, number)| Step::Join(worker, number)),
        2 => any::<u8>().prop_map(Step::SlotGone),
        2 => any::<(u8, bool)>().prop_map(|(slot, purpose)| Step::ChildLost(slot, purpose)),
        3 => any::<u8>().prop_map(Step::ChildReady),
        1 => (0..5u8, 1..4u8).prop_map(|(worker, number)| Step::Obituary(worker, number)),
        20 => (any::<u8>(), prop_oneof![Just(10), Just(400), Just(1_500), Just(30_000), any::<u32>()],
            0..12u8).prop_map(|(pick, service_us, verdict)| Step::Reply { pick, service_us, verdict }),
        1 => Just(Step::Again),
        1 => any::<(u8, u8, u8)>()
            .prop_map(|(slot, call, attempt)| Step::Forged { slot, call, attempt }),
        3 => any::<(u8, bool)>().prop_map(|(pick, back)| Step::Recalled { pick, back }),
        1 => any::<u8>().prop_map(Step::DispatchFailed),
        6 => any::<(u8, bool)>().prop_map(|(pick, opens)| Step::Nest { pick, opens }),
        1 => any::<u8>().prop_map(Step::Cancel),
        1 => (0..3u8).prop_map(Step::CancelKey),
        8 => prop_oneof![0..3_000u32, 0..400_000u32, Just(3_500_000)].prop_map(Step::Wait),
        1 => (0..20_000_000u32).prop_map(Step::Freeze),
    ]
}

/// The core, its shadow, and the world as far as the steps need it.
struct World {
    core: TestCore,
    shadow: Shadow,
    now: MonoTime,
    events: u64,
    tokens: u64,
    links: u32,
    /// The connection that each client has now.
    clients: [u32; 4],
    workers: [Option<u32>; 5],
    last: Option<(SlotId, DispatchId)>,
    /// Slots that workers were asked to open.
    asked: Vec<(WorkerId, NestId)>,
}

impl World {
    fn new(config: Config) -> Self {
        let shadow = Shadow::new(&config);
        let now = MonoTime::from_micros(7);
        World {
            core: TestCore::new(config, 3, now, ["known".to_owned(), "once".to_owned()]),
            shadow,
            now,
            events: 0,
            tokens: 0,
            links: 100,
            clients: [0, 1, 2, 3],
            workers: [None; 5],
            last: None,
            asked: Vec::new(),
        }
    }

    fn tell(&mut self, event: TestEvent) {
        self.shadow.before(&event);
        self.core.handle(self.now, event);
        while let Some(action) = self.core.poll_action() {
            self.shadow.action(&self.core, &action);
            if let Action::OpenSlot { worker, nest } = action {
                self.asked.push((worker, nest));
            }
        }
        self.core.check_invariants();
        self.shadow.after(&self.core);
        // Some events share a turn of the loop.
        self.events += 1;
        if !self.events.is_multiple_of(3) {
            self.core.sent();
        }
        let due = self.core.poll_deadline();
        assert!(
            due.is_none_or(|due| due > self.now),
            "nothing due is left undone"
        );
    }

    fn wait(&mut self, micros: u32) {
        let until = self.now.after_micros(micros.into());
        while let Some(due) = self.core.poll_deadline().filter(|&due| due <= until) {
            self.now = due;
            self.tell(Event::Tick);
        }
        self.now = until;
        self.tell(Event::Tick);
    }

    fn link(&mut self) -> u32 {
        self.links += 1;
        self.links
    }

    fn call(&mut self, draft: &Draft) -> NewCall<Req> {
        self.tokens += 1;
        // What has the same key is the same call.
        let target = match draft.key.map_or(draft.target, |key| 2 * key) {
            0 | 1 => Target::Method("a".into()),
            2 => Target::Method("b".into()),
            3 => Target::Method("once".into()),
            4 => Target::Method("unregistered".into()),
            5 => Target::Method("known".into()),
            6 => Target::MethodAt {
                method: "a".into(),
                worker: format!("w{}", draft.client).into(),
            },
            7 => Target::RawAt("w4".into()),
            _ => Target::Raw,
        };
        NewCall {
            target,
            request: Req {
                token: self.tokens,
                bytes: draft.key.map_or(draft.bytes, |_| 10).into(),
            },
            is_notification: draft.is_notification,
            timeout: draft.timeout_ms.map(|ms| Duration::from_millis(ms.into())),
            attempts_max: draft
                .attempts_max
                .filter(|_| draft.key.is_none())
                .map(u32::from),
            priority: draft.priority,
            items: draft.items.into(),
            key: draft.key.map(|key| format!("key{key}").into()),
            // Some are made inside another, which may run, wait, or have ended.
            parent: (draft.priority > 0).then(|| self.parent()),
        }
    }

    /// A call that runs, or one that may run, wait, or have ended.
    fn parent(&self) -> CallId {
        let held = self.shadow.places.held();
        let mut running = held.values().filter_map(|held| held.first());
        let running = running.nth(self.tokens as usize % 4);
        let recent = CallId(self.tokens.saturating_sub(2).max(1));
        running.map_or(recent, |held| held.dispatch.call)
    }

    fn register(&mut self, at: u8, offer: u8) {
        let is_lane = at >= 3;
        let mut methods = std::collections::BTreeSet::new();
        for (bit, method) in ["a", "b", "once", "known"].into_iter().enumerate() {
            let once = if method == "once" {
                Once::Yes
            } else {
                Once::No
            };
            if offer >> bit & 1 == 1 && !(is_lane && offer & 16 == 0) {
                methods.insert((method.into(), once));
            }
        }
        let anything = is_lane && methods.is_empty();
        let id = match self.workers[at as usize] {
            Some(id) => id,
            None => self.link(),
        };
        self.workers[at as usize] = Some(id);
        let spec = WorkerSpec {
            name: format!("w{at}"),
            host: "h".into(),
            pid: None,
            kind: if is_lane {
                WorkerKind::Lane
            } else {
                WorkerKind::Managed
            },
            slots: 2,
            offer: Offer {
                methods,
                anything,
                raw: is_lane,
            },
        };
        let worker = WorkerId(id);
        self.tell(Event::WorkerRegistered { worker, spec });
    }

    /// A dispatch on some slot.
    fn pick(&self, pick: u8) -> Option<(SlotId, Held)> {
        let held = self.shadow.places.held();
        let all: Vec<(SlotId, Held)> = held
            .into_iter()
            .flat_map(|(slot, held)| held.into_iter().map(move |held| (slot, held)))
            .collect();
        all.get(pick as usize % all.len().max(1)).copied()
    }

    fn slot(&self, pick: u8) -> Option<SlotId> {
        let slots = self.shadow.places.slots();
        slots.get(pick as usize % slots.len().max(1)).copied()
    }

    fn reply(&mut self, slot: SlotId, dispatch: DispatchId, service_us: u32, verdict: Verdict) {
        self.last = Some((slot, dispatch));
        self.tell(Event::Replied {
            slot,
            dispatch,
            service: Some(Duration::from_micros(service_us.into())),
            verdict,
            reply: Rep(dispatch.call),
        });
    }

    fn step(&mut self, step: &Step) {
        let worker = |world: &World, at: u8| world.workers[at as usize].map(WorkerId);
        match *step {
            Step::Call(ref draft) => {
                let client = ClientId(self.clients[draft.client as usize]);
                let call = self.call(draft);
                self.tell(Event::Call { client, call });
            }
            Step::Batch(client, ref drafts) => {
                let client = ClientId(self.clients[client as usize]);
                self.tokens += 1;
                let token = self.tokens;
                let mut items = Vec::new();
                for draft in drafts {
                    items.push(match draft {
                        Some(draft) => BatchItem::Call(self.call(draft)),
                        None => {
                            self.tokens += 1;
                            let token = self.tokens;
                            BatchItem::Refused(Req { token, bytes: 1 })
                        }
                    });
                }
                let envelope = Req { token, bytes: 0 };
                self.tell(Event::Batch {
                    client,
                    envelope,
                    items,
                });
            }
            Step::ClientGone(at) => {
                let client = ClientId(self.clients[at as usize]);
                self.clients[at as usize] = self.link();
                self.tell(Event::ClientGone { client });
            }
            Step::Register(at, offer) => self.register(at, offer),
            Step::Draining(at) => {
                if let Some(worker) = worker(self, at) {
                    self.tell(Event::WorkerDraining { worker });
                }
            }
            Step::WorkerGone(at) => {
                if let Some(worker) = worker(self, at) {
                    self.workers[at as usize] = None;
                    let reason = EndReason::Goodbye;
                    self.tell(Event::WorkerGone { worker, reason });
                }
            }
            Step::Heard(at) => {
                if let Some(worker) = worker(self, at) {
                    self.tell(Event::WorkerHeard { worker });
                }
            }
            Step::Join(at, number) => {
                if let Some(worker) = worker(self, at) {
                    let slot = SlotId(self.link());
                    let number = if at >= 3 { 1 } else { number.into() };
                    self.tell(Event::SlotJoined {
                        worker,
                        slot,
                        number,
                        pid: None,
                    });
                }
            }
            Step::Nest { pick, opens } => {
                if self.asked.is_empty() {
                    return;
                }
                let at = pick as usize % self.asked.len();
                let (worker, nest) = self.asked.swap_remove(at);
                if opens {
                    let slot = self.link();
                    self.tell(Event::NestJoined {
                        worker,
                        slot: SlotId(slot),
                        number: 5_000 + slot,
                        pid: None,
                        nest,
                    });
                } else {
                    let max = 2;
                    self.tell(Event::NestRefused { worker, nest, max });
                }
            }
            Step::SlotGone(pick) => {
                if let Some(slot) = self.slot(pick) {
                    let reason = EndReason::Disconnected;
                    self.tell(Event::SlotGone { slot, reason });
                }
            }
            Step::ChildLost(pick, on_purpose) => {
                if let Some(slot) = self.slot(pick) {
                    let reason = match on_purpose {
                        true => EndReason::OnPurpose,
                        false => EndReason::ChildEnded,
                    };
                    let ending = Ending {
                        reason,
                        ..Ending::default()
                    };
                    self.tell(Event::ChildLost { slot, ending });
                }
            }
            Step::ChildReady(pick) => {
                if let Some(slot) = self.slot(pick) {
                    self.tell(Event::ChildReady { slot, pid: Some(1) });
                }
            }
            Step::Obituary(at, number) => {
                if let Some(worker) = worker(self, at) {
                    let (number, ending) = (number.into(), Ending::default());
                    self.tell(Event::Obituary {
                        worker,
                        number,
                        ending,
                    });
                }
            }
            Step::Reply {
                pick,
                service_us,
                verdict,
            } => {
                if let Some((slot, held)) = self.pick(pick) {
                    let verdict = match verdict {
                        0 => Verdict::Garbage,
                        1 => Verdict::MethodNotFound,
                        2 => Verdict::Error,
                        _ => Verdict::Result,
                    };
                    self.reply(slot, held.dispatch, service_us, verdict);
                }
            }
            Step::Again => {
                if let Some((slot, dispatch)) = self.last {
                    self.reply(slot, dispatch, 5, Verdict::Result);
                }
            }
            Step::Forged {
                slot,
                call,
                attempt,
            } => {
                if let Some(slot) = self.slot(slot) {
                    let dispatch = DispatchId {
                        epoch: Epoch(EPOCH.0 + u64::from(attempt & 1)),
                        call: CallId(call.into()),
                        attempt: u32::from(attempt) / 2 % 3,
                    };
                    self.reply(slot, dispatch, 5, Verdict::Result);
                }
            }
            Step::Recalled { pick, back } => {
                if let Some((slot, held)) = self.pick(pick) {
                    let (dispatch, given_back) = (held.dispatch, back);
                    self.tell(Event::Recalled {
                        slot,
                        dispatch,
                        given_back,
                    });
                }
            }
            Step::DispatchFailed(pick) => {
                if let Some(slot) = self.slot(pick) {
                    self.tell(Event::DispatchFailed { slot });
                }
            }
            Step::Cancel(call) => {
                let (target, by) = (CancelTarget::Call(CallId(call.into())), "x".into());
                self.tell(Event::Cancel { target, by });
            }
            Step::CancelKey(key) => {
                let target = CancelTarget::Key(format!("key{key}").into());
                let by = "x".into();
                self.tell(Event::Cancel { target, by });
            }
            Step::Wait(micros) => self.wait(micros),
            Step::Freeze(micros) => self.now = self.now.after_micros(micros.into()),
            Step::Drain(ms) => self.tell(Event::Drain {
                grace: Duration::from_millis(ms.into()),
            }),
        }
    }

    /// Answers whatever runs until nothing does: then everything is answered but what waits for
    /// workers that are not there, and a drain answers that.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            match self.pick(0) {
                Some((slot, held)) => self.reply(slot, held.dispatch, 50, Verdict::Result),
                None => break,
            }
        }
        self.tell(Event::Drain {
            grace: Duration::from_millis(5),
        });
        self.wait(20_000_000);
        assert_eq!(
            self.shadow.unanswered(),
            [0; 0],
            "requests without an answer"
        );
        assert!(self.shadow.is_drained, "the drain ends");
        for client in self.clients.map(ClientId) {
            self.tell(Event::ClientGone { client });
        }
        assert_eq!(
            self.core.status().clients,
            0,
            "no client is kept when all have left"
        );
    }
}

fn config(caps: (u8, u8, u8, u8)) -> Config {
    let (queued, bytes, client, classes) = caps;
    Config {
        epoch: EPOCH,
        queued_calls_max: queued.into(),
        queued_bytes_max: usize::from(bytes) * 10,
        client_calls_max: client.into(),
        classes_max: classes.into(),
        slot_calls_max: 5,
        lane_calls_max: 3,
        answers_max: 3,
        ..Config::default()
    }
}

/// Sequences of each kind: `PROPTEST_CASES`, or some that take a few seconds.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(600)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_of_events_keeps_the_promises(
        caps in (1..40u8, 4..100u8, 1..20u8, 2..12u8),
        steps in vec(step(), 1..250),
    ) {
        let mut world = World::new(config(caps));
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }

    #[test]
    fn a_drain_at_any_time_ends_with_every_answer_given(
        steps in vec(step(), 1..120),
        rest in vec(step(), 1..40),
        grace_ms in 0..2_000u32,
    ) {
        let mut world = World::new(config((200, 200, 200, 200)));
        for step in &steps {
            world.step(step);
        }
        world.step(&Step::Drain(grace_ms));
        for step in &rest {
            world.step(step);
        }
        world.finish();
    }

    #[test]
    fn the_same_events_give_the_same_actions(steps in vec(step(), 1..150)) {
        let told = |steps: &[Step]| {
            let mut world = World::new(config((40, 100, 20, 12)));
            let mut lines = Vec::new();
            for step in steps {
                world.step(step);
                lines.push((world.core.status().totals, world.core.poll_deadline()));
            }
            lines
        };
        prop_assert_eq!(told(&steps), told(&steps));
    }
}
