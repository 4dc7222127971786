//! A broker of a few lines: a ROUTER that answers every call by a closure.

#![allow(dead_code)]

use muster_client::Target;
use muster_proto::connection::Connection;
use muster_proto::envelope;
use muster_proto::rpc::{Body, CallView, RpcError, error_reply, read, result_reply};
use muster_proto::runtime::{Lock, RuntimeDir};
use muster_proto::socket::{
    Context, Frame, Interest, Kind, Nonce, PollItem, Profile, SendOutcome, Socket, Wake, poll,
};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What becomes of a call.
pub enum Doing {
    /// Answered with this JSON.
    Result(String),
    /// Answered with an error.
    Error(RpcError),
    /// Answered with this JSON and the request's attachments.
    Echo(String),
    /// Not answered.
    Nothing,
}

/// One call as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub method: String,
    pub params: String,
    pub key: Option<String>,
    pub is_notification: bool,
    pub meta: muster_proto::rpc::Meta,
}

pub struct FakeBroker {
    pub dir: RuntimeDir,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Wake,
    thread: Option<JoinHandle<Socket>>,
    lock: Option<Lock>,
}

type Answering = Box<dyn FnMut(&CallView<'_>) -> Doing + Send>;

impl FakeBroker {
    /// Serves the cluster `c` below `base` as the run `epoch`. `broker.status` and
    /// `broker.methods` (`double`, which takes chunks, and `pay`, which may run once) are answered
    /// here unless the closure answers them; it gets all else.
    pub fn start(
        base: &Path,
        epoch: u64,
        answer: impl FnMut(&CallView<'_>) -> Doing + Send + 'static,
    ) -> Self {
        let dir = RuntimeDir::locate("c", Some(base)).unwrap();
        dir.create().unwrap();
        let lock = dir.lock().unwrap();
        let context = Context::new(1).unwrap();
        let disconnect = Nonce::random().unwrap();
        let socket = Socket::open(&context, Kind::Router, &Profile::Frontend { disconnect });
        let socket = socket.unwrap();
        let frontend = dir.endpoint("frontend").unwrap();
        socket.bind(&frontend).unwrap();
        Connection {
            version: 1,
            name: "c".into(),
            host: "h".into(),
            pid: std::process::id(),
            started: epoch,
            frontend,
            backend: dir.endpoint("backend").unwrap(),
            workers: dir.endpoint("workers").unwrap(),
            events: dir.endpoint("events").unwrap(),
            curve: None,
        }
        .write(&dir.connection_path())
        .unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Wake::new().unwrap();
        let served = Serving {
            socket,
            disconnect,
            epoch,
            seen: Arc::clone(&seen),
            answer: Box::new(answer),
        };
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || served.run(&stopped));
        FakeBroker {
            dir,
            seen,
            stop,
            thread: Some(thread),
            lock: Some(lock),
        }
    }

    pub fn target(&self) -> Target {
        let base = self.dir.path().parent().unwrap().to_path_buf();
        Target {
            runtime_dir: Some(base),
            ..Target::cluster("c")
        }
    }

    /// The calls that came, the client's own questions left out.
    pub fn seen(&self) -> Vec<Seen> {
        let own = ["broker.status", "broker.methods"];
        let seen = self.seen.lock().unwrap().clone();
        seen.into_iter()
            .filter(|call| !own.contains(&call.method.as_str()))
            .collect()
    }

    /// Waits until `count` calls have come.
    pub fn wait_seen(&self, count: usize) -> Vec<Seen> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = self.seen();
            if seen.len() >= count {
                return seen;
            }
            assert!(Instant::now() < deadline, "only {seen:?} came");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.stop.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.lock.take();
    }
}

struct Serving {
    socket: Socket,
    /// What arrives when a client's connection has ended: random bytes, which are no call, whatever
    /// they look like.
    disconnect: Nonce,
    epoch: u64,
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Answering,
}

impl Serving {
    fn run(mut self, stop: &Wake) -> Socket {
        let mut frames = Vec::new();
        loop {
            while self.socket.recv_into(&mut frames).unwrap() {
                self.serve(&frames);
            }
            let mut items = [
                PollItem::socket(&self.socket, Interest::Read),
                PollItem::fd(stop, Interest::Read),
            ];
            poll(&mut items, None).unwrap();
            if items[1].is_readable() {
                return self.socket;
            }
        }
    }

    fn serve(&mut self, frames: &[Frame]) {
        if frames.len() == 2 && self.disconnect.matches(&frames[1]) {
            return;
        }
        let Ok(envelope) = envelope::split(frames) else {
            return;
        };
        let (body, attachments) = frames[envelope.body..].split_first().unwrap();
        let mut reply: Vec<Frame> = vec![frames[0].share()];
        reply.extend(frames[envelope.path.clone()].iter().map(Frame::share));
        match read(body) {
            Body::Raw if **body == *b"Nobody" => return,
            Body::Raw => reply.push(Frame::from("World")),
            Body::Call(call) => {
                let Some(answer) = self.answer_one(&call) else {
                    if call.id.is_none() {
                        reply.push(Frame::empty());
                        self.send(reply);
                    }
                    return;
                };
                let (text, echo) = answer;
                reply.push(Frame::from(text));
                if echo {
                    reply.extend(attachments.iter().map(Frame::share));
                }
            }
            Body::Batch(calls) => {
                let answers: Vec<_> = calls
                    .iter()
                    .filter_map(|call| self.answer_one(call.as_ref().unwrap()))
                    .map(|(text, _)| String::from_utf8(text).unwrap())
                    .collect();
                if answers.is_empty()
                    && calls.iter().any(|call| call.as_ref().unwrap().id.is_some())
                {
                    return;
                }
                let text = match answers.is_empty() {
                    true => String::new(),
                    false => format!("[{}]", answers.join(",")),
                };
                reply.push(Frame::from(text));
            }
            other => panic!("{other:?}"),
        }
        self.send(reply);
    }

    fn answer_one(&mut self, call: &CallView<'_>) -> Option<(Vec<u8>, bool)> {
        self.seen.lock().unwrap().push(Seen {
            method: call.method.to_string(),
            params: call.params.unwrap_or("").to_owned(),
            key: call.meta.key.clone(),
            is_notification: call.id.is_none(),
            meta: call.meta.clone(),
        });
        let doing = match ((self.answer)(call), call.method.as_ref()) {
            (Doing::Nothing, "broker.status") => Doing::Result(format!(
                r#"{{"name":"c","epoch":"{}","slots":{{"total":2,"ready":2,"busy":0}}}}"#,
                self.epoch
            )),
            (Doing::Nothing, "broker.methods") => Doing::Result(
                r#"[{"name":"double","once":false,"chunks":true,"slots":2,"service_us":null},
                    {"name":"pay","once":true,"chunks":false,"slots":2,"service_us":null},
                    {"name":"plain","once":false,"chunks":false,"slots":2,"service_us":null}]"#
                    .into(),
            ),
            (doing, _) => doing,
        };
        let id = call.id?;
        match doing {
            Doing::Result(text) => Some((result_reply(id, text.as_bytes()), false)),
            Doing::Echo(text) => Some((result_reply(id, text.as_bytes()), true)),
            Doing::Error(error) => Some((error_reply(Some(id), &error), false)),
            Doing::Nothing => None,
        }
    }

    fn send(&self, mut reply: Vec<Frame>) {
        while self.socket.send_frames(&mut reply).unwrap() == SendOutcome::WouldBlock {
            std::thread::yield_now();
        }
    }
}
