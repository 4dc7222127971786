//! Copying one direction of a link, with no more in hand than one buffer.

use std::io::{self, ErrorKind};

use super::event::GoneReason;
use super::pipe::Pipe;
use super::wire::Wire;
use crate::epoll::{Change, Epoll};

/// Read at once. Large enough that system calls do not count, small enough to stay in the
/// processor's cache between the read and the write.
const BUFFER_BYTES: usize = 64 << 10;
/// Buffers, and pipes, kept for the next use.
const SPARE_MAX: usize = 16;
/// Reads of one link before the others get their turn.
const READS_MAX: usize = 8;
/// From so many bytes of one frame on, moving pages beats copying them.
const MOVE_BYTES_MIN: u64 = 32 << 10;

/// Buffers and pipes that no flow holds.
pub(super) struct Spares {
    buffers: Vec<Box<[u8]>>,
    pipes: Vec<Pipe>,
    can_move: bool,
}

impl Default for Spares {
    fn default() -> Self {
        Spares {
            buffers: Vec::new(),
            pipes: Vec::new(),
            can_move: true,
        }
    }
}

impl Spares {
    fn take_buffer(&mut self) -> Box<[u8]> {
        self.buffers
            .pop()
            .unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
    }

    fn give(&mut self, held: Held) {
        match held {
            Held::Bytes { buffer, .. } => {
                if buffer.len() == BUFFER_BYTES && self.buffers.len() < SPARE_MAX {
                    self.buffers.push(buffer);
                }
            }
            // One that still holds bytes is of no use.
            Held::Moved { pipe, count: 0 } if self.pipes.len() < SPARE_MAX => self.pipes.push(pipe),
            Held::Moved { .. } => {}
        }
    }

    /// None: bytes have to be copied, for want of descriptors or of a kernel that moves them.
    fn take_pipe(&mut self) -> Option<Pipe> {
        if !self.can_move {
            return None;
        }
        self.pipes.pop().or_else(|| Pipe::new().ok())
    }
}

/// Who follows a stream while it passes.
pub(super) trait Watcher {
    /// Sees bytes before they are written, with the count of bytes passed up to their end, and says
    /// from where on they are to be written.
    fn see(&mut self, bytes: &[u8], passed: u64) -> Result<usize, GoneReason>;

    /// How many of the next bytes it does not need to see.
    fn unseen(&self) -> u64;

    /// So many of them have passed.
    fn skip(&mut self, count: u64, passed: u64);
}

/// One direction of a link. While the sink takes nothing, the source is not read.
#[derive(Debug)]
pub(super) struct Flow {
    /// Read and not yet written.
    held: Option<Held>,
    may_read: bool,
    is_source_closed: bool,
    passed: u64,
}

#[derive(Debug)]
enum Held {
    Bytes {
        buffer: Box<[u8]>,
        start: usize,
        end: usize,
    },
    Moved {
        pipe: Pipe,
        count: usize,
    },
}

/// How far copying got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// The source has nothing more now.
    Idle,
    /// The sink has no room; the source is not read.
    Blocked,
    /// There is more, but others have their turn first.
    Unfinished,
    /// The source has ended and everything was written.
    SourceEnded(GoneReason),
    /// The sink takes nothing any more.
    SinkEnded,
}

impl Flow {
    /// Starts with bytes that were read before.
    pub fn starting_with(bytes: &[u8]) -> Self {
        let held = Held::Bytes {
            buffer: bytes.into(),
            start: 0,
            end: bytes.len(),
        };
        Flow {
            held: Some(held),
            may_read: true,
            is_source_closed: false,
            passed: bytes.len() as u64,
        }
    }

    /// Takes note of a change of the source.
    pub fn source_changed(&mut self, change: Change) {
        self.may_read |= change.readable;
        // Then a read that finds little must be followed by one that finds the end.
        self.is_source_closed |= change.closed;
    }

    /// Bytes read so far.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Bytes that the sink has taken.
    pub fn written(&self) -> u64 {
        let held = match &self.held {
            None => 0,
            Some(Held::Bytes { start, end, .. }) => end - start,
            Some(Held::Moved { count, .. }) => *count,
        };
        self.passed - held as u64
    }

    /// Whether the sink keeps the source from being read.
    pub fn is_blocked(&self) -> bool {
        self.held.is_some()
    }

