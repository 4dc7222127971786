//! Other processes: this test program started again, in a role.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use muster_proto::socket::{Kind, Profile};

use crate::{context, dial, listen, receive, send};

const ENDPOINT: &str = "MUSTER_TEST_ENDPOINT";

/// A process that ends with the test, however the test ends.
pub struct Peer(Child);

impl Peer {
    /// Starts one of the ignored tests below as a process of its own.
    pub fn start(role: &str, endpoint: &str) -> Self {
        let child = Command::new(env::current_exe().expect("this program"))
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                &format!("process::{role}"),
            ])
            .env(ENDPOINT, endpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        Self(child)
    }

    pub fn kill(&mut self) {
        self.0.kill().expect("it is our child");
        self.0.wait().expect("it is our child");
    }

    /// The first line of output that starts with `word`, without it.
    pub fn line(&mut self, word: &str) -> String {
        let output = self.0.stdout.take().expect("read once");
        BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            // The harness writes the test's name on the same line first.
            .find_map(|line| line.split_once(word).map(|(_, rest)| rest.to_owned()))
            .expect("the role says so")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends numbered messages to the endpoint until it is killed.
#[test]
#[ignore = "a role that other tests start"]
fn sender() {
    let context = context();
    let socket = dial(
        &context,
        Kind::Dealer,
        Profile::ClientLink,
        &env::var(ENDPOINT).unwrap(),
    );
    for number in 0u64.. {
        send(&socket, [&number.to_be_bytes(), &[0; 500]]);
    }
}

/// Prints the routing id that its first peer gets, then waits for the end of its input.
#[test]
#[ignore = "a role that other tests start"]
fn first_routing_id() {
    let context = context();
    let (router, endpoint) = listen(
        &context,
        Kind::Router,
        Profile::Frontend {
            disconnect: crate::nonce(),
        },
    );
    let dealer = dial(&context, Kind::Dealer, Profile::ClientLink, &endpoint);
    send(&dealer, [b"x"]);
    println!("routing id {:?}", &receive(&router)[0][..]);
    std::io::stdout().flush().unwrap();
}

#[test]
fn routing_ids_differ_between_processes() {
    // libzmq draws them from libc's generator, which starts alike in every process unless seeded.
    let ids: Vec<String> = (0..3)
        .map(|_| Peer::start("first_routing_id", "").line("routing id "))
        .collect();
    assert!(
        ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2],
        "{ids:?}"
    );
}
