//! One request of a map: an item, or a chunk of items.

use crate::call::{Head, timeout_ms, write_tail};
use crate::entry::{Entry, Key, Sink};
use crate::handle::Handle;
use crate::map::MapOptions;
use crate::request::guard;
use muster_proto::rpc::{Body, Meta, read};
use muster_proto::socket::Frame;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::block::Times;
use super::elements::Elements;

/// A chunk is started twice by the broker, then cut in pieces here: each start of a chunk with a
/// poison item costs a worker.
const CHUNK_ATTEMPTS: u32 = 2;
/// How many pieces a lost chunk is cut into.
const PIECES: usize = 8;

/// Which items a request carries, and when it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) first: u64,
    pub(crate) items: u32,
    /// Requests under way when it was sent, itself included.
    pub(super) units: u32,
    pub(super) sent: Instant,
    /// Requests that carried these items, this one included.
    pub(super) sends: u32,
    /// How often it was refused for the time being.
    pub(super) refusals: u32,
}

impl Unit {
    /// As the block with its outcomes tells them, from now on.
    pub(super) fn times(&self) -> Times {
        Times {
            sent: self.sent,
            took: self.sent.elapsed(),
            sends: self.sends,
        }
    }

    pub(super) fn is_chunk(&self) -> bool {
        self.items > 1
    }
}

/// Writes the requests of one map.
pub(super) struct Writer {
    method: Arc<str>,
    head: Vec<u8>,
    meta: Meta,
    timeout: Duration,
    is_spread: bool,
    /// The map's number, by which the transport finds its requests.
    pub(super) group: u64,
}

impl Writer {
    pub(super) fn new(method: &str, options: &MapOptions, group: u64) -> Self {
        let mut head = Vec::new();
        Head { method }.write(&mut head);
        head.extend_from_slice(br#","params":"#);
        if !options.is_spread {
            head.push(b'[');
        }
        let meta = Meta {
            timeout_ms: timeout_ms(options.timeout),
            attempts_max: options.attempts_max,
            priority: options.priority,
            to: options.to.clone(),
            ..Meta::default()
        };
        let (timeout, is_spread) = (options.timeout, options.is_spread);
        Writer {
            method: method.into(),
            head,
            meta,
            timeout,
            is_spread,
            group,
        }
    }

    /// The method's name.
    pub(super) fn method(&self) -> &Arc<str> {
        &self.method
    }

    /// A request with room for items, which are appended with commas between them.
    pub(super) fn start(&self, capacity: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.head.len() + capacity);
        body.extend_from_slice(&self.head);
        body
    }

    /// Ends the request and makes an entry of it. `is_piece`: of a chunk that was lost.
    pub(super) fn finish(
        &self,
        mut body: Vec<u8>,
        items: u32,
        is_piece: bool,
        handle: &Handle,
        sink: Sink,
    ) -> Entry {
        let id = handle.ids(1);
        if self.is_spread {
            self.wrap_lone_argument(&mut body);
        } else {
            body.push(b']');
        }
        let is_chunk = items > 1;
        let mut meta = Meta {
            key: Some(handle.key(id)),
            map: is_chunk,
            ..self.meta.clone()
        };
        if is_chunk {
            let usual = if is_piece { 1 } else { CHUNK_ATTEMPTS };
            meta.attempts_max = Some(self.meta.attempts_max.map_or(usual, |max| max.min(usual)));
        }
        write_tail(Some(id), &meta, &mut body);
        Entry {
            id,
            group: self.group,
            method: Arc::clone(&self.method),
            body: Frame::from(body),
            attachments: Vec::new(),
            is_by_path: false,
            // A piece that is started once may be sent again by this side: it is cut further.
            is_once: self.meta.attempts_max == Some(1),
            key: Key::Numbered { count: 1 },
            timeout: self.timeout,
            // A chunk's timeout is for each of its items.
            guard: guard(if is_chunk {
                Duration::ZERO
            } else {
                self.timeout
            }),
            sink,
            is_sent: false,
        }
    }

