//! A worker of your own: functions of this program, offered to a cluster.
//!
//! `cargo run --release -p muster-worker --example custom_worker` joins the broker of this machine;
//! with an address, `… --example custom_worker tcp://host:5555`, another one. Then, for instance:
//! `muster call distance '{"x":0,"y":0}' '{"x":3,"y":4}'`.

use muster_worker::{Attachment, BrokerAddress, CallContext, CallError, Json, Worker};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Point {
    x: f64,
    y: f64,
}

fn main() -> Result<(), muster_worker::WorkerError> {
    let address = match std::env::args().nth(1) {
        Some(frontend) => BrokerAddress::Frontend(frontend),
        None => BrokerAddress::from_env(),
    };
    Worker::new()
        .slots(2)
        .function("distance", |a: Point, b: Point| {
            (a.x - b.x).hypot(a.y - b.y)
        })
        .params(["a", "b"])
        .doc("Return the distance between two points.")
        .function("middle", |a: Point, b: Point| {
            Json(Point {
                x: (a.x + b.x) / 2.0,
                y: (a.y + b.y) / 2.0,
            })
        })
        .params(["a", "b"])
        .doc("Return the point half way between two others.")
        .function("parse", |text: String| text.parse::<i64>())
        .params(["text"])
        .doc("Return the number that text spells.")
        .function_with_context("reverse", |call: &CallContext<'_>, bytes: Attachment| {
            let mut reversed = call.bytes(&bytes)?.into_owned();
            reversed.reverse();
            call.attach(reversed)
        })
        .params(["bytes"])
        .doc("Return bytes in reverse order.")
        .function_with_context("collatz", collatz)
        .params(["n"])
        .doc("Return the longest Collatz sequence that starts below n; can be cancelled.")
        .serve(address)
}

fn collatz(call: &CallContext<'_>, n: u64) -> Result<u64, CallError> {
    let mut longest = 0;
    for start in 1..n {
        if start % 10_000 == 0 {
            call.progress(start, n);
            if call.is_cancelled() {
                return Err(CallError::Cancelled);
            }
        }
        let (mut at, mut steps) = (start, 0);
        while at != 1 {
            at = if at % 2 == 0 { at / 2 } else { 3 * at + 1 };
            steps += 1;
        }
        longest = longest.max(steps);
    }
    Ok(longest)
}
