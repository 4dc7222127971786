//! The gateway over real connections, in front of a made-up broker.

mod common;

use common::{FakeBroker, Gateway};
use muster_gateway::{Config, Patience, Token};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const TOKEN: &str = "a-token-of-some-length";

fn start(config: Config) -> Gateway {
    let broker = FakeBroker {
        workers: 1,
        slots: 2,
        ..FakeBroker::default()
    };
    Gateway::start(broker, config)
}

/// What came back: status, headers in lower case, body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body))
    }
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

/// Sends bytes as they are and reads until the gateway closes.
fn exchange(gateway: &Gateway, request: &str) -> Answer {
    let mut stream = connect(gateway);
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no status in {text:?}")),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// A request with these headers beside the usual ones.
fn send(gateway: &Gateway, line: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let host = match headers.to_ascii_lowercase().contains("host:") {
        true => "",
        false => "Host: localhost\r\n",
    };
    exchange(
        gateway,
        &format!(
            "{line} HTTP/1.1\r\n{host}Connection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        ),
    )
}

fn rpc(gateway: &Gateway, body: &str) -> Answer {
    send(
        gateway,
        "POST /rpc",
        "Content-Type: application/json\r\n",
        body,
    )
}

fn xml(gateway: &Gateway, body: &str) -> Answer {
    send(gateway, "POST /RPC2", "Content-Type: text/xml\r\n", body)
}

#[test]
fn calls_notifications_and_batches_are_answered_as_json_rpc_says() {
    let gateway = start(Config::default());
    let call = rpc(
        &gateway,
        r#"{"jsonrpc":"2.0","method":"m","params":[1, "ü"],"id":"x"}"#,
    );
    assert_eq!(call.status, 200);
    assert!(call.head.contains("content-type: application/json"));
    assert_eq!(
        call.json(),
        json!({"jsonrpc": "2.0", "result": [1, "ü"], "id": "x"})
    );
    let notification = rpc(&gateway, r#"{"jsonrpc":"2.0","method":"m"}"#);
    assert_eq!((notification.status, &*notification.body), (204, ""));
    let quiet = rpc(&gateway, r#"[{"jsonrpc":"2.0","method":"m"}]"#);
    assert_eq!((quiet.status, &*quiet.body), (204, ""));
    let batch =
        r#"[{"jsonrpc":"2.0","method":"m","id":1},3,{"jsonrpc":"2.0","method":"m","id":2}]"#;
    let batch = rpc(&gateway, batch);
    assert_eq!(batch.status, 200);
    let ids: Vec<Value> = batch
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["id"].clone())
        .collect();
    assert_eq!(ids, [json!(1), Value::Null, json!(2)]);
    let error = rpc(&gateway, r#"{"jsonrpc":"2.0","method":"nothing","id":1}"#);
    assert_eq!(
        (error.status, &error.json()["error"]["code"]),
        (200, &json!(-32601))
    );
}

#[test]
fn batches_go_through_byte_for_byte() {
    let gateway = start(Config::default());
    let body = r#" [ {"jsonrpc":"2.0" , "method":"m","id":1, "meta":{"priority":3}} ] "#;
    rpc(&gateway, body);
    assert_eq!(gateway.broker.bodies.lock().unwrap()[0], body);
}

#[test]
fn what_is_no_call_is_told_so() {
    let gateway = start(Config::default());
    for (body, status, code) in [
        ("", 400, -32700),
        ("hello", 400, -32700),
        ("{\"jsonrpc\": \"2.0\", \"method", 400, -32700),
        ("{}", 400, -32600),
        ("[]", 400, -32600),
        (
            r#"{"jsonrpc":"2.0","method":"broker.drain","id":1}"#,
            403,
            -32006,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"m","id":1,"meta":{"nonsense":1}}"#,
            400,
            -32600,
        ),
    ] {
        let answer = rpc(&gateway, body);
        let found = (answer.status, answer.json()["error"]["code"].clone());
        assert_eq!(found, (status, json!(code)), "{body}");
    }
    assert!(gateway.broker.bodies.lock().unwrap().is_empty());
}

#[test]
fn methods_types_and_sizes_have_their_status() {
    let config = Config {
        body_bytes_max: 1_000,
        ..Config::default()
    };
    let gateway = start(config);
    let get = send(&gateway, "GET /rpc", "", "");
    assert_eq!(get.status, 405);
    assert!(get.head.contains("allow: post"), "{}", get.head);
    assert_eq!(send(&gateway, "GET /RPC2", "", "").status, 405);
    assert_eq!(send(&gateway, "DELETE /", "", "").status, 405);
    assert_eq!(send(&gateway, "POST /metrics", "", "").status, 405);
    assert_eq!(send(&gateway, "GET /nothing", "", "").status, 404);
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
    ] {
        assert_eq!(
            send(&gateway, "POST /rpc", kind, "{}").status,
            415,
            "{kind}"
        );
        assert_eq!(
            send(&gateway, "POST /RPC2", kind, "<x/>").status,
            415,
            "{kind}"
        );
    }
    let large = "x".repeat(1_001);
    let refused = rpc(&gateway, &large);
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (413, &json!(-32005))
    );
    assert_eq!(xml(&gateway, &large).status, 413);
    // The same without saying so in advance.
    let chunk = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let chunked = exchange(
        &gateway,
        &format!(
            "POST /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n{chunk}"
        ),
    );
    assert_eq!(chunked.status, 413);
    let head = exchange(
        &gateway,
        &format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
            "x".repeat(100_000)
        ),
    );
    assert_eq!(head.status, 431);
}