    /// With `--spread` an array is the list of arguments, and anything else the only one.
    fn wrap_lone_argument(&self, body: &mut Vec<u8>) {
        let item = &body[self.head.len()..];
        if item.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
            body.insert(self.head.len(), b'[');
            body.push(b']');
        }
    }

    /// The items of a request that was written here, in several bodies without their ends, each
    /// with the number of its items.
    pub(super) fn cut(&self, request: &Frame, items: u32) -> Vec<(Vec<u8>, u32)> {
        let Body::Call(call) = read(request) else {
            return Vec::new();
        };
        let params = call.params.unwrap_or_default();
        if items == 1 {
            let mut body = self.start(params.len());
            let item = if self.is_spread {
                params
            } else {
                inside(params)
            };
            body.extend_from_slice(item.as_bytes());
            return vec![(body, 1)];
        }
        let elements: Vec<&str> = Elements::of(params).collect();
        let size = elements.len().div_ceil(PIECES).max(1);
        let piece = |elements: &[&str]| {
            let mut body = self.start(params.len() / PIECES);
            for (place, element) in elements.iter().enumerate() {
                if place > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(element.as_bytes());
            }
            (body, elements.len() as u32)
        };
        elements.chunks(size).map(piece).collect()
    }
}

/// What an array holds.
fn inside(array: &str) -> &str {
    array
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::socket::Wake;

    fn finish(writer: &Writer, items: &[&str]) -> Entry {
        let handle = Handle::new(Wake::new().unwrap(), "k".into());
        let mut body = writer.start(10);
        body.extend_from_slice(items.join(",").as_bytes());
        writer.finish(body, items.len() as u32, false, &handle, Sink::Nowhere)
    }

    fn text(entry: &Entry) -> &str {
        std::str::from_utf8(&entry.body).unwrap()
    }

    #[test]
    fn one_item_is_a_plain_call_and_several_are_a_chunk() {
        let writer = Writer::new("m", &MapOptions::default(), 1);
        assert_eq!(
            text(&finish(&writer, &["5"])),
            r#"{"jsonrpc":"2.0","method":"m","params":[5],"id":1,"meta":{"key":"k.1"}}"#
        );
        assert_eq!(
            text(&finish(&writer, &["5", "6"])),
            r#"{"jsonrpc":"2.0","method":"m","params":[5,6],"id":1,"meta":{"attempts_max":2,"key":"k.1","map":true}}"#
        );
    }

    #[test]
    fn a_spread_item_is_the_list_of_arguments() {
        let options = MapOptions {
            is_spread: true,
            ..MapOptions::default()
        };
        let writer = Writer::new("m", &options, 1);
        assert!(text(&finish(&writer, &[" [5,6]"])).contains(r#""params": [5,6],"#));
        let lone = finish(&writer, &["5"]);
        assert!(text(&lone).contains(r#""params":[5],"#));
        let (body, items) = writer.cut(&lone.body, 1).remove(0);
        assert_eq!((&body[body.len() - 3..], items), (&b"[5]"[..], 1));
    }

    #[test]
    fn a_chunk_is_cut_into_pieces_that_hold_every_item_once() {
        let writer = Writer::new("m", &MapOptions::default(), 1);
        let items: Vec<String> = (0..100).map(|n| format!("\"{n},\"")).collect();
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        let entry = finish(&writer, &items);
        let pieces = writer.cut(&entry.body, 100);
        assert_eq!(pieces.iter().map(|(_, items)| *items).sum::<u32>(), 100);
        assert_eq!(pieces.len(), 8);
        let skip = writer.start(0).len();
        let joined: Vec<String> = pieces
            .iter()
            .map(|(body, _)| String::from_utf8(body[skip..].to_vec()).unwrap())
            .collect();
        assert_eq!(joined.join(","), items.join(","));
    }
}
