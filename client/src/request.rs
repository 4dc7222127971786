//! Requests as the transport keeps and sends them.

use crate::call::Call;
use crate::entry::{Entry, Key, Sink};
use muster_proto::rpc::Meta;
use muster_proto::socket::Frame;
use std::io::Write;
use std::time::{Duration, Instant};

/// How much later than the broker's deadline this side gives up. The broker's own answer says more,
/// so it gets the time to arrive.
pub(crate) const GUARD: Duration = Duration::from_secs(2);

/// One call, under the key that `key` makes of its id unless it has one.
pub(crate) fn call(id: u64, mut call: Call, key: String, sink: Sink) -> Entry {
    let is_once = call.is_once();
    let timeout = Duration::from_millis(call.meta.timeout_ms.unwrap_or(0));
    let key = fill_key(&mut call.meta, key);
    let mut body = Vec::with_capacity(128 + call.params.as_ref().map_or(0, String::len));
    call.write(Some(id), &mut body);
    Entry {
        key,
        is_once,
        timeout,
        guard: guard(timeout),
        attachments: call.attachments,
        ..entry(id, &call.method, body.into(), sink)
    }
}

/// Several calls in one message, numbered from `id`; the envelope carries the first number.
pub(crate) fn batch(id: u64, calls: Vec<Call>, key: impl Fn(u64) -> String, sink: Sink) -> Entry {
    let is_once = calls.iter().any(Call::is_once);
    let longest = calls.iter().map(|call| call.meta.timeout_ms).max();
    // One call without a timeout can keep the whole batch waiting.
    let is_bounded = calls.iter().all(|call| call.meta.timeout_ms.is_some());
    let timeout_ms = longest.flatten().filter(|_| is_bounded).unwrap_or(0);
    let timeout = Duration::from_millis(timeout_ms);
    // A batch of one method may be sent to a restarted broker if that method may. With several the
    // strictest decides, and that is not looked up: `system.multicall` stands for it.
    let method = match calls.first() {
        Some(first) if calls.iter().all(|call| call.method == first.method) => first.method.clone(),
        _ => "system.multicall".to_owned(),
    };
    let count = calls.len() as u64;
    let mut body = vec![b'['];
    for (place, mut call) in calls.into_iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        let id = id + place as u64;
        fill_key(&mut call.meta, key(id));
        call.write(Some(id), &mut body);
    }
    body.push(b']');
    let guard = guard(timeout);
    let sent = entry(id, &method, body.into(), sink);
    Entry {
        is_by_path: true,
        is_once,
        key: Key::Numbered { count },
        timeout,
        guard,
        ..sent
    }
}

/// A call without a reply; the broker acknowledges it with an empty frame.
pub(crate) fn notification(id: u64, mut call: Call, key: String, sink: Sink) -> Entry {
    let is_once = call.is_once();
    let key = fill_key(&mut call.meta, key);
    let mut body = Vec::new();
    call.write(None, &mut body);
    let attachments = call.attachments;
    let sent = entry(id, &call.method, body.into(), sink);
    Entry {
        is_by_path: true,
        is_once,
        key,
        attachments,
        ..sent
    }
}

/// A body that is no call: it comes back as the worker answers it.
pub(crate) fn raw(id: u64, body: Frame, timeout: Duration, sink: Sink) -> Entry {
    // The broker knows no deadline of it, so there is no answer to give time to.
    let guard = (!timeout.is_zero())
        .then(|| Instant::now().checked_add(timeout))
        .flatten();
    Entry {
        is_by_path: true,
        key: Key::None,
        timeout,
        guard,
        ..entry(id, "", body, sink)
    }
}

/// A question of the transport itself.
pub(crate) fn own(id: u64, method: &str, sink: Sink) -> Entry {
    let mut body = Vec::new();
    let call = Call {
        method: method.into(),
        params: None,
        meta: Meta::default(),
        attachments: vec![],
    };
    call.write(Some(id), &mut body);
    Entry {
        key: Key::None,
        ..entry(id, method, body.into(), sink)
    }
}

/// The transport's wish to end the calls with these keys.
pub(crate) fn cancel(id: u64, keys: &[String]) -> Entry {
    let mut body = vec![b'['];
    for (place, key) in keys.iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        let key = serde_json::to_string(key).expect("a string is JSON");
        write!(
            body,
            r#"{comma}{{"jsonrpc":"2.0","method":"broker.cancel","params":{{"key":{key}}}}}"#
        )
        .expect("a Vec takes all");
    }
    body.push(b']');
    let sent = entry(id, "broker.cancel", body.into(), Sink::Nowhere);
    Entry {
        is_by_path: true,
        key: Key::None,
        ..sent
    }
}

/// When this side gives up on a call with this timeout; zero: never.
pub(crate) fn guard(timeout: Duration) -> Option<Instant> {
    if timeout.is_zero() {
        None
    } else {
        Instant::now().checked_add(timeout + GUARD)
    }
}

fn entry(id: u64, method: &str, body: Frame, sink: Sink) -> Entry {
    Entry {
        id,
        group: 0,
        method: method.into(),
        body,
        attachments: Vec::new(),
        is_by_path: false,
        is_once: false,
        key: Key::Numbered { count: 1 },
        timeout: Duration::ZERO,
        guard: None,
        sink,
        is_sent: false,
    }
}

fn fill_key(meta: &mut Meta, key: String) -> Key {
    match &meta.key {
        Some(given) => Key::Given(given.clone()),
        None => {
            meta.key = Some(key);
            Key::Numbered { count: 1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::rpc::{Body, read};

    fn new(method: &str) -> Call {
        Call::with_json(method, None).unwrap()
    }

    #[test]
    fn every_request_is_one_that_the_broker_reads() {
        let key = |id: u64| format!("k.{id}");
        let one = call(3, new("m"), key(3), Sink::Nowhere);
        let Body::Call(view) = read(&one.body) else {
            panic!("{:?}", one.body)
        };
        assert_eq!(
            (view.id, view.meta.key.as_deref()),
            (Some("3"), Some("k.3"))
        );
        assert!(!one.is_by_path);

        let two = batch(4, vec![new("a"), new("b").key("own")], key, Sink::Nowhere);
        let Body::Batch(items) = read(&two.body) else {
            panic!("{:?}", two.body)
        };
        let keys: Vec<_> = items
            .iter()
            .map(|item| item.as_ref().unwrap().meta.key.clone())
            .collect();
        assert_eq!(keys, [Some("k.4".into()), Some("own".into())]);

        let quiet = notification(6, new("m"), key(6), Sink::Nowhere);
        let Body::Call(view) = read(&quiet.body) else {
            panic!("{:?}", quiet.body)
        };
        assert_eq!(view.id, None);

        let stop = cancel(7, &["a".into(), "b\"".into()]);
        let Body::Batch(items) = read(&stop.body) else {
            panic!("{:?}", stop.body)
        };
        assert_eq!(items[1].as_ref().unwrap().params, Some(r#"{"key":"b\""}"#));
    }

    #[test]
    fn a_batch_is_guarded_only_when_each_of_its_calls_is() {
        let bounded = || new("m").timeout(Duration::from_secs(3));
        let key = |id: u64| id.to_string();
        let all = batch(1, vec![bounded(), bounded()], key, Sink::Nowhere);
        assert!(all.guard.is_some());
        let some = batch(1, vec![bounded(), new("m")], key, Sink::Nowhere);
        assert!(some.guard.is_none());
    }
}
