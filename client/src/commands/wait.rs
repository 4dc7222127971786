//! `muster wait`: until slots are ready.

use super::{CommandResult, Failure, connect};
use crate::cli::{Common, WaitArgs};
use crate::output::{Output, counted, note};
use muster_client::{Call, Client, Error, Slots};
use muster_proto::exit::Exit;
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, Instant};

/// How often the broker is asked.
const PAUSE: Duration = Duration::from_millis(50);
/// A broker started just before, in a script, gets this long to be found.
const BROKER_TIMEOUT: Duration = Duration::from_millis(800);
/// A question that gets no answer is asked again.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Members {
    slots: Slots,
}

/// Waits until enough slots are ready or run something.
pub fn run(common: &Common, args: &WaitArgs, out: &mut Output) -> CommandResult {
    let start = Instant::now();
    let is_bounded = !args.timeout.is_zero();
    let deadline = is_bounded.then(|| start + args.timeout);
    let is_over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
    let client = find(common, deadline.unwrap_or(start + BROKER_TIMEOUT))?;
    loop {
        let slots = ask(&client)?;
        if slots.ready + slots.busy >= args.slots {
            if out.json {
                let seconds = start.elapsed().as_secs_f64();
                out.line(
                    &json!({"ready": slots.ready, "busy": slots.busy, "waited_s": seconds})
                        .to_string(),
                )?;
            }
            return Ok(Exit::Done);
        }
        if is_over() {
            let there = slots.ready + slots.busy;
            note(&format!(
                "{there} of {} ready after {:?}",
                counted(args.slots, "slot"),
                args.timeout
            ));
            return Ok(Exit::Deadline);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The broker; one that is not there may come until the deadline.
fn find(common: &Common, deadline: Instant) -> Result<Client, Failure> {
    loop {
        match connect(common) {
            Err(Failure::Client(Error::NoBroker { .. } | Error::Silent { .. }))
                if Instant::now() + PAUSE < deadline =>
            {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

fn ask(client: &Client) -> Result<Slots, Failure> {
    let call = Call::new("broker.status", &())?.timeout(QUESTION_TIMEOUT);
    let members: Members = client.submit(call)?.wait()?.json()?;
    Ok(members.slots)
}
