//! A peer's connection and our DEALER's, joined: bytes both ways, and who is still there.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::LinkLimits;
use super::common::{Common, Side, Turn, ticks};
use super::event::GoneReason;
use super::flow::{Flow, Pumped, Watcher};
use super::frames::{Frames, Passed};
use super::greeting::{Dialect, OPENING};
use super::silence::Silence;
use super::wire::Wire;
use crate::epoll::{Change, Interest};

/// How long our DEALER may take to read what a gone peer has left.
const ENDING: Duration = Duration::from_secs(2);
/// libzmq's heartbeat interval on a lane, the time within which a PING follows any other frame.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// The copying stage of a link.
pub(super) struct Joint {
    lane: Wire,
    dialect: Dialect,
    /// Peer to lane.
    up: Flow,
    up_frames: Frames,
    /// Lane to peer.
    down: Flow,
    down_frames: Frames,
    /// Bytes of the lane's greeting that the peer has already had from us.
    opening_left: usize,
    does_peer_take: bool,
    handshake: Option<Handshake>,
    silence: Silence,
    ending: Option<Ending>,
}

/// The part of the handshake that follows the greeting.
struct Handshake {
    is_peer_ready: bool,
    is_lane_ready: bool,
    due: u64,
}

/// The peer has gone, and the DEALER has yet to read what it left.
struct Ending {
    reason: GoneReason,
    due: u64,
}

impl Joint {
    /// Joins our DEALER's connection to a peer that has said `greeting`.
    pub fn new(
        lane: OwnedFd,
        token: u64,
        greeting: &[u8],
        dialect: Dialect,
        common: &Common,
    ) -> io::Result<Self> {
        let lane = Wire::new(lane, token, Interest::Read, &common.epoll)?;
        // The encrypted PING can't be told from a request, which needs no answer; but one follows.
        let unsure = if dialect.is_encrypted {
            PING_INTERVAL
        } else {
            Duration::ZERO
        };
        Ok(Joint {
            lane,
            dialect,
            up: Flow::starting_with(greeting),
            up_frames: Frames::new(0),
            down: Flow::starting_with(&[]),
            down_frames: Frames::new(dialect.greeting_bytes - OPENING.len()),
            opening_left: OPENING.len(),
            does_peer_take: true,
            handshake: Some(Handshake {
                is_peer_ready: false,
                is_lane_ready: false,
                due: common.after(common.config.handshake),
            }),
            silence: Silence::new(ticks(common.config.limits.silence + unsure)),
            ending: None,
        })
    }

    /// Whether both sides have finished the handshake.
    pub fn is_ready(&self) -> bool {
        self.handshake.is_none()
    }

    /// Whether time alone can end it.
    pub fn needs_watch(&self) -> bool {
        self.handshake.is_some()
            || self.silence.is_asked()
            || self.ending.is_some()
            || self.is_stuck()
    }

    /// Whether a peer that should answer PINGs takes nothing at the moment.
    fn is_stuck(&self) -> bool {
        self.dialect.answers_pings && self.is_ready() && self.down.is_blocked()
    }

    /// Takes note of a change of one of its sockets.
    pub fn changed(&mut self, side: Side, change: Change) {
        match side {
            Side::Peer => self.up.source_changed(change),
            Side::Lane => self.down.source_changed(change),
        }
    }

    /// Copies what can be copied now.
    pub fn pump(&mut self, peer: &mut Wire, common: &mut Common) -> Result<Turn, GoneReason> {
        let mut up = self.pump_up(peer, common)?;
        let down = self.pump_down(peer, common)?;
        if down == Pumped::SinkEnded {
            // What the peer said before it broke the connection can still be read, and its end.
            self.does_peer_take = false;
            self.up.source_changed(Change {
                token: 0,
                readable: true,
                writable: false,
                closed: true,
            });
            up = self.pump_up(peer, common)?;
        }
        if self
            .handshake
            .as_ref()
            .is_some_and(|both| both.is_peer_ready && both.is_lane_ready)
        {
            self.handshake = None;
        }
        let is_over = up != Pumped::Unfinished && down != Pumped::Unfinished;
        Ok(if is_over { Turn::Over } else { Turn::Again })
    }

    /// Ends it if its time is over.
    pub fn judge(&mut self, peer: &Wire, tick: u64) -> Result<(), GoneReason> {
        if let Some(ending) = &self.ending {
            return if tick >= ending.due {
                Err(ending.reason)
            } else {
                Ok(())
            };
        }
        if self
            .handshake
            .as_ref()
            .is_some_and(|handshake| tick >= handshake.due)
        {
            return Err(GoneReason::HandshakeTimeout);
        }
        if self.is_stuck() {
            self.silence.stuck(self.down.passed(), tick);
        }
        if self.silence.is_asked() {
            let arrived = self.down.written().saturating_sub(peer.unsent_bytes());
            if self.silence.is_over(arrived, !self.up.is_blocked(), tick) {
                return Err(GoneReason::Silent);
            }
        }
        Ok(())
    }

