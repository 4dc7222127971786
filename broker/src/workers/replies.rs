//! A message of answers, taken apart.

use super::Workers;
use crate::reply::{Form, Reply};
use muster_core::{Event, SlotId, Verdict};
use muster_proto::json;
use muster_proto::socket::Frame;
use muster_proto::worker::{self, Bytes, WireError, flag};
use std::rc::Rc;
use std::time::Duration;

impl Workers {
    pub(super) fn replies(
        &mut self,
        slot: SlotId,
        frames: &mut Vec<Frame>,
    ) -> Result<(), WireError> {
        const WHAT: &str = "replies";
        if frames.len() < 3 {
            return Err(WireError::Malformed { what: WHAT });
        }
        let mut rest = frames.split_off(3).into_iter();
        let packed = Rc::new(frames.pop().expect("three frames are there"));
        for reply in worker::Reply::unpack(&packed) {
            let worker::Reply {
                dispatch,
                service_us,
                flags,
                attachments,
                body,
                ..
            } = reply?;
            let form = match flags {
                bits if bits & flag::RAW != 0 => Form::Raw,
                bits if bits & flag::WHOLE != 0 => Form::Whole,
                _ => Form::Value,
            };
            let own = match body {
                Bytes::OwnFrame { .. } => {
                    Some(rest.next().ok_or(WireError::Malformed { what: WHAT })?)
                }
                Bytes::Inline(_) => None,
            };
            if rest.len() < usize::from(attachments) {
                return Err(WireError::Malformed { what: WHAT });
            }
            let attached = rest.by_ref().take(attachments.into());
            let reply = match (body, own) {
                (Bytes::Inline(part), _) => Reply::packed(&packed, part, form, attached),
                (Bytes::OwnFrame { .. }, Some(frame)) => Reply::frame(frame, form, attached),
                (Bytes::OwnFrame { .. }, None) => unreachable!("taken above"),
            };
            let verdict = verdict_of(&reply, flags);
            let service = Some(Duration::from_micros(service_us.into()));
            self.events.push_back(Event::Replied {
                slot,
                dispatch,
                service,
                verdict,
                reply,
            });
        }
        Ok(())
    }
}

fn verdict_of(reply: &Reply, flags: u8) -> Verdict {
    match reply.form() {
        Form::Raw if flags & flag::ERROR == 0 => Verdict::Result,
        _ if !json::is_value(reply.bytes()) => Verdict::Garbage,
        _ if flags & flag::ERROR != 0 => Verdict::Error,
        _ => Verdict::Result,
    }
}
