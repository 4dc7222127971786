//! The progress bar on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// How often it is drawn.
const PAUSE: Duration = Duration::from_millis(100);

/// What is done and, where there is an end in sight, how far that is.
pub struct Progress {
    bar: ProgressBar,
    /// What is counted.
    noun: &'static str,
    next: Instant,
    last: (Instant, u64),
}

impl Progress {
    /// One for a person who watches; `None`: nobody does, or wants none. `length`: of the whole, if
    /// it has an end. `noun`: what is counted.
    pub fn on_terminal(is_wanted: bool, length: Option<u64>, noun: &'static str) -> Option<Self> {
        let is_shown = is_wanted && io::stderr().is_terminal();
        is_shown.then(|| Self::new(length, noun))
    }

    fn new(length: Option<u64>, noun: &'static str) -> Self {
        let style = match length {
            Some(_) => "{elapsed_precise} [{wide_bar}] {percent:>3} % {msg}",
            None => "{elapsed_precise} {spinner} {msg}",
        };
        let target = ProgressDrawTarget::stderr_with_hz(10);
        let bar = ProgressBar::with_draw_target(length, target);
        bar.set_style(ProgressStyle::with_template(style).expect("the template is ours"));
        let now = Instant::now();
        Progress {
            bar,
            noun,
            next: now + PAUSE,
            last: (now, 0),
        }
    }

    /// Draws it, unless it was drawn a moment ago. `position`: how much of the whole is behind.
    pub fn show(&mut self, position: u64, done: u64, failed: u64) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + PAUSE;
        let (since, before) = self.last;
        let rate = (done - before) as f64 / (now - since).as_secs_f64();
        self.last = (now, done);
        let failures = if failed > 0 {
            format!(", {failed} failed")
        } else {
            String::new()
        };
        let noun = self.noun;
        self.bar.set_position(position);
        self.bar
            .set_message(format!("{done} {noun}, {rate:.0}/s{failures}"));
        self.bar.tick();
    }

    /// Takes it away while something else is written.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// Leaves the line empty for what follows.
    pub fn clear(self) {
        self.bar.finish_and_clear();
    }
}