#[test]
fn a_large_body_is_read_and_echoed() {
    let gateway = start(Config::default());
    let text = "x".repeat(15 << 20);
    let body = format!(r#"{{"jsonrpc":"2.0","method":"m","params":["{text}"],"id":1}}"#);
    let answer = rpc(&gateway, &body);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json()["result"][0].as_str().unwrap().len(),
        text.len()
    );
    let body = format!(
        "<methodCall><methodName>m</methodName><params><param><value>{text}</value></param></params></methodCall>"
    );
    let answer = xml(&gateway, &body);
    assert!(answer.body.len() > text.len() && answer.status == 200);
}

#[test]
fn other_origins_and_foreign_names_are_turned_away() {
    let config = Config {
        allow_hosts: vec!["pool.example".into()],
        ..Config::default()
    };
    let gateway = start(config);
    let call = r#"{"jsonrpc":"2.0","method":"m","id":1}"#;
    let with = |headers: &str| {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        let answer = send(&gateway, "POST /rpc", &headers, call);
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
        answer.status
    };
    assert_eq!(with(""), 200);
    assert_eq!(with("Host: pool.example\r\n"), 200);
    assert_eq!(with("Origin: http://localhost\r\n"), 200);
    assert_eq!(with("Origin: https://evil.example\r\n"), 403);
    assert_eq!(with("Origin: null\r\n"), 403);
    assert_eq!(with("Sec-Fetch-Site: cross-site\r\n"), 403);
    assert_eq!(with("Host: evil.example\r\n"), 421);
    // A page whose own name was made to lead here is its own origin.
    assert_eq!(
        with("Host: evil.example\r\nOrigin: http://evil.example\r\n"),
        421
    );
    let preflight = "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    let answer = send(&gateway, "OPTIONS /rpc", preflight, "");
    assert_eq!(answer.status, 403);
    assert!(!answer.head.contains("access-control"));
    for path in ["/", "/events", "/metrics", "/healthz"] {
        let answer = send(
            &gateway,
            &format!("GET {path}"),
            "Host: evil.example\r\n",
            "",
        );
        assert_eq!(answer.status, 421, "{path}");
    }
    assert_eq!(gateway.broker.bodies.lock().unwrap().len(), 3);
}

