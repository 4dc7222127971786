//! The progress bar on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often it is drawn.
const PAUSE: Duration = Duration::from_millis(100);

/// Items done and, for input of known size, how far it is read.
pub struct Progress {
    bar: ProgressBar,
    read: Arc<AtomicU64>,
    next: Instant,
    last: (Instant, u64),
}

impl Progress {
    /// `size`: bytes of the input, if it has an end.
    pub fn new(size: Option<u64>, read: Arc<AtomicU64>) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(10);
        let (bar, style) = match size {
            Some(size) => (
                ProgressBar::with_draw_target(Some(size), target),
                "{elapsed_precise} [{wide_bar}] {percent:>3} % {msg}",
            ),
            None => (
                ProgressBar::with_draw_target(None, target),
                "{elapsed_precise} {spinner} {msg}",
            ),
        };
        bar.set_style(ProgressStyle::with_template(style).expect("the template is ours"));
        let now = Instant::now();
        Progress {
            bar,
            read,
            next: now + PAUSE,
            last: (now, 0),
        }
    }

    /// Draws it, unless it was drawn a moment ago.
    pub fn show(&mut self, done: u64, failed: u64) {
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
        self.bar.set_position(self.read.load(Ordering::Relaxed));
        self.bar
            .set_message(format!("{done} items, {rate:.0}/s{failures}"));
        self.bar.tick();
    }

    /// Leaves the line empty for what follows.
    pub fn clear(self) {
        self.bar.finish_and_clear();
    }
}
