//! What a line costs: echo through it against a DEALER that the peers dial, in one run.
//!
//! `cargo bench -p muster-broker --bench splice`. The REP peers are processes of their own; rounds
//! alternate between the two ways, and the median of each is printed with their ratio.

use std::env;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use muster_broker::clock::Clock;
use muster_broker::lines::{Body, LineEvent, Lines, Outgoing, Received};
use muster_broker::splice::{LinkId, Listen, Splice, SpliceConfig};
use muster_proto::socket::{
    Context, Frame, Interest, Kind, PollItem, Profile, SendOutcome, Socket, poll,
};

const ROUNDS: usize = 9;
const WAIT: Duration = Duration::from_secs(10);

fn main() {
    if let Ok(endpoint) = env::var("ECHO_ENDPOINT") {
        return echo(&endpoint);
    }
    // The test runner lists targets with this flag.
    if env::args().any(|arg| arg == "--list") {
        return;
    }
    // Part of a row's name, to run those alone.
    let only = env::var("BENCH_ONLY").unwrap_or_default();
    for transport in ["tcp", "ipc"] {
        for (lanes, in_flight, bytes, calls) in [
            (1, 1, 64, 10_000),
            (1, 4, 64, 30_000),
            (1, 64, 64, 150_000),
            (4, 1, 64, 30_000),
            (4, 16, 64, 150_000),
            (1, 4, 64 << 10, 8_000),
            (1, 4, 1 << 20, 800),
        ] {
            let name = format!("{transport} lanes={lanes} in_flight={in_flight} bytes={bytes}");
            if !name.contains(&only) {
                continue;
            }
            compare(transport, lanes, in_flight, bytes, calls);
        }
    }
}

