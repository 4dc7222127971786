//! The lines to stock workers: one for each link of the splice, messages out and in.
//!
//! A line is the connection itself, which the loop reads and writes ([`direct`]), or a DEALER behind
//! the splice, where libzmq has to speak: CURVE, and peers of ZMTP 2. Whoever uses lines need not
//! know which.
//!
//! One queue over the sockets' descriptors tells which may have something: an edge, told once, so a
//! line is read until it is empty. A DEALER is looked at again after every send, which may have used
//! the edge up.

mod direct;
mod event;
mod outgoing;
mod pulse;
mod register;

use crate::epoll::{Changes, Epoll, Interest};
use crate::splice::{
    Arrival, Connection, DialId, GoneReason, LinkId, Splice, SpliceError, SpliceEvent, Way,
};
use direct::{Direct, Shared, Written};
use log::warn;
use muster_core::MonoTime;
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket, SocketError};
use register::{Line, LineWay, Register};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Messages that may be on their way out of one line; the core's cap on calls is lower.
const UNSENT_MAX: u32 = 64;
/// The splice's own place among the descriptors.
const SPLICE: u64 = u64::MAX;

pub use event::{LineEvent, Received};
pub use outgoing::{Body, Outgoing};

/// All lines, and the splice that connects them.
pub struct Lines {
    context: Context,
    splice: Splice,
    register: Register,
    shared: Shared,
    changes: Changes,
    news: VecDeque<LineEvent>,
    /// The splice has something to say.
    has_word: bool,
    spare: Vec<Frame>,
    /// The time of what is being read.
    now: MonoTime,
}

/// What peers must show before a line is theirs.
#[derive(Debug)]
pub struct Lock<'a> {
    /// The broker's secret key.
    pub server_secret: &'a str,
    /// Where ZAP judges; `None`: any key will do.
    pub zap_domain: Option<&'a str>,
}

