//! `muster map`: one line in, one JSON line out.

mod log;

use super::{CommandResult, Failure, connect_patiently, on_interrupt};
use crate::cli::{Common, MapArgs};
use crate::output::{Output, counted};
use crate::progress::Progress;
use log::Logged;
use muster_client::{Block, ItemOutcome, Lines, LinesOptions, MapOptions, Step, Taken};
use muster_proto::exit::Exit;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the progress is shown, and a method nobody offers thought of.
const TICK: Duration = Duration::from_millis(100);
/// After this long a map whose method nobody offers says that it waits.
const WAITING_NOTE: Duration = Duration::from_secs(1);

/// Standard input or a file.
enum Input {
    Stdin(io::Stdin),
    File(File),
}

impl io::Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            // Without the standard library's own buffer in between, in which poll sees nothing.
            Input::Stdin(stdin) => Ok(rustix::io::read(stdin.as_fd(), buffer)?),
            Input::File(file) => file.read(buffer),
        }
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Input::Stdin(stdin) => stdin.as_fd(),
            Input::File(file) => file.as_fd(),
        }
    }
}

/// Maps the method over the lines.
pub fn run(common: &Common, args: &MapArgs, out: &mut Output) -> CommandResult {
    let input = open(args)?;
    let size = file_size(&input);
    // A pipe hands over more at once; that this is refused costs nothing but speed.
    let _ = rustix::pipe::fcntl_setpipe_size(input.as_fd(), 1 << 20);
    let client = connect_patiently(common, args.reconnect)?;
    let lines = Lines::new(
        input,
        LinesOptions {
            is_text: args.text,
            is_nul_separated: args.null,
        },
    );
    let taken = lines.taken();
    let options = MapOptions {
        is_unordered: args.unordered,
        is_spread: args.spread,
        is_single: args.single,
        in_flight: args.in_flight,
        timeout: args.timeout,
        attempts_max: args.attempts,
        priority: args.priority,
        to: args.to.clone(),
    };
    let (mut map, mut log) = match args.joblog.open()? {
        None => (client.map(&args.method, lines, options)?, None),
        Some((log, done)) => {
            let source = Logged::new(lines, &args.method, done);
            let memory = source.memory();
            let map = client.map(&args.method, source, options)?;
            (map, Some((log, memory)))
        }
    };
    let stopper = map.stopper();
    let stops = AtomicU64::new(0);
    on_interrupt(move || {
        stopper.stop();
        // The map may be stuck in writing to a pager; the second signal is final.
        if stops.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(Exit::Signal(2).number());
        }
    })?;

    let start = Instant::now();
    let mut told = Told::new(common, args, size, taken);
    loop {
        // What is there goes out before a wait: a person at a pipe sees every answer at once.
        let step = match map.next_block(Some(Duration::ZERO)) {
            Step::NotYet => {
                out.flush()?;
                map.next_block(Some(TICK))
            }
            step => step,
        };
        match step {
            Step::Block(block) => {
                told.failed += print(&block, args, out)?;
                if let Some((log, memory)) = &mut log {
                    // What the log has is not printed again, so it is printed first.
                    out.flush()?;
                    memory.log(&block, &args.method, log)?;
                }
            }
            Step::NotYet => {}
            Step::End => break,
            Step::Failed(muster_client::Error::Cancelled) => {
                out.flush()?;
                told.finish(start, "interrupted", out);
                return Ok(Exit::Signal(2));
            }
            Step::Failed(error) => {
                out.flush()?;
                told.finish(start, "ended early", out);
                return Err(error.into());
            }
        }
        told.done = map.delivered();
        told.left_out = log.as_ref().map_or(0, |(_, memory)| memory.left_out());
        told.show(start, map.is_offered(), &args.method, out);
    }
    out.flush()?;
    told.finish(start, "done", out);
    Ok(if told.failed > 0 {
        Exit::Failed
    } else {
        Exit::Done
    })
}

fn open(args: &MapArgs) -> Result<Input, Failure> {
    let path = match args.file.as_deref() {
        None => return Ok(Input::Stdin(io::stdin())),
        Some(path) if path.as_os_str() == "-" => return Ok(Input::Stdin(io::stdin())),
        Some(path) => path,
    };
    // A folder can be opened, and fails when it is read.
    let opened = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(file),
    });
    let wrong = |source| Failure::Usage(format!("{}: {source}", path.display()));
    opened.map(Input::File).map_err(wrong)
}

/// How much there is to read; `None`: no end is known.
fn file_size(input: &Input) -> Option<u64> {
    let found = rustix::fs::fstat(input).ok()?;
    let is_file = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
    is_file.then(|| u64::try_from(found.st_size).unwrap_or(0))
}

/// Writes a line for each outcome; how many failed.
fn print(block: &Block, args: &MapArgs, out: &mut Output) -> io::Result<u64> {
    let mut failed = 0;
    // Rare, so it is looked for in the block as a whole: white space of a worker's JSON.
    let has_newline = block.has_newline();
    for outcome in block.outcomes() {
        match outcome {
            ItemOutcome::Result(text) if args.raw_output && text.starts_with('"') => {
                match serde_json::from_str::<String>(text) {
                    Ok(plain) => out.line(&plain)?,
                    Err(_) => out.line(text)?,
                }
            }
            ItemOutcome::Result(text) if has_newline => {
                out.line(&text.replace(['\n', '\r'], " "))?;
            }
            ItemOutcome::Result(text) => out.line(text)?,
            ItemOutcome::Error(error) => {
                failed += 1;
                out.line(&format!(
                    "{{\"error\":{}}}",
                    error.replace(['\n', '\r'], " ")
                ))?;
            }
        }
    }
    Ok(failed)
}

/// What a person is told on standard error.
struct Told {
    progress: Option<Progress>,
    /// What of the input is under way or behind.
    taken: Arc<Taken>,
    is_waiting_told: bool,
    done: u64,
    failed: u64,
    /// Lines that the joblog had.
    left_out: u64,
}

impl Told {
    fn new(common: &Common, args: &MapArgs, size: Option<u64>, taken: Arc<Taken>) -> Self {
        let is_wanted = !common.quiet && !args.no_progress;
        Told {
            progress: Progress::on_terminal(is_wanted, size, "items"),
            taken,
            is_waiting_told: false,
            done: 0,
            failed: 0,
            left_out: 0,
        }
    }

    fn show(&mut self, start: Instant, is_offered: bool, method: &str, out: &Output) {
        if let Some(progress) = &mut self.progress {
            let position = self.taken.bytes_of(self.done + self.left_out);
            progress.show(position, self.done, self.failed);
        }
        if !is_offered && !self.is_waiting_told && start.elapsed() >= WAITING_NOTE {
            self.is_waiting_told = true;
            out.note(&format!(
                "no worker offers {method} now; the map waits for one"
            ));
        }
    }

    fn finish(&mut self, start: Instant, how: &str, out: &Output) {
        if let Some(progress) = self.progress.take() {
            progress.clear();
        }
        let seconds = start.elapsed().as_secs_f64();
        let rate = self.done as f64 / seconds.max(1e-9);
        let (done, failed) = (self.done, self.failed);
        let before = match self.left_out {
            0 => String::new(),
            count => format!(", {count} done before"),
        };
        out.note(&format!(
            "{how}: {} in {seconds:.2} s ({rate:.0}/s), {failed} failed{before}",
            counted(done, "item")
        ));
    }
}
