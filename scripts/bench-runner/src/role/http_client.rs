//! A client of the gateway: one connection that is kept, one call at a time.

use super::{Outcome, Shape, ready};
use anyhow::{Context as _, ensure};
use muster_proto::rpc;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub fn run(address: &str) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut client = Client {
        stream: BufReader::new(stream),
        line: String::new(),
        body: Vec::new(),
    };
    ready()?;
    for line in io::stdin().lock().lines() {
        let shape: Shape = serde_json::from_str(&line?).context("an order")?;
        let outcome = client.drive(&shape)?;
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &outcome)?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

struct Client {
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Client {
    /// Calls again as soon as an answer is there, as a REQ does.
    fn drive(&mut self, shape: &Shape) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        let window_end = start + Duration::from_millis(shape.window_ms);
        let (method, param) = (&shape.method, &shape.params[0]);
        let mut outcome = Outcome::default();
        while outcome.sent < shape.calls_max {
            let sent_at = Instant::now();
            if sent_at >= window_end {
                break;
            }
            let id = outcome.sent;
            let body =
                format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":[{param}],"id":{id}}}"#);
            outcome.sent += 1;
            self.send(&body)?;
            self.receive()?;
            let reply = rpc::read_reply(&self.body).context("the gateway's answer")?;
            let is_right = reply.outcome.is_ok_and(|result| result == param);
            ensure!(is_right, "{}", String::from_utf8_lossy(&self.body));
            let now = Instant::now();
            outcome.answered += 1;
            outcome.in_window += u64::from(now < window_end);
            outcome.elapsed_ns = now.duration_since(start).as_nanos() as u64;
            outcome.latencies.add(now.duration_since(sent_at));
        }
        Ok(outcome)
    }

    fn send(&mut self, body: &str) -> anyhow::Result<()> {
        let request = format!(
            "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(self.stream.get_mut().write_all(request.as_bytes())?)
    }

    /// Reads an answer whose length is said in its head.
    fn receive(&mut self) -> anyhow::Result<()> {
        let mut length = None;
        let mut is_first = true;
        loop {
            self.line.clear();
            ensure!(self.stream.read_line(&mut self.line)? > 0, "closed");
            let line = self.line.trim_end();
            if is_first {
                ensure!(line.starts_with("HTTP/1.1 200"), "{line}");
                is_first = false;
            } else if line.is_empty() {
                break;
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse()?);
            }
        }
        self.body.resize(length.context("no Content-Length")?, 0);
        Ok(self.stream.read_exact(&mut self.body)?)
    }
}