#[test]
fn the_token_is_asked_for_everywhere_but_at_the_probes() {
    let config = Config {
        token: Some(Token::new(TOKEN).unwrap()),
        ..Config::default()
    };
    let gateway = start(config);
    for line in [
        "POST /rpc",
        "POST /RPC2",
        "GET /",
        "GET /events",
        "GET /metrics",
        "GET /openrpc.json",
        "GET /nothing",
    ] {
        let answer = send(&gateway, line, "Content-Type: application/json\r\n", "");
        assert_eq!(answer.status, 401, "{line}");
        assert!(answer.head.contains("www-authenticate: basic"), "{line}");
        let wrong = "Authorization: Bearer wrong\r\n";
        assert_eq!(send(&gateway, line, wrong, "").status, 401, "{line}");
    }
    assert_eq!(send(&gateway, "GET /healthz", "", "").status, 200);
    assert_eq!(send(&gateway, "GET /readyz", "", "").status, 200);
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(send(&gateway, "GET /", &right, "").status, 200);
}

#[test]
fn probes_tell_life_from_readiness() {
    let gateway = start(Config::default());
    assert_eq!(send(&gateway, "GET /readyz", "", "").status, 200);
    assert_eq!(
        send(&gateway, "GET /openrpc.json", "", "").json()["openrpc"],
        "1.3.2"
    );
    gateway.broker.is_away.store(true, Ordering::Relaxed);
    assert_eq!(send(&gateway, "GET /healthz", "", "").status, 200);
    let ready = send(&gateway, "GET /readyz", "", "");
    assert_eq!((ready.status, &*ready.body), (503, "the broker is away\n"));
    let metrics = send(&gateway, "GET /metrics", "", "");
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("\nmuster_up 0\n"), "{}", metrics.body);
}

