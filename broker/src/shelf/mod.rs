//! The shelf: large attachments pass between processes of this machine as memory that both map.
//!
//! Who sends one puts it here, as a sealed memfd under a name of 128 random bits, and writes
//! `{"$shared": NAME}` into the call where it would have written `{"$frame": n}`. Who reads the call
//! takes it from here. The loop that passes calls on knows nothing of it.
//!
//! The door is a socket in the runtime directory, so it is open to this user alone. A memory that
//! could still change or shrink is refused: a reader's map never breaks under it. What is kept is
//! capped, and whoever finds no room sends frames as ever.
//!
//! Source: docs/protocol.md, "Shelf".

mod store;

use crate::epoll::{Changes, Epoll, Interest};
use log::{debug, warn};
use muster_proto::limits;
use rustc_hash::FxHashMap;
use rustix::fs::SealFlags;
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Instant;
use store::{Keep, NAME_BYTES, Name, Store};

/// Processes that may be connected; each needs one connection.
const CONNECTIONS_MAX: usize = 4_096;
/// A request: what is asked, and up to 64 names.
const REQUEST_BYTES_MAX: usize = 1 + 64 * NAME_BYTES;
/// The listener's number among what is watched; connections count from 1.
const LISTENER: u64 = 0;

/// The first byte of a request.
mod ask {
    /// Keep this memory until its sender is gone.
    pub const PUT: u8 = b'P';
    /// Keep this memory for whoever takes it, also when its sender is gone.
    pub const LEAVE: u8 = b'L';
    /// Give me the memory of this name.
    pub const TAKE: u8 = b'T';
    /// Nobody needs these any more. Not answered.
    pub const DROP: u8 = b'D';
}

/// An answer's one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Said {
    /// Done; a memory taken comes with it.
    Done = b'k',
    /// There is no room.
    Full = b'f',
    /// There is nothing of that name.
    Nothing = b'n',
    /// This is no request, or no sealed memory.
    Bad = b'b',
}

/// Opens the shelf at `path` and serves it on a thread of its own until the process ends.
///
/// # Errors
/// The system's, when the socket cannot be bound.
pub fn start(path: &Path) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // The runtime directory's lock is held: what is there is of a broker that is gone.
    let _ = std::fs::remove_file(path);
    net::bind(&listener, &SocketAddrUnix::new(path)?)?;
    net::listen(&listener, 128)?;
    let epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER, Interest::Read)?;
    let shelf = Shelf {
        listener,
        epoll,
        connections: FxHashMap::default(),
        last: LISTENER,
        store: Store::default(),
    };
    thread::Builder::new()
        .name("shelf".into())
        .spawn(move || shelf.serve())?;
    Ok(())
}

struct Shelf {
    listener: OwnedFd,
    epoll: Epoll,
    connections: FxHashMap<u64, OwnedFd>,
    last: u64,
    store: Store,
}

