//! Calls from a Rust program, on the broker of this machine: `muster up -n 4` starts one.

use muster_client::{Call, Client, Error, MapOptions, Target, as_completed};
use std::time::Duration;

fn main() -> Result<(), Error> {
    let client = Client::connect(&Target::from_env())?;

    // One call, waited for.
    let product: i64 = client.call("multiply", &(5, 3))?.json()?;
    println!("5 * 3 = {product}");

    // Several at once, in the order in which they end.
    let sleeps = [0.2, 0.1].map(|seconds| Call::new("sleep", &[seconds]));
    let calls = sleeps
        .into_iter()
        .map(|call| client.submit(call?.timeout(Duration::from_secs(10))))
        .collect::<Result<Vec<_>, _>>()?;
    for (place, outcome) in as_completed(&calls) {
        println!("call {place} slept {} s", outcome?.text());
    }

    // A batch is one message there and one back; each call has an outcome of its own.
    for outcome in client.batch(vec![
        Call::new("is_even", &[4])?,
        Call::new("fail", &["no"])?,
    ])? {
        match outcome {
            Ok(answer) => println!("batch: {}", answer.text()),
            Err(error) => println!("batch: {error}"),
        }
    }

    // A map takes any iterator, keeps the order, and holds only what is under way in memory.
    let mut even = 0;
    for outcome in client
        .map("is_even", 0..100_000, MapOptions::default())?
        .outcomes()
    {
        let (_, result) = outcome?;
        even += u32::from(result? == "true");
    }
    println!("{even} of 100000 numbers are even");

    // Bytes travel beside the call, without a copy in the broker: {"$frame": 0} stands for them.
    let call = Call::with_json("echo", Some(r#"[{"$frame": 0}]"#.into()))?.attach(vec![7; 1 << 20]);
    let answer = client.submit(call)?.wait()?;
    println!("{} bytes came back", answer.attachments()[0].len());
    Ok(())
}