    /// Copies until the source is empty, the sink full or the turn over.
    pub fn pump(
        &mut self,
        source: &Wire,
        sink: &mut Wire,
        epoll: &Epoll,
        spares: &mut Spares,
        watcher: &mut impl Watcher,
    ) -> Result<Pumped, GoneReason> {
        for _ in 0..READS_MAX {
            match self.write_held(sink, epoll, spares) {
                Ok(true) => {}
                Ok(false) => return Ok(Pumped::Blocked),
                Err(_) => return Ok(Pumped::SinkEnded),
            }
            if !self.may_read {
                return Ok(Pumped::Idle);
            }
            match self.read(source, spares, watcher)? {
                Ok(0) => return Ok(Pumped::SourceEnded(GoneReason::Eof)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.may_read = false;
                    return Ok(Pumped::Idle);
                }
                Err(_) => return Ok(Pumped::SourceEnded(GoneReason::Reset)),
            }
        }
        match self.write_held(sink, epoll, spares) {
            Ok(true) => Ok(Pumped::Unfinished),
            Ok(false) => Ok(Pumped::Blocked),
            Err(_) => Ok(Pumped::SinkEnded),
        }
    }

    /// Reads and drops, to learn of the source's end.
    pub fn drain(&mut self, source: &Wire, spares: &mut Spares) -> Pumped {
        self.held = None;
        let mut buffer = spares.take_buffer();
        let mut pumped = Pumped::Unfinished;
        for _ in 0..READS_MAX {
            match source.recv(&mut buffer) {
                Ok(0) => pumped = Pumped::SourceEnded(GoneReason::Eof),
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => pumped = Pumped::Idle,
                Err(_) => pumped = Pumped::SourceEnded(GoneReason::Reset),
            }
            break;
        }
        spares.give(Held::Bytes {
            buffer,
            start: 0,
            end: 0,
        });
        pumped
    }

    /// Takes what the source has into `held`, which is empty; 0: it has ended.
    fn read(
        &mut self,
        source: &Wire,
        spares: &mut Spares,
        watcher: &mut impl Watcher,
    ) -> Result<io::Result<usize>, GoneReason> {
        let unseen = watcher.unseen();
        if unseen >= MOVE_BYTES_MIN
            && let Some(pipe) = spares.take_pipe()
        {
            let moved = pipe.fill(source, usize::try_from(unseen).unwrap_or(usize::MAX));
            match moved {
                Ok(count) if count > 0 => {
                    self.passed += count as u64;
                    watcher.skip(count as u64, self.passed);
                    self.held = Some(Held::Moved { pipe, count });
                    return Ok(moved);
                }
                // Some kernels and sandboxes move nothing between these sockets.
                Err(error) if error.kind() == ErrorKind::InvalidInput => spares.can_move = false,
                _ => {
                    spares.give(Held::Moved { pipe, count: 0 });
                    return Ok(moved);
                }
            }
        }
        let mut buffer = spares.take_buffer();
        let read = source.recv(&mut buffer);
        match read {
            Ok(end) if end > 0 => {
                // Less than asked for is all there was: what comes now is a new change.
                self.may_read = end == buffer.len() || self.is_source_closed;
                self.passed += end as u64;
                let start = watcher.see(&buffer[..end], self.passed)?;
                self.held = Some(Held::Bytes { buffer, start, end });
            }
            _ => spares.give(Held::Bytes {
                buffer,
                start: 0,
                end: 0,
            }),
        }
        Ok(read)
    }

    /// True: nothing is left to write.
    fn write_held(
        &mut self,
        sink: &mut Wire,
        epoll: &Epoll,
        spares: &mut Spares,
    ) -> io::Result<bool> {
        let Some(mut held) = self.held.take() else {
            return Ok(true);
        };
        let written = loop {
            let step = match &mut held {
                Held::Bytes { start, end, .. } if start == end => break Ok(true),
                Held::Bytes { buffer, start, end } => sink
                    .send(&buffer[*start..*end])
                    .map(|count| *start += count),
                Held::Moved { count: 0, .. } => break Ok(true),
                Held::Moved { pipe, count } => {
                    pipe.pour(&*sink, *count).map(|poured| *count -= poured)
                }
            };
            match step {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        match written {
            Ok(true) => {
                spares.give(held);
                sink.await_room(false, epoll)?;
            }
            Ok(false) => {
                self.held = Some(held);
                sink.await_room(true, epoll)?;
            }
            Err(_) => spares.give(held),
        }
        written
    }
}
