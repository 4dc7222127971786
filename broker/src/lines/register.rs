//! All lines by their links, and the lists that they stand on: to be read, to be written, to be
//! judged. A line is on each of them once at most.

use super::direct::Direct;
use super::pulse::Pulse;
use crate::splice::LinkId;
use muster_proto::socket::Socket;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Register {
    lines: FxHashMap<LinkId, Line>,
    unread: VecDeque<LinkId>,
    unflushed: Vec<LinkId>,
    /// Its list is that of lines to be judged.
    pub pulse: Pulse,
}

pub(super) struct Line {
    pub way: LineWay,
    pub answers_pings: bool,
    is_unread: bool,
    is_unflushed: bool,
    is_watched: bool,
}

pub(super) enum LineWay {
    Dealer(Socket),
    /// The splice has the rest of the handshake.
    Awaited,
    Direct(Box<Direct>),
}

impl Line {
    pub fn new(way: LineWay, answers_pings: bool) -> Self {
        Line {
            way,
            answers_pings,
            is_unread: false,
            is_unflushed: false,
            is_watched: false,
        }
    }

    pub fn direct(&mut self) -> Option<&mut Direct> {
        match &mut self.way {
            LineWay::Direct(direct) => Some(direct),
            LineWay::Dealer(_) | LineWay::Awaited => None,
        }
    }

    /// Whether it may have something to read that was not looked at.
    pub fn is_unread(&self) -> bool {
        self.is_unread
    }
}

impl Register {
    /// Puts a line in the place of its link.
    pub fn enter(&mut self, link: LinkId, line: Line) {
        self.lines.insert(link, line);
    }

    pub fn remove(&mut self, link: LinkId) {
        self.lines.remove(&link);
    }

    pub fn line(&mut self, link: LinkId) -> Option<&mut Line> {
        self.lines.get_mut(&link)
    }

    pub fn direct(&mut self, link: LinkId) -> Option<&mut Direct> {
        self.line(link)?.direct()
    }

    /// Whether a line is to be read or written.
    pub fn has_work(&self) -> bool {
        !self.unread.is_empty() || !self.unflushed.is_empty()
    }

    /// A line may have something to read.
    pub fn note_unread(&mut self, link: LinkId) {
        if let Some(line) = self.lines.get_mut(&link)
            && !line.is_unread
        {
            line.is_unread = true;
            self.unread.push_back(link);
        }
    }

    /// Takes the next one off the list.
    pub fn next_unread(&mut self) -> Option<LinkId> {
        let link = self.unread.pop_front()?;
        if let Some(line) = self.lines.get_mut(&link) {
            line.is_unread = false;
        }
        Some(link)
    }

    /// A line has something to write, or is to be tried again.
    pub fn note_unflushed(&mut self, link: LinkId) {
        if let Some(line) = self.lines.get_mut(&link)
            && !line.is_unflushed
        {
            line.is_unflushed = true;
            self.unflushed.push(link);
        }
    }

    /// Takes the list; each of its lines is then [begun](Self::begin_flush).
    pub fn take_unflushed(&mut self) -> Vec<LinkId> {
        std::mem::take(&mut self.unflushed)
    }

    /// From here on the line can come onto the list again.
    pub fn begin_flush(&mut self, link: LinkId) -> Option<&mut Direct> {
        let line = self.lines.get_mut(&link)?;
        line.is_unflushed = false;
        line.direct()
    }

    /// A line is to be judged at the next tick, if silence can tell anything of it.
    pub fn watch(&mut self, link: LinkId) {
        if let Some(line) = self.lines.get_mut(&link)
            && line.answers_pings
            && !line.is_watched
        {
            line.is_watched = true;
            self.pulse.watch(link);
        }
    }

    /// Begins a tick. Gives the lines to be judged, which are watched no more.
    pub fn beat(&mut self) -> Vec<LinkId> {
        let watched = self.pulse.beat();
        for link in &watched {
            if let Some(line) = self.lines.get_mut(link) {
                line.is_watched = false;
            }
        }
        watched
    }
}
