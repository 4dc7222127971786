//! The log: on standard error for people, and without colours in the worker's file.

use env_logger::{Builder, Env, Logger, Target};
use muster_worker::ToFile;

/// Both places, with one filter.
struct Both {
    screen: Logger,
    file: Logger,
}

impl log::Log for Both {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.screen.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        self.screen.log(record);
        self.file.log(record);
    }

    fn flush(&self) {
        self.screen.flush();
    }
}

/// Starts it; the file begins when the worker's name is known.
pub fn init() {
    let builder = || Builder::from_env(Env::new().filter_or("MUSTER_LOG", "info"));
    let both = Both {
        screen: builder().build(),
        file: builder().target(Target::Pipe(Box::new(ToFile))).build(),
    };
    log::set_max_level(both.screen.filter());
    log::set_boxed_logger(Box::new(both)).expect("no other logger was set before");
}