fn compare(transport: &str, lanes: usize, in_flight: usize, bytes: usize, calls: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let endpoint = |name: &str| match transport {
        "tcp" => "tcp://127.0.0.1:*".to_owned(),
        _ => format!("ipc://{}/{name}", folder.path().display()),
    };
    let context = Context::new(1).expect("a context");
    let profile = Profile::Lane {
        credit: 256,
        heartbeat: false,
    };

    let mut peers = Peers(Vec::new());
    let mut direct = Vec::new();
    for n in 0..lanes {
        let dealer = Socket::open(&context, Kind::Dealer, &profile).expect("a dealer");
        dealer.bind(&endpoint(&format!("direct{n}"))).expect("bind");
        peers.start(&dealer.last_endpoint().expect("an endpoint"));
        direct.push(dealer);
    }

    let mut config = SpliceConfig::new(folder.path());
    config.listeners.push(Listen {
        endpoint: endpoint("splice"),
        curve: false,
    });
    let splice = Splice::start(config).expect("a splice");
    for _ in 0..lanes {
        peers.start(&splice.bound()[0]);
    }
    let lines = Lines::new(&context, splice).expect("lines");
    let mut spliced = Spliced::join(lines, lanes);

    run(&direct, in_flight, bytes, calls / 10);
    spliced.run(in_flight, bytes, calls / 10);
    let (mut ways, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    let mut cpu_us = [0.0; 2];
    for _ in 0..ROUNDS {
        let rates = [0, 1].map(|way| {
            let before = peers.cpu_ticks();
            let rate = match way {
                0 => run(&direct, in_flight, bytes, calls),
                _ => spliced.run(in_flight, bytes, calls),
            };
            // A tick is 10 ms.
            cpu_us[way] += (peers.cpu_ticks() - before) as f64 * 1e4 / (calls * ROUNDS) as f64;
            ways[way].push(rate);
            rate
        });
        ratios.push(rates[1] / rates[0]);
    }
    let [direct_rate, spliced_rate] = ways.map(median);
    println!(
        "{transport} lanes={lanes} in_flight={in_flight:<3} bytes={bytes:<8} \
         direct {direct_rate:>9.0}/s {:>6.1} us  spliced {spliced_rate:>9.0}/s {:>6.1} us  \
         ratio {:.2}, by processor time {:.2}",
        cpu_us[0],
        cpu_us[1],
        median(ratios),
        cpu_us[0] / cpu_us[1],
    );
}

/// The peers that dialled the splice.
struct Spliced {
    lines: Lines,
    links: Vec<LinkId>,
    clock: Clock,
}

impl Spliced {
    fn join(lines: Lines, count: usize) -> Self {
        let mut spliced = Spliced {
            lines,
            links: Vec::new(),
            clock: Clock::start(),
        };
        while spliced.links.len() < count {
            spliced.wait();
            while let Some(event) = spliced.lines.next_event() {
                match event {
                    LineEvent::Arrived(arrival) => {
                        spliced.lines.join(&arrival, None).expect("a line");
                    }
                    LineEvent::Ready(link) => spliced.links.push(link),
                    LineEvent::Gone(link, reason) => panic!("{link}: {reason}"),
                }
            }
        }
        spliced
    }

    fn wait(&mut self) {
        if !self.lines.is_pending() {
            let now = self.clock.now();
            let due = self.lines.next_due().map_or(WAIT, |due| due.since(now));
            let mut items = [PollItem::fd(&self.lines, Interest::Read)];
            poll(&mut items, Some(due)).expect("poll");
        }
        self.lines.look(self.clock.now());
    }

    /// As [`run`].
    fn run(&mut self, in_flight: usize, bytes: usize, calls: usize) -> f64 {
        let body = Frame::from(vec![7; bytes]);
        let mut frames = Vec::new();
        let message = || Outgoing {
            fence: &[1; 20],
            body: Body::Frame(body.share()),
            attachments: &[],
        };
        let start = Instant::now();
        let (mut sent, mut received) = (0, 0);
        for &link in &self.links {
            for _ in 0..in_flight {
                assert!(self.lines.send(link, message()), "it is full");
                sent += 1;
            }
        }
        self.lines.flush();
        while received < calls.max(sent) {
            self.wait();
            while let Some(link) = self.lines.next_unread() {
                loop {
                    match self.lines.receive(link, &mut frames).expect("receive") {
                        Received::Empty => break,
                        Received::Nothing => continue,
                        Received::Message => {}
                    }
                    assert_eq!(frames[2].len(), bytes);
                    received += 1;
                    if sent < calls {
                        assert!(self.lines.send(link, message()), "it is full");
                        sent += 1;
                    }
                }
            }
            self.lines.flush();
        }
        received as f64 / start.elapsed().as_secs_f64()
    }
}

/// Echoes `calls` messages over the sockets, each with so many in flight; calls per second.
fn run(sockets: &[Socket], in_flight: usize, bytes: usize, calls: usize) -> f64 {
    let body = Frame::from(vec![7; bytes]);
    let message = || [Frame::from(&[1u8; 20]), Frame::empty(), body.share()];
    let start = Instant::now();
    let (mut sent, mut received) = (0, 0);
    for socket in sockets {
        for _ in 0..in_flight {
            // The first one waits for the direct peer to connect.
            let outcome = socket
                .send_timeout(&mut message().into(), WAIT)
                .expect("send");
            assert_eq!(outcome, SendOutcome::Sent);
            sent += 1;
        }
    }
    let mut frames = Vec::new();
    while received < calls.max(sent) {
        let mut items: Vec<_> = sockets
            .iter()
            .map(|socket| PollItem::socket(socket, Interest::Read))
            .collect();
        assert!(
            poll(&mut items, Some(WAIT)).expect("poll") > 0,
            "a reply is missing"
        );
        for socket in sockets {
            while socket.recv_into(&mut frames).expect("receive") {
                assert_eq!(frames[2].len(), bytes);
                received += 1;
                if sent < calls {
                    assert_eq!(socket.send(message()).expect("send"), SendOutcome::Sent);
                    sent += 1;
                }
            }
        }
    }
    received as f64 / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Peers(Vec<Child>);

impl Peers {
    fn start(&mut self, endpoint: &str) {
        let own = env::current_exe().expect("this program");
        let child = Command::new(own).env("ECHO_ENDPOINT", endpoint).spawn();
        self.0.push(child.expect("a child"));
    }
}

impl Peers {
    /// Processor time of this process and the peers, all threads.
    fn cpu_ticks(&self) -> u64 {
        let own = std::iter::once(std::process::id());
        own.chain(self.0.iter().map(Child::id))
            .map(|pid| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
                let (_, fields) = stat.rsplit_once(')').expect("a name");
                let fields: Vec<_> = fields.split_whitespace().collect();
                fields[11].parse::<u64>().expect("utime")
                    + fields[12].parse::<u64>().expect("stime")
            })
            .sum()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The peer: a stock REP that echoes.
fn echo(endpoint: &str) {
    let context = Context::new(1).expect("a context");
    let rep = Socket::open(&context, Kind::Rep, &Profile::DataLink).expect("a rep");
    rep.connect(endpoint).expect("connect");
    let mut frames = Vec::new();
    loop {
        if rep
            .recv_timeout(&mut frames, Duration::from_secs(60))
            .expect("receive")
        {
            assert_eq!(
                rep.send_frames(&mut frames).expect("send"),
                SendOutcome::Sent
            );
        }
    }
}
