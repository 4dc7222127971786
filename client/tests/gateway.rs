//! `muster gateway` with a real broker and real workers: XML-RPC by Python's standard library,
//! OpenRPC by its meta-schema, the page by a browser.

#[path = "../gateway/tests/common/browser.rs"]
mod browser;

use muster_test_support::end_of;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway");
const DEADLINE: Duration = Duration::from_secs(60);

/// Programs of this test; each is ended with it.
struct Cluster {
    folder: tempfile::TempDir,
    broker: Child,
    worker: Child,
    gateway: Child,
    url: String,
}

fn program(name: &str) -> PathBuf {
    muster_test_support::program(env!("CARGO_BIN_EXE_muster"), name)
}

fn command(folder: &Path, name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", folder)
        .env("MUSTER_RUNTIME_DIR", folder.join("run"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

impl Cluster {
    fn start(slots: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let functions = format!("{FOLDER}/functions.py");
        let start = |name: &str, args: &[&str]| command(folder.path(), name, args).spawn().unwrap();
        let broker = start("muster-broker", &[]);
        let worker = start(
            "muster-worker",
            &["-n", slots, "--name", "w", "--python", &functions],
        );
        let wait = command(
            folder.path(),
            "muster",
            &["wait", "--slots", slots, "--timeout", "60"],
        );
        let (gateway, url) = match { wait }.status() {
            Ok(status) if status.success() => {
                let mut gateway = start("muster", &["gateway", "--http", "127.0.0.1:0"]);
                let mut url = String::new();
                let out = gateway.stdout.as_mut().unwrap();
                BufReader::new(out).read_line(&mut url).unwrap();
                (gateway, url.trim_end().to_owned())
            }
            other => panic!("the worker does not come: {other:?}"),
        };
        assert!(url.starts_with("http://127.0.0.1:"), "{url:?}");
        Cluster {
            folder,
            broker,
            worker,
            gateway,
            url,
        }
    }

    /// The status and body of a request.
    fn request(&self, line: &str, body: &str) -> (u16, String) {
        let mut stream = self.connect();
        self.write(&mut stream, line, body);
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn connect(&self) -> TcpStream {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/');
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    fn write(&self, stream: &mut TcpStream, line: &str, body: &str) {
        let length = body.len();
        write!(
            stream,
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
    }

    fn call(&self, method: &str, params: &Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        let (_, body) = self.request("POST /rpc", &body.to_string());
        serde_json::from_str(&body).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in [&mut self.gateway, &mut self.worker, &mut self.broker] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait_until(what: &str, is_true: impl FnMut() -> bool) {
    muster_test_support::wait_until(what, DEADLINE, is_true);
}

fn say(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

#[test]
fn pythons_own_xml_rpc_client_uses_the_whole_pool() {
    let cluster = Cluster::start("2");
    let output = Command::new("python3")
        .arg(format!("{FOLDER}/xmlrpc_client.py"))
        .arg(&cluster.url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", say(&output));
}

#[test]
fn calls_notifications_and_batches_reach_the_pool() {
    let cluster = Cluster::start("2");
    assert_eq!(cluster.call("multiply", &json!([5, 3]))["result"], 15);
    assert_eq!(
        cluster.call("multiply", &json!({"x": 5, "y": 4}))["result"],
        20
    );
    let failed = cluster.call("is_even", &json!(["x"]));
    assert_eq!(failed["error"]["code"], -32000);
    assert!(failed["error"]["data"]["traceback"].is_string(), "{failed}");
    let notification = r#"{"jsonrpc":"2.0","method":"is_even","params":[1]}"#;
    assert_eq!(
        cluster.request("POST /rpc", notification),
        (204, String::new())
    );
    let batch: Vec<Value> = (0..100)
        .map(|n| json!({"jsonrpc": "2.0", "method": "is_even", "params": [n], "id": n}))
        .collect();
    let (status, body) = cluster.request("POST /rpc", &json!(batch).to_string());
    let answers: Vec<Value> = serde_json::from_str(&body).unwrap();
    assert_eq!((status, answers.len()), (200, 100));
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(
            (&answer["id"], &answer["result"]),
            (&json!(n), &json!(n % 2 == 0))
        );
    }
    let (status, metrics) = cluster.request("GET /metrics", "");
    assert_eq!(status, 200);
    for line in [
        "muster_up 1",
        r#"muster_worker_slots{worker="w"} 2"#,
        r#"muster_gateway_errors_total{protocol="jsonrpc",code="-32000"} 1"#,
        r#"muster_gateway_request_duration_seconds_count{method="multiply"} 2"#,
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
}

#[test]
fn a_caller_that_hangs_up_frees_its_slot() {
    let cluster = Cluster::start("1");
    let body = r#"{"jsonrpc":"2.0","method":"nap","params":[600],"id":1}"#;
    let mut stream = cluster.connect();
    cluster.write(&mut stream, "POST /rpc", body);
    let running =
        || cluster.call("broker.status", &json!([]))["result"]["calls"]["running"].clone();
    wait_until("the call to run", || running() == 1);
    drop(stream);
    assert_eq!(cluster.call("multiply", &json!([5, 3]))["result"], 15);
}

#[test]
fn the_broker_may_be_started_anew() {
    let mut cluster = Cluster::start("1");
    assert_eq!(cluster.request("GET /readyz", "").0, 200);
    cluster.broker.kill().unwrap();
    cluster.broker.wait().unwrap();
    wait_until("the loss to be seen", || {
        cluster.request("GET /readyz", "").0 == 503
    });
    assert_eq!(cluster.request("GET /healthz", "").0, 200);
    assert!(
        cluster
            .request("GET /metrics", "")
            .1
            .contains("\nmuster_up 0\n")
    );
    // A call that comes now waits for the broker.
    let body = r#"{"jsonrpc":"2.0","method":"multiply","params":[5,3],"id":1}"#;
    let mut stream = cluster.connect();
    cluster.write(&mut stream, "POST /rpc", body);
    cluster.broker = command(cluster.folder.path(), "muster-broker", &[])
        .spawn()
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains(r#""result":15"#), "{text}");
    wait_until("the worker", || cluster.request("GET /readyz", "").0 == 200);
}

#[test]
fn asked_to_leave_the_program_ends_well() {
    let mut cluster = Cluster::start("1");
    let pid = rustix::process::Pid::from_raw(cluster.gateway.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(end_of(&mut cluster.gateway).code(), Some(0));
}

#[test]
fn what_would_let_strangers_in_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let token = token.to_str().unwrap();
    let open = ["gateway", "--http", "0.0.0.0:0"];
    for (more, said) in [
        (&[][..], "--token-file"),
        (&["--insecure"][..], "--token-file"),
        (&["--token-file", token][..], "--behind-tls-proxy"),
        (&["--token-file", "/nowhere"][..], "/nowhere"),
    ] {
        let args = [&open[..], more].concat();
        let output = command(folder.path(), "muster", &args)
            .stderr(Stdio::piped())
            .output();
        let output = output.unwrap();
        let text = say(&output);
        assert!(
            matches!(output.status.code(), Some(1 | 2)),
            "{args:?} {text}"
        );
        assert!(text.contains(said), "{args:?} {text}");
    }
    // This one may listen, and finds no broker.
    let args = [&open[..], &["--token-file", token, "--behind-tls-proxy"]].concat();
    let output = command(folder.path(), "muster", &args).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", say(&output));
    let mut weak = command(
        folder.path(),
        "muster",
        &["gateway", "--http", "127.0.0.1:0"],
    );
    let output = weak.env("MUSTER_GATEWAY_TOKEN", "short").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", say(&output));
}

#[test]
fn rpc_discover_is_openrpc() {
    let cluster = Cluster::start("1");
    let packages = [
        "ajv@8",
        "@open-rpc/meta-schema@1",
        "@json-schema-tools/meta-schema@1",
    ];
    let folder = match browser::node_folder("openrpc", &packages) {
        Ok(folder) => folder,
        Err(reason) => return browser::skip("rpc_discover_is_openrpc", &reason),
    };
    let (status, document) = cluster.request("GET /openrpc.json", "");
    assert_eq!(status, 200);
    let judge = Command::new("node")
        .arg(format!("{FOLDER}/openrpc.mjs"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut judge = judge.unwrap();
    let mut input = judge.stdin.take().unwrap();
    input.write_all(document.as_bytes()).unwrap();
    drop(input);
    let output = judge.wait_with_output().unwrap();
    let text = say(&output);
    assert!(
        output.status.success() && text.contains("valid: 10 methods"),
        "{text}"
    );
}

#[test]
fn browser_the_page_outlives_its_broker() {
    let mut cluster = Cluster::start("2");
    let url = cluster.url.clone();
    let page = std::thread::spawn(move || browser::browse(&url, "restart"));
    // The page has it killed.
    let mut has_ended = false;
    while !has_ended && !page.is_finished() {
        has_ended = cluster.broker.try_wait().unwrap().is_some();
        std::thread::sleep(Duration::from_millis(20));
    }
    if has_ended {
        // So long that the page can't have overlooked it.
        std::thread::sleep(Duration::from_secs(3));
        cluster.broker = command(cluster.folder.path(), "muster-broker", &[])
            .spawn()
            .unwrap();
    }
    let was_run = page.join().unwrap();
    assert_eq!(was_run, has_ended);
}

#[test]
fn browser_real_functions_are_called_from_the_page() {
    let cluster = Cluster::start("4");
    browser::browse(&cluster.url, "real");
}
