//! The yardstick: libzmq's own proxy, which does nothing but copy.

use super::{end_with_parent, ready};
use muster_proto::socket::{self, Context, Kind, Profile, Socket};

/// libzmq's default of messages kept for a peer.
const QUEUE_MAX: u32 = 1_000;

pub fn run(frontend: &str, backend: &str) -> anyhow::Result<()> {
    let context = Context::new(1)?;
    let clients = Socket::open(&context, Kind::Router, &Profile::Inproc)?;
    let workers = Socket::open(&context, Kind::Dealer, &Profile::Inproc)?;
    for (socket, endpoint) in [(&clients, frontend), (&workers, backend)] {
        socket.set_queue_limits(QUEUE_MAX, QUEUE_MAX)?;
        socket.bind(endpoint)?;
    }
    end_with_parent();
    ready()?;
    Err(socket::proxy(&clients, &workers).into())
}
