//! What a call costs the core: admitted, dispatched, answered; no sockets, no bytes.
//!
//!     cargo run --release -p muster-core --example hotpath                 the table
//!     cargo run --release -p muster-core --example hotpath CALLS SLOTS QUEUED [WATCHER]
//!
//! The second form runs one row, the same instructions every time, for callgrind. WATCHER of the
//! events: `never` one (the default), one that `left` before the calls, or one that is `there`.

use muster_core::{
    Action, ClientId, Config, Core, Event, MonoTime, NewCall, Offer, Once, Reply, Request, SlotId,
    Target, Verdict, WorkerId, WorkerKind, WorkerSpec,
};
use muster_proto::id::DispatchId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// As little as a request can be.
#[derive(Debug)]
struct Body;

impl Request for Body {
    fn bytes(&self) -> usize {
        16
    }
}

/// As little as a reply can be.
#[derive(Clone, Debug)]
struct Value;

impl Reply for Value {
    fn bytes(&self) -> usize {
        16
    }
}

const CLIENTS: u32 = 4;
/// Short enough to be given ahead, so that 400 calls are in flight on 4 slots.
const SERVICE: Duration = Duration::from_micros(9);

/// Calls that the loop reads in one turn.
const TURN_CALLS: u32 = 64;

struct Bench {
    core: Core<Body, Value>,
    now_us: u64,
    /// What each slot was given, in order.
    on_slots: Vec<VecDeque<DispatchId>>,
    answered: u64,
    notes: u64,
    submitted: u32,
}

impl Bench {
    fn new(slots: u32) -> Self {
        let config = Config {
            queued_calls_max: usize::MAX,
            queued_bytes_max: usize::MAX,
            client_calls_max: usize::MAX,
            ..Config::default()
        };
        let core = Core::new(config, 1, MonoTime::ZERO, []);
        let mut bench = Bench {
            core,
            now_us: 0,
            on_slots: vec![VecDeque::new(); slots as usize],
            answered: 0,
            notes: 0,
            submitted: 0,
        };
        let spec = WorkerSpec {
            name: "worker".into(),
            host: "host".into(),
            pid: None,
            // Nobody beats for a managed worker here.
            kind: WorkerKind::Managed,
            slots,
            offer: Offer {
                methods: [("echo".into(), Once::No)].into(),
                ..Offer::default()
            },
        };
        let worker = WorkerId(0);
        bench.tell(Event::WorkerRegistered { worker, spec });
        for slot in 0..slots {
            bench.tell(Event::SlotJoined {
                worker,
                slot: SlotId(slot),
                number: slot + 1,
                pid: None,
            });
        }
        bench
    }

    fn tell(&mut self, event: Event<Body, Value>) {
        self.core.handle(MonoTime::from_micros(self.now_us), event);
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Dispatch { slot, dispatch, .. } => {
                    self.on_slots[slot.0 as usize].push_back(dispatch);
                }
                Action::Answer { .. } => self.answered += 1,
                Action::Note(_) => self.notes += 1,
                other => panic!("not on the path of a call: {other:?}"),
            }
        }
    }

    fn call(&mut self) {
        self.submitted += 1;
        let client = ClientId(self.submitted % CLIENTS);
        let call = NewCall {
            target: Target::Method("echo".into()),
            request: Body,
            is_notification: false,
            timeout: None,
            attempts_max: None,
            priority: 0,
            items: 1,
            key: None,
            parent: None,
        };
        self.tell(Event::Call { client, call });
    }

    /// The oldest call of a slot is answered.
    fn reply(&mut self, slot: usize) -> bool {
        let Some(dispatch) = self.on_slots[slot].pop_front() else {
            return false;
        };
        self.tell(Event::Replied {
            slot: SlotId(slot as u32),
            dispatch,
            service: Some(SERVICE),
            verdict: Verdict::Result,
            reply: Value,
        });
        true
    }

    /// Runs so many calls with as many open as there are now, slot by slot.
    fn run(&mut self, calls: u64) -> Duration {
        let start = Instant::now();
        let worker = WorkerId(0);
        let until = self.answered + calls;
        let (mut slot, mut idle) = (0, 0);
        let mut heard = self.now_us;
        while self.answered < until {
            slot = (slot + 1) % self.on_slots.len();
            self.now_us += 1;
            if self.reply(slot) {
                self.call();
                idle = 0;
                if self.submitted.is_multiple_of(TURN_CALLS) {
                    self.core.sent();
                }
            } else {
                idle += 1;
                assert!(idle <= self.on_slots.len(), "every slot idles");
            }
            if self.now_us >= heard + 500_000 {
                heard = self.now_us;
                self.tell(Event::WorkerHeard { worker });
            }
        }
        start.elapsed()
    }
}

/// Whether somebody watches the events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watcher {
    Never,
    Left,
    There,
}

impl Watcher {
    fn named(name: &str) -> Self {
        match name {
            "never" => Watcher::Never,
            "left" => Watcher::Left,
            "there" => Watcher::There,
            other => panic!("WATCHER is never, left or there, not {other}"),
        }
    }
}

/// Kilobytes of memory that the process occupies.
fn resident_kb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
    number.unwrap_or(0)
}

/// Nanoseconds per call, and bytes per waiting call.
fn row(calls: u64, slots: u32, queued: u64, watcher: Watcher) -> (f64, f64) {
    let mut bench = Bench::new(slots);
    // The method's service time becomes known, then the slots are filled.
    bench.call();
    bench.reply(0);
    let in_flight = u64::from(slots) * 4;
    for _ in 0..in_flight.max(400) {
        bench.call();
    }
    bench.core.watch(watcher != Watcher::Never);
    // As many whatever CALLS is, so that they fall out of the difference between two lengths.
    bench.run(1_000);
    bench.core.watch(watcher == Watcher::There);
    let notes = bench.notes;
    bench.run(calls / 10);
    let before = resident_kb();
    for _ in 0..queued {
        bench.call();
    }
    let kept = resident_kb().saturating_sub(before) * 1_024;
    let took = bench.run(calls);
    assert_eq!(bench.notes > notes, watcher == Watcher::There);
    (
        took.as_nanos() as f64 / calls as f64,
        kept as f64 / queued.max(1) as f64,
    )
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let [calls, slots, queued, watcher @ ..] = &given[..] {
        let number = |text: &String| text.parse().expect("CALLS SLOTS QUEUED are numbers");
        let (calls, slots, queued) = (number(calls), number(slots), number(queued));
        let watcher = Watcher::named(watcher.first().map_or("never", |name| name));
        let (ns, bytes) = row(calls, slots as u32, queued, watcher);
        println!("{slots} slots, {queued} queued: {ns:.0} ns a call, {bytes:.0} bytes queued");
        return;
    }
    // The best of some: everything else that the machine does only adds to it.
    let best = |calls, slots, queued| {
        let rows = (0..5).map(|_| row(calls, slots, queued, Watcher::Never));
        rows.fold((f64::MAX, 0.0), |best: (f64, f64), row| {
            (best.0.min(row.0), best.1.max(row.1))
        })
    };
    println!("1,000,000 calls, 400 in flight or 4 a slot; best of 5");
    for slots in [1, 4, 16, 64, 256, 1_000] {
        let (ns, _) = best(1_000_000, slots, 0);
        println!("{slots:>5} slots: {ns:>5.0} ns a call");
    }
    for queued in [100, 10_000, 100_000, 1_000_000] {
        let (ns, bytes) = best(1_000_000, 4, queued);
        println!("    4 slots, {queued:>7} queued: {ns:>5.0} ns a call, {bytes:>4.0} bytes each");
    }
}
