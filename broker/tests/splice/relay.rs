//! A line in between: slow, or dead without a word.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub struct Relay {
    address: String,
    is_dead: Arc<AtomicBool>,
}

impl Relay {
    /// Carries connections to `target`, each direction with so many bytes a second.
    pub fn start(target: &str, bytes_per_s: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let is_dead = Arc::new(AtomicBool::new(false));
        let (dead, target) = (Arc::clone(&is_dead), target.to_owned());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&target) else {
                    return;
                };
                let ways = [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far, near),
                ];
                for (from, to) in ways {
                    let dead = Arc::clone(&dead);
                    thread::spawn(move || carry(from, to, bytes_per_s, &dead));
                }
            }
        });
        Relay { address, is_dead }
    }

    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on nothing arrives, and nobody is told.
    pub fn die(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, bytes_per_s: u64, dead: &AtomicBool) {
    // Little is under way at a time, as on a line without large buffers.
    for socket in [&from, &to] {
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, 16 << 10);
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(socket, 16 << 10);
    }
    let carried = AtomicU64::new(0);
    let start = Instant::now();
    let mut buffer = [0; 8 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let carried = carried.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        // The line's speed: the one sleep that is no wait for anything.
        let due = start + Duration::from_secs_f64(carried as f64 / bytes_per_s as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if !dead.load(Ordering::Relaxed) && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    if !dead.load(Ordering::Relaxed) {
        let _ = to.shutdown(Shutdown::Write);
    }
}
