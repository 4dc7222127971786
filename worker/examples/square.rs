//! The smallest worker: one function, offered to the broker of this machine.

use muster_worker::{BrokerAddress, Worker, WorkerError};

fn main() -> Result<(), WorkerError> {
    Worker::new()
        .slots(1)
        .function("square", |x: f64| x * x)
        .params(["x"])
        .doc("Return x times x.")
        .serve(BrokerAddress::from_env())
}