impl Shelf {
    fn serve(mut self) {
        let mut changes = Changes::default();
        loop {
            let now = Instant::now();
            self.store.expire(now);
            let wait = self
                .store
                .due()
                .map(|due| due.saturating_duration_since(now));
            if let Err(error) = self.epoll.wait(&mut changes, wait) {
                warn!("large attachments go as frames from now on: {error}");
                return;
            }
            for change in changes.iter() {
                if change.token == LISTENER {
                    self.accept();
                } else {
                    self.hear(change.token);
                }
            }
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(connection) = net::accept_with(&self.listener, flags) {
            // One that is closed here sends frames.
            if self.connections.len() >= CONNECTIONS_MAX || !is_of_this_user(connection.as_fd()) {
                continue;
            }
            self.last += 1;
            if self
                .epoll
                .add(&connection, self.last, Interest::Read)
                .is_ok()
            {
                self.connections.insert(self.last, connection);
            }
        }
    }

    fn hear(&mut self, owner: u64) {
        let mut request = [0; REQUEST_BYTES_MAX];
        while let Some(connection) = self.connections.get(&owner) {
            match receive(connection.as_fd(), &mut request) {
                Ok((0, _)) => self.close(owner),
                Ok((bytes, memory)) => self.serve_one(owner, &request[..bytes], memory),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.close(owner),
            }
        }
    }

    fn serve_one(&mut self, owner: u64, request: &[u8], memory: Option<OwnedFd>) {
        let Some((said, memory)) = self.obey(owner, request, memory) else {
            return;
        };
        let Some(connection) = self.connections.get(&owner) else {
            return;
        };
        let memory = memory.as_ref().map(AsFd::as_fd);
        if let Err(error) = send(connection.as_fd(), said, memory) {
            // Whoever does not read its answers is not waited for.
            debug!("shelf: a connection is closed: {error}");
            self.close(owner);
        }
    }

    fn obey(
        &mut self,
        owner: u64,
        request: &[u8],
        memory: Option<OwnedFd>,
    ) -> Option<(Said, Option<OwnedFd>)> {
        let Some((&asked, names)) = request.split_first() else {
            return Some((Said::Bad, None));
        };
        let (names, rest) = names.as_chunks::<NAME_BYTES>();
        let bad = Some((Said::Bad, None));
        if !rest.is_empty() {
            return bad;
        }
        match (asked, names, memory) {
            (ask::PUT, &[name], memory) => {
                Some((self.keep(name, memory, Keep::While { owner }), None))
            }
            (ask::LEAVE, &[name], memory) => {
                Some((self.keep(name, memory, Keep::for_a_while()), None))
            }
            (ask::TAKE, [name], None) => match self.store.find(name) {
                // The kernel counts the copy, so it outlives what the shelf does.
                Some(memory) => match memory.try_clone() {
                    Ok(copy) => Some((Said::Done, Some(copy))),
                    Err(_) => Some((Said::Full, None)),
                },
                None => Some((Said::Nothing, None)),
            },
            (ask::DROP, names, None) => {
                for name in names {
                    self.store.remove(name);
                }
                None
            }
            _ => bad,
        }
    }

    fn keep(&mut self, name: Name, memory: Option<OwnedFd>, keep: Keep) -> Said {
        // Without one, this process has no descriptor left for it.
        let Some(memory) = memory else {
            return Said::Full;
        };
        let Some(bytes) = sealed_bytes(&memory) else {
            return Said::Bad;
        };
        match self.store.keep(name, memory, bytes, keep) {
            true => Said::Done,
            false => Said::Full,
        }
    }

    fn close(&mut self, owner: u64) {
        self.connections.remove(&owner);
        self.store.leave(owner);
    }
}

fn is_of_this_user(connection: BorrowedFd<'_>) -> bool {
    let own = rustix::process::geteuid();
    net::sockopt::socket_peercred(connection).is_ok_and(|peer| peer.uid == own)
}

/// The size of a memory that nobody can change or resize any more, within the limit of an
/// attachment.
fn sealed_bytes(memory: &OwnedFd) -> Option<u64> {
    let seals = rustix::fs::fcntl_get_seals(memory).ok()?;
    let needed = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let bytes = u64::try_from(rustix::fs::fstat(memory).ok()?.st_size).ok()?;
    let fits = (1..=limits::ATTACHMENT_BYTES_MAX as u64).contains(&bytes);
    (seals.contains(needed) && fits).then_some(bytes)
}

fn receive(
    connection: BorrowedFd<'_>,
    request: &mut [u8],
) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut parts = [IoSliceMut::new(request)];
    let received = net::recvmsg(connection, &mut parts, &mut control, flags)?;
    let memory = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((received.bytes, memory))
}

fn send(
    connection: BorrowedFd<'_>,
    said: Said,
    memory: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = memory.map(|memory| [memory]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let said = [said as u8];
    net::sendmsg(connection, &[IoSlice::new(&said)], &mut control, flags).map(drop)
}
