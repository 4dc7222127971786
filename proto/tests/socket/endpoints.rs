//! Endpoints that work and the errors of those that do not.

use std::fs;
use std::path::PathBuf;

use muster_proto::socket::{Frame, Kind, Profile, SendOutcome, Socket, SocketError};

use crate::{context, dial, listen, nonce, open, receive, send};

fn workers(context: &muster_proto::socket::Context) -> Socket {
    open(
        context,
        Kind::Router,
        Profile::Workers {
            disconnect: nonce(),
        },
    )
}

#[test]
fn an_address_in_use_is_named() {
    let context = context();
    let (_first, endpoint) = listen(
        &context,
        Kind::Router,
        Profile::Workers {
            disconnect: nonce(),
        },
    );
    let error = workers(&context).bind(&endpoint).unwrap_err();
    assert!(
        matches!(error, SocketError::AddressInUse { .. }),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!("{endpoint} is in use by another process")
    );
}

#[test]
fn an_address_of_another_machine_is_named() {
    let context = context();
    // RFC 5737: for documentation, on no machine.
    let error = workers(&context).bind("tcp://192.0.2.1:5555").unwrap_err();
    assert!(
        matches!(error, SocketError::AddressNotAvailable { .. }),
        "{error:?}"
    );
}

#[test]
fn texts_that_are_no_endpoints_are_errors_and_no_panics() {
    let context = context();
    let socket = workers(&context);
    for endpoint in [
        "",
        "x",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:x",
        "tcp://127.0.0.1:70000",
        "a\0b",
    ] {
        for error in [
            socket.bind(endpoint).unwrap_err(),
            socket.connect(endpoint).unwrap_err(),
        ] {
            assert!(
                matches!(error, SocketError::BadEndpoint { .. }),
                "{endpoint:?}: {error:?}"
            );
        }
    }
    let error = socket.connect("tcp://*:5555").unwrap_err();
    assert!(
        matches!(error, SocketError::BadEndpoint { .. }),
        "{error:?}"
    );
}

#[test]
fn local_paths_that_cannot_be_bound_say_why() {
    let context = context();
    let socket = workers(&context);
    let folder = tempfile::tempdir().unwrap();
    let within = |path: &str| format!("ipc://{}/{path}", folder.path().display());

    let error = socket.bind(&within("missing/s")).unwrap_err();
    assert!(
        error.to_string().contains("No such file or directory"),
        "{error}"
    );

    // ENOTDIR, one of the numbers at which the zmq crate panics.
    fs::write(folder.path().join("file"), "").unwrap();
    let error = socket.bind(&within("file/s")).unwrap_err();
    assert!(error.to_string().contains("Not a directory"), "{error}");

    let error = socket.bind(&within(&"a".repeat(108))).unwrap_err();
    let SocketError::PathTooLong {
        path,
        bytes,
        bytes_max,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (path, bytes_max),
        (PathBuf::from(&within(&"a".repeat(108))[6..]), 107)
    );
    assert!(bytes > 107);

    // The socket has not suffered.
    socket.bind(&within("s")).unwrap();
}

#[test]
fn unbinding_and_disconnecting_elsewhere_are_errors() {
    let context = context();
    let socket = workers(&context);
    assert!(matches!(
        socket.unbind("tcp://127.0.0.1:1"),
        Err(SocketError::Endpoint { .. })
    ));
    assert!(matches!(
        socket.disconnect("tcp://127.0.0.1:1"),
        Err(SocketError::Endpoint { .. })
    ));
    socket.bind("tcp://127.0.0.1:*").unwrap();
    socket.unbind(&socket.last_endpoint().unwrap()).unwrap();
}

#[test]
fn ipv4_addresses_stay_plain_and_a_wildcard_takes_both_families() {
    let context = context();
    let (_plain, endpoint) = listen(&context, Kind::Rep, Profile::DataLink);
    assert!(endpoint.starts_with("tcp://127.0.0.1:"), "{endpoint}");

    let any = workers(&context);
    any.bind("tcp://*:*").unwrap();
    let port = any
        .last_endpoint()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let mut hosts = vec!["127.0.0.1", "localhost"];
    // Some machines have no IPv6; then the wildcard means IPv4 alone.
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        hosts.push("[::1]");
    }
    for host in hosts {
        let endpoint = format!("tcp://{host}:{port}");
        let dealer = dial(&context, Kind::Dealer, Profile::DataLink, &endpoint);
        send(&dealer, [host.as_bytes()]);
        let frames = receive(&any);
        assert_eq!(frames[1][..], *host.as_bytes());
        let reply = [frames[0].share(), Frame::from("welcome")];
        assert_eq!(any.send(reply).unwrap(), SendOutcome::Sent);
        assert_eq!(receive(&dealer)[0], b"welcome");
        drop(dealer);
        // The news of its end.
        receive(&any);
    }
}
