//! What the splice costs: echo through it against a direct connection, in one run.
//!
//! `cargo bench -p muster-broker --bench splice`. The REP peers are processes of their own; rounds
//! alternate between the two ways, and the median of each is printed with their ratio.

use std::env;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use muster_broker::splice::{Listen, Splice, SpliceConfig, SpliceEvent};
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
    let mut splice = Splice::start(config).expect("a splice");
    let mut spliced = Vec::new();
    for _ in 0..lanes {
        peers.start(&splice.bound()[0]);
    }
    let mut ready = 0;
    while ready < lanes {
        let mut items = [PollItem::fd(&splice, Interest::Read)];
        assert_eq!(
            poll(&mut items, Some(WAIT)).expect("poll"),
            1,
            "no worker came"
        );
        while let Some(event) = splice.try_event() {
            match event {
                SpliceEvent::Arrived(arrival) => {
                    let dealer = Socket::open(&context, Kind::Dealer, &profile).expect("a dealer");
                    dealer.connect(&arrival.endpoint).expect("connect");
                    spliced.push(dealer);
                }
                SpliceEvent::Ready { .. } => ready += 1,
                SpliceEvent::Gone { link, reason } => panic!("{link}: {reason}"),
            }
        }
    }

    run(&direct, in_flight, bytes, calls / 10);
    run(&spliced, in_flight, bytes, calls / 10);
    let (mut ways, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    let mut cpu_us = [0.0; 2];
    for _ in 0..ROUNDS {
        let rates = [(0, &direct), (1, &spliced)].map(|(way, sockets)| {
            let before = peers.cpu_ticks();
            let rate = run(sockets, in_flight, bytes, calls);
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