    fn pump_up(&mut self, peer: &Wire, common: &mut Common) -> Result<Pumped, GoneReason> {
        if self.ending.is_some() {
            return Ok(Pumped::Idle);
        }
        let Common {
            epoll,
            spares,
            config,
            ..
        } = common;
        let mut watcher = UpWatcher {
            frames: &mut self.up_frames,
            silence: &mut self.silence,
            handshake: self.handshake.as_mut(),
            has_commands: self.dialect.has_commands,
            asked: self.down.passed(),
            limits: &config.limits,
        };
        let pumped = self
            .up
            .pump(peer, &mut self.lane, epoll, spares, &mut watcher)?;
        match pumped {
            Pumped::SourceEnded(reason) => {
                // libzmq reads all of it, then closes, then the loop may know.
                self.lane.end_sending();
                self.ending = Some(Ending {
                    reason,
                    due: common.after(ENDING),
                });
            }
            Pumped::SinkEnded => return Err(self.lane_end()),
            _ => {}
        }
        Ok(pumped)
    }

    fn pump_down(&mut self, peer: &mut Wire, common: &mut Common) -> Result<Pumped, GoneReason> {
        let Common {
            epoll,
            spares,
            tick,
            ..
        } = common;
        let pumped = if self.ending.is_some() || !self.does_peer_take {
            self.down.drain(&self.lane, spares)
        } else {
            let mut watcher = DownWatcher {
                frames: &mut self.down_frames,
                silence: &mut self.silence,
                handshake: self.handshake.as_mut(),
                dialect: self.dialect,
                opening_left: &mut self.opening_left,
                tick: *tick,
            };
            self.down
                .pump(&self.lane, peer, epoll, spares, &mut watcher)?
        };
        match pumped {
            Pumped::SourceEnded(_) => Err(self.lane_end()),
            _ => Ok(pumped),
        }
    }

    /// Why our own side has closed.
    fn lane_end(&self) -> GoneReason {
        match &self.ending {
            Some(ending) => ending.reason,
            None if self.handshake.is_some() => GoneReason::Refused,
            None => GoneReason::Closed,
        }
    }
}

/// Follows what the peer says.
struct UpWatcher<'a> {
    frames: &'a mut Frames,
    silence: &'a mut Silence,
    handshake: Option<&'a mut Handshake>,
    has_commands: bool,
    /// How much has been said to it.
    asked: u64,
    limits: &'a LinkLimits,
}

impl Watcher for UpWatcher<'_> {
    fn see(&mut self, bytes: &[u8], _: u64) -> Result<usize, GoneReason> {
        self.silence.broken(self.asked);
        let LinkLimits {
            message_bytes_max,
            message_frames_max,
            ..
        } = *self.limits;
        let passed = self
            .frames
            .follow(bytes, message_bytes_max, message_frames_max)
            .map_err(|_| GoneReason::TooLarge)?;
        if let Some(handshake) = &mut self.handshake {
            handshake.is_peer_ready |= passed.ends_handshake(self.has_commands);
        }
        Ok(0)
    }

    fn unseen(&self) -> u64 {
        self.frames.plain_left()
    }

    fn skip(&mut self, count: u64, _: u64) {
        if count > 0 {
            self.silence.broken(self.asked);
            self.frames.skip_plain(count);
        }
    }
}

/// Follows what our DEALER says.
struct DownWatcher<'a> {
    frames: &'a mut Frames,
    silence: &'a mut Silence,
    handshake: Option<&'a mut Handshake>,
    dialect: Dialect,
    opening_left: &'a mut usize,
    tick: u64,
}

impl DownWatcher<'_> {
    fn note(&mut self, passed: Passed, passed_bytes: u64) {
        if let Some(handshake) = &mut self.handshake {
            handshake.is_lane_ready |= passed.ends_handshake(self.dialect.has_commands);
        } else if self.dialect.answers_pings {
            let is_question = if self.dialect.is_encrypted {
                passed.frames > 0
            } else {
                passed.ping
            };
            if is_question {
                self.silence.asked(passed_bytes, self.tick);
            }
        }
    }
}

impl Watcher for DownWatcher<'_> {
    fn see(&mut self, bytes: &[u8], passed_bytes: u64) -> Result<usize, GoneReason> {
        let start = bytes.len().min(*self.opening_left);
        *self.opening_left -= start;
        // Our own libzmq: whatever it sends is within its limits.
        let passed = self
            .frames
            .follow(&bytes[start..], u64::MAX, u32::MAX)
            .map_err(|_| GoneReason::Refused)?;
        self.note(passed, passed_bytes);
        Ok(start)
    }

    fn unseen(&self) -> u64 {
        self.frames.plain_left()
    }

    fn skip(&mut self, count: u64, passed_bytes: u64) {
        if count > 0 {
            let passed = self.frames.skip_plain(count);
            self.note(passed, passed_bytes);
        }
    }
}
