//! A client made with the client library: it finds broker and calls again by itself.

use super::{ClientArgs, end_with_parent, ready};
use crate::log::ClientLog;
use crate::work::Draw;
use anyhow::ensure;
use muster_client::{Call, Client, Error, Pending, Target};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub fn run(args: &ClientArgs) -> anyhow::Result<()> {
    let log = ClientLog::open(&args.log)?;
    end_with_parent();
    ready()?;
    let client = connect(args)?;
    let start = Instant::now();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.in_flight)
            .map(|_| scope.spawn(|| calls(args, &client, &log, start, &next)))
            .collect();
        for thread in threads {
            thread.join().expect("a client's thread")?;
        }
        anyhow::Ok(())
    })?;
    Ok(log.end()?)
}

/// The broker may just be restarting.
fn connect(args: &ClientArgs) -> anyhow::Result<Client> {
    let target = Target {
        connection: Some(args.connection.clone()),
        ..Target::default()
    };
    let start = Instant::now();
    loop {
        match Client::connect(&target) {
            Ok(client) => return Ok(client),
            Err(error) => ensure!(start.elapsed() < args.patience(), "no broker: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn calls(
    args: &ClientArgs,
    client: &Client,
    log: &ClientLog,
    start: Instant,
    next: &AtomicU64,
) -> anyhow::Result<()> {
    loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        if place >= args.count {
            return Ok(());
        }
        std::thread::sleep(args.due(place).saturating_sub(start.elapsed()));
        let n = args.first + place;
        let draw = Draw::of(args.seed, n);
        let mut call = Call::new(draw.method(), &(n, draw.nap_ms))?;
        if draw.is_once {
            call = call.attempts_max(1);
        }
        log.sent(n, draw)?;
        match client
            .submit(call)
            .map(|call: Pending| call.wait_timeout(args.patience()))
        {
            Ok(None) => log.stuck(n)?,
            Ok(Some(Ok(answer))) => log.answer(n, answer.text())?,
            Ok(Some(Err(error))) | Err(error) => log.error(n, &word(&error))?,
        }
    }
}

/// An error as the log has it.
fn word(error: &Error) -> String {
    match error {
        Error::Rpc(error) => super::stock_client::word(error),
        Error::UnknownOutcome => "unknown".into(),
        Error::BrokerLost { .. } => "broker-lost".into(),
        Error::Closed => "closed".into(),
        other => format!("{other}").replace(' ', "-"),
    }
}
