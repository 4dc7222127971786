//! A managed worker: the worker protocol and nothing else around the functions.

use super::{end_with_parent, ready};
use crate::function;
use anyhow::{Context as _, bail};
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket, random_bytes};
use muster_proto::worker::{
    Bytes, Call, Command, Join, Method, Recalled, Registration, Reply, SlotCall, VERSION, flag,
};
use std::time::{Duration, Instant};

/// How long the broker may take to answer a registration.
const WAIT: Duration = Duration::from_secs(10);

/// Replies wait for each other this long at most while calls keep coming.
const FLUSH_BYTES: usize = 32 << 10;

pub fn run(endpoint: &str, name: &str, slots: u32) -> anyhow::Result<()> {
    let context = Context::new(1)?;
    let token: String = random_bytes::<16>()?
        .map(|byte| format!("{byte:02x}"))
        .concat();
    let control = Socket::open(&context, Kind::Dealer, &Profile::ControlLink)?;
    control.connect(endpoint)?;
    let registration = Registration {
        protocol: (VERSION, VERSION),
        token: token.clone(),
        name: name.to_owned(),
        host: "bench".into(),
        pid: std::process::id(),
        slots,
        version: String::new(),
        methods: function::METHODS.map(method).into(),
        raw: false,
        allow_run: false,
        allow_apply: false,
    };
    let body = serde_json::to_vec(&registration)?;
    send(&control, Command::Register, body)?;
    let mut frames = Vec::new();
    await_command(&control, Command::Welcome, &mut frames)?;
    for slot in 1..=slots {
        let data = Socket::open(&context, Kind::Dealer, &Profile::DataLink)?;
        data.connect(endpoint)?;
        let join = Join {
            token: token.clone(),
            slot,
            pid: std::process::id(),
        };
        send(&data, Command::Join, serde_json::to_vec(&join)?)?;
        await_command(&data, Command::Joined, &mut frames)?;
        std::thread::spawn(move || {
            if let Err(error) = serve(&data) {
                eprintln!("slot {slot}: {error:#}");
                std::process::exit(1);
            }
        });
    }
    end_with_parent();
    ready()?;
    beat(&control)
}

fn method(name: &str) -> Method {
    Method {
        name: name.into(),
        params: None,
        doc: String::new(),
        once: false,
        chunks: false,
    }
}

fn send(socket: &Socket, command: Command, body: Vec<u8>) -> anyhow::Result<()> {
    let mut frames = vec![Frame::from(&command.frame()), Frame::from(body)];
    match socket.send_timeout(&mut frames, WAIT)? {
        SendOutcome::Sent => Ok(()),
        outcome => bail!("{command:?}: {outcome:?}"),
    }
}

fn await_command(socket: &Socket, wanted: Command, frames: &mut Vec<Frame>) -> anyhow::Result<()> {
    if !socket.recv_timeout(frames, WAIT)? {
        bail!("the broker does not answer");
    }
    match Command::read(&frames[0])? {
        command if command == wanted => Ok(()),
        command => bail!("{command:?} instead of {wanted:?}: {:?}", frames.get(1)),
    }
}

/// The control link: heartbeats, and "too late" to whatever is recalled.
fn beat(control: &Socket) -> anyhow::Result<()> {
    let mut frames = Vec::new();
    let mut due = Instant::now();
    loop {
        let now = Instant::now();
        if now >= due {
            due = now + Duration::from_secs(1);
            // Without a broker the process that measures ends this one.
            let _ = control.send([Frame::from(&Command::Heartbeat.frame())])?;
        }
        if !control.recv_timeout(&mut frames, due.saturating_duration_since(now))? {
            continue;
        }
        if Command::read(&frames[0])? == Command::Recall {
            let mut packed = Vec::new();
            for call in SlotCall::unpack(&frames[1]) {
                Recalled {
                    call: call?,
                    given_back: false,
                }
                .pack(&mut packed);
            }
            send(control, Command::Recalled, packed)?;
        }
    }
}

fn serve(data: &Socket) -> anyhow::Result<()> {
    let (mut frames, mut packed, mut attached) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        if !data.recv_into(&mut frames)? {
            flush(data, &mut packed, &mut attached)?;
            data.recv_timeout(&mut frames, Duration::from_secs(3600))?;
        }
        if frames.len() < 2 || Command::read(&frames[0])? != Command::Calls {
            continue;
        }
        let mut rest = frames.split_off(2).into_iter();
        for call in Call::unpack(&frames[1]) {
            let call = call?;
            let own = match call.body {
                Bytes::OwnFrame { .. } => rest.next(),
                Bytes::Inline(_) => None,
            };
            let params = match (call.body, &own) {
                (Bytes::Inline(bytes), _) => bytes,
                (Bytes::OwnFrame { start, len }, Some(frame)) => {
                    &frame[start as usize..(start + len) as usize]
                }
                (Bytes::OwnFrame { .. }, None) => bail!("the body's frame is missing"),
            };
            let params = std::str::from_utf8(params).context("parameters")?;
            let attachments: Vec<Frame> =
                rest.by_ref().take(usize::from(call.attachments)).collect();
            let start = Instant::now();
            if call.method == "sleep" {
                flush(data, &mut packed, &mut attached)?;
            }
            let result = function::run(call.method, params, &attachments);
            let reply = Reply {
                dispatch: call.dispatch,
                service_us: u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX),
                items: 1,
                flags: call.flags & flag::RAW,
                attachments: attachments.len() as u8,
                body: Bytes::Inline(&result),
            };
            reply.pack(&mut packed);
            attached.extend(attachments);
            if packed.len() > FLUSH_BYTES {
                flush(data, &mut packed, &mut attached)?;
            }
        }
    }
}

fn flush(data: &Socket, packed: &mut Vec<u8>, attached: &mut Vec<Frame>) -> anyhow::Result<()> {
    if packed.is_empty() {
        return Ok(());
    }
    let mut frames = vec![
        Frame::from(&Command::Replies.frame()),
        Frame::from(&packed[..]),
    ];
    packed.clear();
    frames.append(attached);
    match data.send_timeout(&mut frames, WAIT)? {
        SendOutcome::Sent => Ok(()),
        outcome => bail!("replies: {outcome:?}"),
    }
}