impl Lines {
    /// Takes a started splice over.
    ///
    /// # Errors
    /// The system's, when it is out of descriptors.
    pub fn new(context: &Context, splice: Splice) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(&splice, SPLICE, Interest::Read)?;
        Ok(Lines {
            context: context.clone(),
            splice,
            register: Register::default(),
            shared: Shared {
                epoll,
                buffers: Vec::new(),
            },
            changes: Changes::default(),
            news: VecDeque::new(),
            has_word: false,
            spare: Vec::new(),
            now: MonoTime::ZERO,
        })
    }

    /// The splice, to ask.
    pub fn splice(&self) -> &Splice {
        &self.splice
    }

    /// Connects to a server that listens itself, whenever it is there.
    ///
    /// # Errors
    /// [`SpliceError`] says what is wrong with the endpoint.
    pub fn dial(&mut self, endpoint: &str) -> Result<DialId, SpliceError> {
        self.splice.dial(endpoint, false)
    }

    /// Connects to it no more, and ends its line.
    pub fn undial(&mut self, dial: DialId) {
        self.splice.undial(dial);
    }

    /// Ends a line; its `Gone` follows.
    pub fn close(&mut self, link: LinkId) {
        self.splice.close(link);
    }

    /// Stops listening and dialling. The lines end with the splice, or when they are dropped.
    pub fn stop(&mut self) {
        self.splice.stop();
    }

    /// Takes note of what changed, and of time that has passed.
    pub fn look(&mut self, now: MonoTime) {
        self.now = now;
        let mut changes = std::mem::take(&mut self.changes);
        if let Err(error) = self.shared.epoll.wait(&mut changes, Some(Duration::ZERO)) {
            warn!("lines: {error}");
        }
        for change in changes.iter() {
            if change.token == SPLICE {
                self.has_word = true;
                continue;
            }
            let link = LinkId::of_token(change.token);
            if let Some(direct) = self.register.direct(link) {
                direct.changed(change);
                if direct.is_blocked() && change.writable {
                    self.register.note_unflushed(link);
                }
            }
            if change.readable {
                self.register.note_unread(link);
            }
        }
        // All that had been said is heard before silence is judged.
        if !changes.is_full() && self.register.pulse.next().is_some_and(|at| at <= now) {
            self.tick();
        }
        self.changes = changes;
    }

    /// When to [look](Self::look) though no descriptor says so.
    pub fn next_due(&self) -> Option<MonoTime> {
        self.register.pulse.next()
    }

    /// What happened, if anything did.
    ///
    /// An arrival is to be joined before the next event is asked for, which may be that it is ready.
    pub fn next_event(&mut self) -> Option<LineEvent> {
        if let Some(event) = self.news.pop_front() {
            return Some(event);
        }
        while self.has_word {
            match self.splice.try_event() {
                None => self.has_word = false,
                Some(event) => {
                    if let Some(event) = self.heed(event) {
                        return Some(event);
                    }
                }
            }
        }
        None
    }

    /// Whether there is something to read, to hear of or to be written at once.
    pub fn is_pending(&self) -> bool {
        self.register.has_work() || !self.news.is_empty() || self.has_word
    }

    /// Takes the next line that may have something to read off the list.
    pub fn next_unread(&mut self) -> Option<LinkId> {
        self.register.next_unread()
    }

    /// Puts a line on the list of those that may have something to read.
    pub fn list(&mut self, link: LinkId) {
        self.register.note_unread(link);
    }

    /// Opens our end for a peer that has arrived.
    ///
    /// # Errors
    /// [`SocketError`] when a socket can't be had.
    pub fn join(&mut self, arrival: &Arrival, lock: Option<Lock<'_>>) -> Result<(), SocketError> {
        let link = arrival.link;
        let way = match &arrival.way {
            Way::Direct => LineWay::Awaited,
            Way::Dealer(endpoint) => {
                let profile = Profile::Lane {
                    credit: UNSENT_MAX,
                    heartbeat: arrival.answers_pings,
                };
                let socket = Socket::open(&self.context, Kind::Dealer, &profile)?;
                if let Some(lock) = lock {
                    socket.set_curve_server(lock.server_secret)?;
                    if let Some(domain) = lock.zap_domain {
                        socket.set_zap_domain(domain)?;
                    }
                }
                socket.connect(endpoint)?;
                // The descriptor lives as long as the socket.
                let fd = socket.borrow_fd()?;
                if let Err(error) = self.shared.epoll.add(fd, link.token(), Interest::Read) {
                    warn!("lines: {error}");
                    self.splice.close(link);
                }
                LineWay::Dealer(socket)
            }
        };
        let line = Line::new(way, arrival.answers_pings);
        self.register.enter(link, line);
        self.register.note_unread(link);
        Ok(())
    }

    /// Receives the next message of a line into `frames`, if there is one. At most one read is made.
    ///
    /// # Errors
    /// [`SocketError`] when a DEALER can't be used at all.
    pub fn receive(
        &mut self,
        link: LinkId,
        frames: &mut Vec<Frame>,
    ) -> Result<Received, SocketError> {
        let Some(line) = self.register.line(link) else {
            return Ok(Received::Empty);
        };
        match &mut line.way {
            LineWay::Awaited => Ok(Received::Empty),
            LineWay::Dealer(socket) => Ok(match socket.recv_into(frames)? {
                true => Received::Message,
                false => Received::Empty,
            }),
            LineWay::Direct(direct) => match direct.receive(frames, &mut self.shared) {
                Ok(received) => {
                    if direct.owes_pong() {
                        self.register.note_unflushed(link);
                    }
                    Ok(received)
                }
                Err(reason) => {
                    self.end(link, reason);
                    Ok(Received::Empty)
                }
            },
        }
    }

    /// Sends a message, or queues it to be [flushed](Self::flush). `false`: the line is full, or
    /// gone.
    pub fn send(&mut self, link: LinkId, message: Outgoing<'_>) -> bool {
        let Some(line) = self.register.line(link) else {
            return false;
        };
        match &mut line.way {
            LineWay::Awaited => false,
            LineWay::Dealer(socket) => {
                message.into_frames(&mut self.spare);
                let sent = socket.send_frames(&mut self.spare);
                let is_sent = matches!(sent, Ok(SendOutcome::Sent));
                // The send may have taken in word of a message, which no edge tells of then.
                self.register.note_unread(link);
                is_sent
            }
            LineWay::Direct(direct) => {
                if direct.is_full(UNSENT_MAX as usize) {
                    return false;
                }
                direct.queue(message);
                self.register.note_unflushed(link);
                true
            }
        }
    }

    /// Writes what was queued, as far as there is room.
    pub fn flush(&mut self) {
        let mut again = Vec::new();
        for link in self.register.take_unflushed() {
            let Some(direct) = self.register.begin_flush(link) else {
                continue;
            };
            match direct.flush(&self.shared.epoll) {
                Written::All => {}
                Written::Blocked => self.register.watch(link),
                Written::Part => again.push(link),
                // What the peer said before it broke the connection can still be read.
                Written::Broken => self.register.note_unread(link),
            }
        }
        for link in again {
            self.register.note_unflushed(link);
        }
    }

    /// Lets a line that has ended go.
    pub fn forget(&mut self, link: LinkId) {
        self.register.remove(link);
    }

    /// What the splice says, for whoever uses the lines. `None`: it does not concern them.
    fn heed(&mut self, event: SpliceEvent) -> Option<LineEvent> {
        match event {
            SpliceEvent::Arrived(arrival) => Some(LineEvent::Arrived(arrival)),
            SpliceEvent::Ready { link, connection } => {
                let is_taken = connection.is_none_or(|connection| self.take_over(link, connection));
                is_taken.then_some(LineEvent::Ready(link))
            }
            SpliceEvent::Gone { link, reason } => {
                // A direct one was closed from here: nobody waits for its answers.
                if let Some(line) = self.register.line(link)
                    && !matches!(line.way, LineWay::Dealer(_))
                {
                    self.register.remove(link);
                }
                Some(LineEvent::Gone(link, reason))
            }
        }
    }

    /// Makes a connection that is through the handshake the line that was awaited. `false`: nobody
    /// awaits it any more, or it can't be used.
    fn take_over(&mut self, link: LinkId, connection: Connection) -> bool {
        let Some(line) = self.register.line(link) else {
            return false;
        };
        let limits = self.splice.limits();
        let answers_pings = line.answers_pings;
        match Direct::new(connection, link, answers_pings, limits, &self.shared.epoll) {
            Ok(direct) => line.way = LineWay::Direct(Box::new(direct)),
            Err(error) => {
                warn!("lines: {error}");
                self.splice.close(link);
                return false;
            }
        }
        if answers_pings {
            self.register.pulse.ping(link, self.now);
        }
        self.register.note_unread(link);
        true
    }

    /// A direct line has ended by itself.
    fn end(&mut self, link: LinkId, reason: GoneReason) {
        self.register.remove(link);
        self.splice.release(link);
        self.news.push_back(LineEvent::Gone(link, reason));
    }

    /// A moment of the loop's own time.
    fn tick(&mut self) {
        let watched = self.register.beat();
        let tick = self.register.pulse.tick();
        for link in watched {
            let Some(line) = self.register.line(link) else {
                continue;
            };
            let is_unread = line.is_unread();
            let Some(direct) = line.direct() else {
                continue;
            };
            match direct.judge(!is_unread, tick) {
                Ok(true) => self.register.watch(link),
                Ok(false) => {}
                Err(reason) => self.end(link, reason),
            }
        }
        while let Some(link) = self.register.pulse.next_ping() {
            if let Some(direct) = self.register.direct(link) {
                direct.ping(tick);
                self.register.pulse.ping(link, self.now);
                self.register.note_unflushed(link);
                self.register.watch(link);
            }
        }
        self.register.pulse.rest(self.now);
    }
}

impl AsFd for Lines {
    /// Readable when [`Lines::look`] would find something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.epoll.as_fd()
    }
}
