//! How many jobs have ended, and how: what a person is told on standard error.

use crate::output::{Output, counted};
use crate::progress::Progress;
use std::time::{Duration, Instant};

/// Jobs that ended so far.
pub struct Tally {
    pub done: u64,
    pub failed: u64,
    /// Those that the joblog had.
    pub left_out: u64,
    progress: Option<Progress>,
    start: Instant,
}

impl Tally {
    /// None so far, as of now.
    pub fn new(progress: Option<Progress>) -> Self {
        Tally {
            done: 0,
            failed: 0,
            left_out: 0,
            progress,
            start: Instant::now(),
        }
    }

    /// Since the first job could start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Draws the progress bar, if there is one.
    pub fn show(&mut self) {
        if let Some(progress) = &mut self.progress {
            progress.show(self.done + self.left_out, self.done, self.failed);
        }
    }

    /// Takes the bar away while something else is written.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.progress {
            Some(progress) => progress.aside(write),
            None => write(),
        }
    }

    /// The bar makes room for what follows.
    pub fn clear(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.clear();
        }
    }

    /// The last line: `how` it ended, and how much there was.
    pub fn tell(&self, how: &str, out: &Output) {
        let before = match self.left_out {
            0 => String::new(),
            count => format!(", {count} done before"),
        };
        let (done, failed) = (self.done, self.failed);
        let seconds = self.elapsed().as_secs_f64();
        out.note(&format!(
            "{how}: {} in {seconds:.2} s, {failed} failed{before}",
            counted(done, "job")
        ));
    }
}
