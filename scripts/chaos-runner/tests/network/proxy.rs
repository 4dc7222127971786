//! A line in between that does what networks do: it is late, slow, silent, cut in the middle of a
//! frame, or reset.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are carried at once: a delay or a cut hits parts of messages, not whole ones.
const PIECE: usize = 4 << 10;
/// How often a stalled line looks whether it flows again.
const LOOK: Duration = Duration::from_millis(5);
/// No cut, or no limit.
const NEVER: u64 = u64::MAX;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the one that connects.
    Up,
    /// To the one that connects.
    Down,
}

/// What a line does to the connections that run over it, now and later.
struct Faults {
    delay_ms_max: AtomicU64,
    bytes_per_s: AtomicU64,
    is_stalled: AtomicBool,
    /// The connection is reset when so many more bytes have gone up, or down.
    cut_after: [AtomicU64; 2],
    /// Connections that the far side ended.
    ended: AtomicU64,
    links: Mutex<Vec<TcpStream>>,
}

/// A TCP port of its own in front of another one.
pub struct Proxy {
    address: String,
    faults: Arc<Faults>,
}

impl Proxy {
    /// In front of `tcp://HOST:PORT`.
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let faults = Arc::new(Faults {
            delay_ms_max: AtomicU64::new(0),
            bytes_per_s: AtomicU64::new(NEVER),
            is_stalled: AtomicBool::new(false),
            cut_after: [AtomicU64::new(NEVER), AtomicU64::new(NEVER)],
            ended: AtomicU64::new(0),
            links: Mutex::new(Vec::new()),
        });
        let target = target.trim_start_matches("tcp://").to_owned();
        let shared = Arc::clone(&faults);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&target) else {
                    continue;
                };
                for socket in [&near, &far] {
                    let _ = socket.set_nodelay(true);
                    // Little is under way at a time, as on a line without large buffers.
                    let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, 16 << 10);
                    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(socket, 16 << 10);
                }
                let pair = [near.try_clone().unwrap(), far.try_clone().unwrap()];
                shared.links.lock().unwrap().extend(pair);
                let ways = [
                    (Way::Up, near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (Way::Down, far, near),
                ];
                for (way, from, to) in ways {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || carry(way, from, to, &shared));
                }
            }
        });
        Proxy { address, faults }
    }

    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Each piece waits up to this long, so that links overtake one another.
    pub fn delay(&self, at_most: Duration) {
        let ms = u64::try_from(at_most.as_millis()).unwrap();
        self.faults.delay_ms_max.store(ms, Ordering::Relaxed);
    }

    /// Each direction of each link carries so much a second.
    pub fn bandwidth(&self, bytes_per_s: u64) {
        self.faults
            .bytes_per_s
            .store(bytes_per_s, Ordering::Relaxed);
    }

    /// Nothing is carried any more, and nobody is told; or it flows again.
    pub fn stall(&self, is_stalled: bool) {
        self.faults.is_stalled.store(is_stalled, Ordering::Relaxed);
    }

    /// The next link that has carried so many more bytes this way is reset, once.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.faults.cut_after[way as usize].store(bytes, Ordering::Relaxed);
    }

    /// Whether the cut that was asked for has happened.
    pub fn has_cut(&self, way: Way) -> bool {
        self.faults.cut_after[way as usize].load(Ordering::Relaxed) == NEVER
    }

    /// Resets every link there is.
    pub fn reset(&self) {
        reset(&mut self.faults.links.lock().unwrap());
    }

    /// Links that the far side has ended.
    pub fn ended(&self) -> u64 {
        self.faults.ended.load(Ordering::Relaxed)
    }
}

/// Ends links as a crashed machine does: with a reset, whatever is under way.
fn reset(links: &mut Vec<TcpStream>) {
    for link in links.drain(..) {
        let _ = rustix::net::sockopt::set_socket_linger(&link, Some(Duration::ZERO));
        let _ = link.shutdown(Shutdown::Both);
    }
}

fn carry(way: Way, mut from: TcpStream, mut to: TcpStream, faults: &Faults) {
    let mut buffer = [0; PIECE];
    let mut chance = 0x9E37_79B9_7F4A_7C15_u64 ^ u64::from(from.local_addr().unwrap().port());
    let mut due = Instant::now();
    loop {
        let bytes_per_s = faults.bytes_per_s.load(Ordering::Relaxed);
        // A slow line takes little at a time.
        let piece = (bytes_per_s / 8).clamp(1, PIECE as u64) as usize;
        let count = match from.read(&mut buffer[..piece]) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        // What follows are the line's delay and speed: no waits for anything.
        let delay_ms_max = faults.delay_ms_max.load(Ordering::Relaxed);
        if delay_ms_max > 0 {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            thread::sleep(Duration::from_millis((chance >> 33) % delay_ms_max));
        }
        if bytes_per_s != NEVER {
            due = due.max(Instant::now())
                + Duration::from_secs_f64(count as f64 / bytes_per_s as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        while faults.is_stalled.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
        }
        let left = faults.cut_after[way as usize].load(Ordering::Relaxed);
        if left != NEVER {
            let passes = (left as usize).min(count);
            let _ = to.write_all(&buffer[..passes]);
            if passes < count {
                faults.cut_after[way as usize].store(NEVER, Ordering::Relaxed);
                reset(&mut faults.links.lock().unwrap());
                break;
            }
            faults.cut_after[way as usize].store(left - passes as u64, Ordering::Relaxed);
        } else if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    if way == Way::Down {
        faults.ended.fetch_add(1, Ordering::Relaxed);
    }
    let _ = to.shutdown(Shutdown::Write);
}
