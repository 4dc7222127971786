//! `muster run`: a command for each item, on workers that allow it.
//!
//! Each job is a call that is never started twice by the broker. Starting a failed one again is this
//! side's affair and happens only with `--retries`, so the number of starts is known exactly.

mod driver;
mod ended;
mod items;
mod printed;
mod tally;
mod template;

use super::{CommandResult, Failure, connect, connect_patiently, on_interrupt};
use crate::cli::{Common, RunArgs};
use crate::output::Output;
use crate::progress::Progress;
use driver::{Event, Jobs, Run};
use items::Items;
use muster_proto::exit::Exit;
use serde_json::json;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use template::Template;

/// The method of workers with `--allow-run` (docs/protocol.md, "Running commands").
const METHOD: &str = "muster.run";

/// Runs the command for every item.
pub fn run(common: &Common, args: &RunArgs, out: &mut Output) -> CommandResult {
    let (words, items) = Items::split(args.words.clone(), args.null);
    if words.is_empty() {
        return Err(Failure::Usage("there is no command before :::".into()));
    }
    if words.len() > 1 && words[0].contains(char::is_whitespace) {
        let text = format!(
            "`{}`: flags of muster run stand before the command",
            words[1]
        );
        return Err(Failure::Usage(text));
    }
    let template = Template::new(words);
    if matches!(items, Items::Stdin(_)) && io::stdin().is_terminal() {
        out.note("items are read from the terminal, one a line; or name them behind :::");
    }
    if args.dry_run {
        return show(&template, items, out);
    }
    let client = if args.no_wait {
        connect(common)?
    } else {
        connect_patiently(common, args.reconnect)?
    };
    if !client.methods()?.iter().any(|method| method.name == METHOD) {
        return Err(Failure::NoWorker(
            "no worker here runs commands; start one with: muster-worker --allow-run".into(),
        ));
    }
    let (log, done) = args.joblog.open()?.unzip();
    let jobs = Jobs {
        args,
        client,
        template,
        folder: folder(args)?,
        log,
        done: done.unwrap_or_default(),
    };
    let is_wanted = !common.quiet && !args.no_progress && !args.no_wait;
    let progress = Progress::on_terminal(is_wanted, items.count(), "jobs");
    let run = Run::start(jobs, items, progress);
    let interrupts = run.sender();
    let stops = AtomicU64::new(0);
    on_interrupt(move || {
        let _ = interrupts.send(Event::Interrupt);
        // It may be stuck in writing to a pager; the second signal is final.
        if stops.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(Exit::Signal(2).number());
        }
    })?;
    run.finish(out)
}

/// The commands, as they would be run.
fn show(template: &Template, items: Items, out: &mut Output) -> CommandResult {
    let (events, found) = channel();
    let (permits, granted) = channel();
    std::thread::spawn(move || items.feed(&granted, &events));
    let mut seq = 0;
    loop {
        let _ = permits.send(());
        match found.recv() {
            Ok(Event::Item(item)) => {
                seq += 1;
                let item = item.map_err(|why| Failure::Usage(format!("item {seq}: {why}")))?;
                let command = template.show(&item, seq);
                if out.json {
                    let object = json!({"seq": seq, "item": item, "command": command});
                    out.line(&object.to_string())?;
                } else {
                    out.line(&command)?;
                }
            }
            Ok(Event::InputEnd(Err(source))) => return Err(stdin_failed(source)),
            _ => return Ok(Exit::Done),
        }
    }
}

/// The directory jobs work in; `None`: the worker's own.
fn folder(args: &RunArgs) -> Result<Option<String>, Failure> {
    let path = match &args.chdir {
        Some(path) if path.as_os_str() == "-" => return Ok(None),
        Some(path) => std::path::absolute(path),
        None => std::env::current_dir(),
    };
    let path = path.map_err(|source| Failure::System {
        what: "the current directory".into(),
        source,
    })?;
    match path.into_os_string().into_string() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Failure::Usage("the directory's name is not UTF-8".into())),
    }
}

fn stdin_failed(source: io::Error) -> Failure {
    Failure::System {
        what: "standard input".into(),
        source,
    }
}