#[test]
fn every_line_of_the_metrics_is_one_that_prometheus_reads() {
    let gateway = start(Config::default());
    rpc(&gateway, r#"{"jsonrpc":"2.0","method":"m","id":1}"#);
    let metrics = send(&gateway, "GET /metrics", "", "");
    assert!(
        metrics
            .head
            .contains("content-type: text/plain; version=0.0.4")
    );
    let mut family = String::new();
    let mut seen = std::collections::BTreeSet::new();
    for line in metrics.body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            family = name.to_owned();
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(series.starts_with(&family), "{line} in {family}");
        assert!(seen.insert(series.to_owned()), "{line} is there twice");
    }
    assert!(metrics.body.contains("muster_up 1"));
    assert!(
        metrics
            .body
            .contains(r#"muster_worker_slots{worker="node-000"} 2"#)
    );
}

#[test]
fn a_caller_that_hangs_up_cancels_its_call() {
    let gateway = start(Config::default());
    let body = r#"{"jsonrpc":"2.0","method":"hold","id":1}"#;
    let mut stream = connect(&gateway);
    write!(
        stream,
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    wait_for(|| !gateway.broker.bodies.lock().unwrap().is_empty());
    assert!(gateway.broker.cancelled.lock().unwrap().is_empty());
    drop(stream);
    wait_for(|| !gateway.broker.cancelled.lock().unwrap().is_empty());
    let sent = gateway.broker.bodies.lock().unwrap()[0].clone();
    let key = gateway.broker.cancelled.lock().unwrap()[0].clone();
    assert!(sent.contains(&format!(r#""key":"{key}""#)), "{sent}");
}

#[test]
fn slow_callers_are_let_go() {
    let short = Duration::from_millis(300);
    let config = Config {
        patience: Patience {
            head: short,
            body: short,
            stall: short,
        },
        ..Config::default()
    };
    let gateway = start(config);
    // Half a head, and nothing more.
    let mut head = connect(&gateway);
    head.write_all(b"POST /rpc HTTP/1.1\r\nHost:").unwrap();
    let mut rest = Vec::new();
    head.read_to_end(&mut rest).unwrap();
    // Half a body.
    let body = exchange(
        &gateway,
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    );
    assert_eq!(body.status, 408);
    // An answer that nobody reads.
    let text = "x".repeat(15 << 20);
    let large = format!(r#"{{"jsonrpc":"2.0","method":"m","params":["{text}"],"id":1}}"#);
    let mut deaf = connect(&gateway);
    write!(
        deaf,
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{large}",
        large.len()
    )
    .unwrap();
    let connections = || {
        let metrics = send(&gateway, "GET /metrics", "", "").body;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("muster_gateway_connections "));
        line.unwrap()
            .rsplit_once(' ')
            .unwrap()
            .1
            .parse::<u32>()
            .unwrap()
    };
    wait_for(|| !gateway.broker.bodies.lock().unwrap().is_empty());
    // The one that asks is left.
    wait_for(|| connections() == 1);
    drop(deaf);
}

#[test]
fn too_many_connections_are_told_so_and_the_others_go_on() {
    let gateway = start(Config::default());
    let mut kept = connect(&gateway);
    let idle: Vec<TcpStream> = (0..1_023).map(|_| connect(&gateway)).collect();
    wait_for(|| {
        let mut one_more = connect(&gateway);
        let mut text = String::new();
        let _ = one_more
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let _ = one_more.read_to_string(&mut text);
        text.starts_with("HTTP/1.1 503")
    });
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    kept.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    drop(idle);
    wait_for(|| send(&gateway, "GET /healthz", "", "").status == 200);
}

#[test]
fn malformed_and_hostile_xml_gives_a_fault() {
    let gateway = start(Config::default());
    let entities: String = (0..9)
        .map(|n| format!("<!ENTITY e{} \"{}\">", n + 1, format!("&e{n};").repeat(10)))
        .collect();
    let bomb = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE b [<!ENTITY e0 \"ha\">{entities}]><methodCall><methodName>&e9;</methodName></methodCall>"
    );
    let foreign = "<!DOCTYPE x [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><methodCall><methodName>m</methodName>\
        <params><param><value>&f;</value></param></params></methodCall>";
    for body in [
        &*bomb,
        foreign,
        "",
        "hello",
        "<methodCall>",
        "<methodCall></methodResponse>",
    ] {
        let answer = xml(&gateway, body);
        assert_eq!(answer.status, 200, "{body}");
        assert!(answer.head.contains("content-type: text/xml"));
        assert!(answer.body.contains("<fault>"), "{}", answer.body);
        assert!(!answer.body.contains("root:"), "{}", answer.body);
    }
    let admin = "<methodCall><methodName>broker.drain</methodName></methodCall>";
    assert!(xml(&gateway, admin).body.contains("-32006"));
    assert!(gateway.broker.bodies.lock().unwrap().is_empty());
}

#[test]
fn the_page_comes_with_a_strict_policy_and_snapshots_follow() {
    let gateway = start(Config::default());
    let page = send(&gateway, "GET /", "", "");
    assert_eq!(page.status, 200);
    assert!(
        page.head
            .contains("content-security-policy: default-src 'none'; script-src 'self'")
    );
    assert!(page.head.contains("x-frame-options: deny"));
    for file in page
        .body
        .split('"')
        .filter(|part| part.starts_with("/page/"))
    {
        assert_eq!(
            send(&gateway, &format!("GET {file}"), "", "").status,
            200,
            "{file}"
        );
    }
    let mut events = connect(&gateway);
    events
        .write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("\"at_ms\"") || !text.ends_with("\n\n\r\n") {
        let count = events.read(&mut buffer).unwrap();
        assert!(count > 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    let (_, data) = text.split_once("data: ").unwrap();
    let snapshot: Value = serde_json::from_str(data.lines().next().unwrap()).unwrap();
    assert_eq!(snapshot["workers"][0]["slot_states"][0]["call"], "c0");
    assert_eq!(snapshot["workers"][0].get("methods"), None);
}

#[test]
fn asked_to_leave_it_finishes_what_is_under_way() {
    let gateway = start(Config::default());
    let mut stream = connect(&gateway);
    let body = r#"{"jsonrpc":"2.0","method":"hold","id":1}"#;
    write!(
        stream,
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    wait_for(|| !gateway.broker.held.lock().unwrap().is_empty());
    gateway.ask_to_leave();
    wait_for(|| TcpStream::connect(gateway.address).is_err());
    let done = gateway.broker.held.lock().unwrap().pop().unwrap();
    done(Ok(r#"{"jsonrpc":"2.0","result":"late","id":1}"#.into()));
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("late"),
        "{text}"
    );
}

/// Waits for what is about to be so.
fn wait_for(mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}
