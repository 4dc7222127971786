//! Other processes: this test program started again, in a role.

use std::env;
use std::io::Write;

use muster_proto::socket::{Kind, Profile};
use muster_test_support::Role;

use crate::{context, dial, listen, receive, send};

const ENDPOINT: &str = "MUSTER_TEST_ENDPOINT";

/// Starts one of the ignored tests below as a process of its own.
pub fn start(role: &str, endpoint: &str) -> Role {
    Role::start(&format!("process::{role}"), &[(ENDPOINT, endpoint)])
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
        .map(|_| start("first_routing_id", "").line("routing id "))
        .collect();
    assert!(
        ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2],
        "{ids:?}"
    );
}
