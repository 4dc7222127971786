//! Holds docs/protocol.md and the code against each other: every table and every example of the
//! document is read and compared, and what one of the two has and the other lacks is named.

use muster_proto::code::Code;
use muster_proto::connection::{Connection, Curve};
use muster_proto::exit::Exit;
use muster_proto::id::{CallId, DispatchId, Epoch};
use muster_proto::rpc::{self, Body, Meta};
use muster_proto::worker::{
    Bytes, Call, Command, Join, Nest, NotOpened, Recalled, Refused, Registration, Reply, SlotCall,
    SlotLost, SlotReady, StreamItem, StreamKind, Welcome, flag,
};
use muster_proto::{envelope, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const DOCUMENT: &str = include_str!("../../docs/protocol.md");
const EPOCH: Epoch = Epoch(0x1122_3344_5566_7788);

/// The fenced blocks that have a kind and a name, such as `hex call`.
fn blocks() -> BTreeMap<(&'static str, &'static str), String> {
    let mut blocks = BTreeMap::new();
    let mut open: Option<(&str, String)> = None;
    for line in DOCUMENT.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some((kind, String::new())),
            (Some(_), Some(_)) => {
                let (kind, text) = open.take().expect("matched above");
                if let Some(name) = kind.split_once(' ') {
                    assert!(
                        blocks.insert(name, text).is_none(),
                        "block `{kind}` is there twice"
                    );
                }
            }
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fenced block has no end");
    blocks
}

fn block(kind: &str, name: &str) -> String {
    let found = blocks()
        .into_iter()
        .find(|((k, n), _)| (*k, *n) == (kind, name));
    found
        .unwrap_or_else(|| panic!("no block `{kind} {name}`"))
        .1
}

/// The rows of the table whose first column's heading is `first`.
fn table(first: &str) -> Vec<Vec<String>> {
    let head = format!("| {first} |");
    let rows = DOCUMENT
        .lines()
        .skip_while(|line| !line.starts_with(&head))
        .skip(2);
    let rows: Vec<_> = rows
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells
                .map(|cell| cell.trim().trim_matches('`').to_owned())
                .collect()
        })
        .collect();
    assert!(!rows.is_empty(), "no table with a first column `{first}`");
    rows
}

fn bytes(name: &str) -> Vec<u8> {
    let text = block("hex", name);
    let digits = text
        .lines()
        .flat_map(|line| line.split(';').next().unwrap().split_whitespace());
    digits
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// Constants declared in a source file as `pub const NAME: …`, after `from`.
fn constants(source: &str, from: &str) -> BTreeSet<String> {
    let source = source
        .split_once(from)
        .unwrap_or_else(|| panic!("no `{from}`"))
        .1;
    let lines = source.lines().take_while(|line| *line != "}");
    lines
        .filter_map(|line| line.trim().strip_prefix("pub const "))
        .map(|rest| rest.split(':').next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_code_table_is_the_codes() {
    let documented: Vec<_> = table("code")
        .into_iter()
        .map(|row| row[..4].to_vec())
        .collect();
    let coded: Vec<_> = Code::ALL
        .into_iter()
        .map(|code| {
            let retry = if code.can_retry() { "yes" } else { "no" };
            vec![
                code.number().to_string(),
                format!("{code:?}"),
                code.message().to_owned(),
                retry.to_owned(),
            ]
        })
        .collect();
    assert_eq!(documented, coded);
}

#[test]
fn the_exit_codes_are_the_programs_exit_codes() {
    let named = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Unavailable,
        Exit::Overloaded,
        Exit::Refused,
        Exit::Deadline,
    ];
    // A variant that is added breaks this match, and so reminds of the list above and the table.
    for exit in named {
        match exit {
            Exit::Done | Exit::Failed | Exit::Usage | Exit::Unavailable => {}
            Exit::Overloaded | Exit::Refused | Exit::Deadline | Exit::Signal(_) => {}
        }
    }
    let mut coded: Vec<_> = named
        .map(|exit| vec![exit.number().to_string(), format!("{exit:?}")])
        .into();
    assert_eq!(Exit::Signal(9).number(), 128 + 9);
    coded.push(vec!["128+N".into(), "Signal".into()]);
    let documented: Vec<_> = table("exit")
        .into_iter()
        .map(|row| row[..2].to_vec())
        .collect();
    assert_eq!(documented, coded);
}

#[test]
fn the_limits_are_the_limits() {
    let coded: BTreeMap<&str, String> = BTreeMap::from([
        ("BODY_BYTES_MAX", limits::BODY_BYTES_MAX.to_string()),
        (
            "ATTACHMENT_BYTES_MAX",
            limits::ATTACHMENT_BYTES_MAX.to_string(),
        ),
        ("MESSAGE_BYTES_MAX", limits::MESSAGE_BYTES_MAX.to_string()),
        ("MESSAGE_FRAMES_MAX", limits::MESSAGE_FRAMES_MAX.to_string()),
        ("LINK_BYTES_MAX", limits::LINK_BYTES_MAX.to_string()),
        ("DEPTH_MAX", limits::DEPTH_MAX.to_string()),
        ("BATCH_CALLS_MAX", limits::BATCH_CALLS_MAX.to_string()),
        ("CHUNK_ITEMS_MAX", limits::CHUNK_ITEMS_MAX.to_string()),
        ("METHOD_BYTES_MAX", limits::METHOD_BYTES_MAX.to_string()),
        ("ID_BYTES_MAX", limits::ID_BYTES_MAX.to_string()),
        ("KEY_BYTES_MAX", limits::KEY_BYTES_MAX.to_string()),
        ("WORKER_METHODS_MAX", limits::WORKER_METHODS_MAX.to_string()),
        ("DOC_BYTES_MAX", limits::DOC_BYTES_MAX.to_string()),
        (
            "REGISTRATION_BYTES_MAX",
            limits::REGISTRATION_BYTES_MAX.to_string(),
        ),
        ("WORKER_SLOTS_MAX", limits::WORKER_SLOTS_MAX.to_string()),
        ("NESTED_SLOTS_MAX", limits::NESTED_SLOTS_MAX.to_string()),
        ("NESTED_DEPTH_MAX", limits::NESTED_DEPTH_MAX.to_string()),
        (
            "WORKER_NAME_BYTES_MAX",
            limits::WORKER_NAME_BYTES_MAX.to_string(),
        ),
        ("QUEUED_CALLS_MAX", limits::QUEUED_CALLS_MAX.to_string()),
        ("QUEUED_BYTES_MAX", limits::QUEUED_BYTES_MAX.to_string()),
        ("CLIENT_CALLS_MAX", limits::CLIENT_CALLS_MAX.to_string()),
        ("OUTBOX_REPLIES_MAX", limits::OUTBOX_REPLIES_MAX.to_string()),
        ("OUTBOX_BYTES_MAX", limits::OUTBOX_BYTES_MAX.to_string()),
        ("PATH_FRAMES_MAX", limits::PATH_FRAMES_MAX.to_string()),
        ("PATH_BYTES_MAX", limits::PATH_BYTES_MAX.to_string()),
        ("HANDSHAKE_MS", limits::HANDSHAKE_MS.to_string()),
        ("HEARTBEAT_MS", limits::HEARTBEAT_MS.to_string()),
        (
            "HEARTBEATS_MISSED_MAX",
            limits::HEARTBEATS_MISSED_MAX.to_string(),
        ),
        (
            "STDERR_TAIL_BYTES_MAX",
            limits::STDERR_TAIL_BYTES_MAX.to_string(),
        ),
    ]);
    let declared = constants(include_str!("../src/limits.rs"), "//!");
    assert_eq!(
        declared,
        coded.keys().map(|&name| name.to_owned()).collect()
    );
    let rows = table("name");
    let documented: BTreeMap<&str, String> = rows
        .iter()
        .map(|row| (row[0].as_str(), row[1].clone()))
        .collect();
    assert_eq!(documented, coded);
}

#[test]
fn the_members_of_meta_are_the_members_of_meta() {
    let full = Meta {
        timeout_ms: Some(1),
        attempts_max: Some(1),
        priority: Some(1),
        key: Some("k".into()),
        map: true,
        stream: true,
        frames: true,
        shared: true,
        to: Some("w".into()),
        parent: Some("c1".into()),
    };
    let Value::Object(members) = serde_json::to_value(full).unwrap() else {
        panic!()
    };
    let coded: BTreeSet<String> = members.into_iter().map(|(name, _)| name).collect();
    let documented: BTreeSet<String> = table("member")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(documented, coded);
}

#[test]
fn what_is_said_to_be_refused_is_refused_by_name() {
    for line in block("json", "refused").lines() {
        let example: Value = serde_json::from_str(line).unwrap();
        let request = example["request"].to_string();
        let Body::Refused(refused) = rpc::read(request.as_bytes()) else {
            panic!("{request}")
        };
        assert_eq!(refused.error.code, example["code"], "{request}");
        let name = example["names"].as_str().unwrap();
        assert!(
            refused.error.to_json().contains(name),
            "{}",
            refused.error.to_json()
        );
    }
}

#[test]
fn the_envelopes_are_split_as_the_table_says() {
    for row in table("client") {
        let frames: Vec<String> = serde_json::from_str(&row[1]).unwrap();
        let above: Vec<String> = serde_json::from_str(&row[2]).unwrap();
        let found = envelope::split(&frames).unwrap();
        assert_eq!(frames[found.path.clone()], above, "{}", row[0]);
        assert_eq!(found.has_delimiter, above.last().is_some(), "{}", row[0]);
        assert_eq!(found.body.to_string(), row[3], "{}", row[0]);
    }
}

#[test]
fn the_commands_are_the_commands() {
    let coded: Vec<_> = Command::ALL
        .into_iter()
        .map(|command| {
            let byte = command as u8;
            let direction = if byte < 0x80 {
                "to broker"
            } else {
                "to worker"
            };
            vec![
                format!("{byte:#04x}"),
                format!("{command:?}"),
                direction.to_owned(),
            ]
        })
        .collect();
    let documented: Vec<_> = table("byte")
        .into_iter()
        .map(|row| row[..3].to_vec())
        .collect();
    assert_eq!(documented, coded);

    // The grammar says the same: `%x01.81 … ; Who`.
    let grammar = DOCUMENT.lines().filter_map(|line| {
        let (_, rest) = line.split_once("= %x01.")?;
        let (byte, name) = (rest.get(..2)?, rest.rsplit_once("; ")?.1);
        Some((u8::from_str_radix(byte, 16).unwrap(), name.to_owned()))
    });
    let coded: Vec<_> = Command::ALL
        .into_iter()
        .map(|command| (command as u8, format!("{command:?}")))
        .collect();
    assert_eq!(grammar.collect::<Vec<_>>(), coded);
}

#[test]
fn the_flags_are_the_flags() {
    let coded = BTreeMap::from([
        ("RAW", flag::RAW),
        ("OWN_FRAME", flag::OWN_FRAME),
        ("STREAM", flag::STREAM),
        ("FRAMES", flag::FRAMES),
        ("ERROR", flag::ERROR),
        ("WHOLE", flag::WHOLE),
        ("SHARED", flag::SHARED),
    ]);
    let declared = constants(include_str!("../src/worker/record.rs"), "pub mod flag {");
    assert_eq!(
        declared,
        coded.keys().map(|&name| name.to_owned()).collect()
    );
    let rows = table("flag");
    let documented: BTreeMap<&str, u8> = rows
        .iter()
        .map(|row| (row[0].as_str(), row[1].parse().unwrap()))
        .collect();
    assert_eq!(documented, coded);
}

/// Every rule that a grammar uses is one that a grammar defines.
#[test]
fn the_grammars_are_complete() {
    let mut is_grammar = false;
    let (mut defined, mut used) = (BTreeSet::new(), BTreeSet::new());
    for line in DOCUMENT.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            is_grammar = kind == "abnf";
            continue;
        }
        if !is_grammar {
            continue;
        }
        let line = line.split(';').next().unwrap();
        let right = match line
            .split_once(" = ")
            .map(|(name, right)| (name.trim(), right))
        {
            Some((name, right)) => {
                assert!(
                    defined.insert(name.to_owned()) || name == "attachments",
                    "{name} twice"
                );
                right
            }
            None => line,
        };
        let words = right.split(|c: char| !(c.is_ascii_alphanumeric() || "-%.\"".contains(c)));
        let rules = words.map(|word| word.trim_start_matches(|c: char| c.is_ascii_digit()));
        used.extend(
            rules
                .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
                .map(str::to_owned),
        );
    }
    // RFC 5234, appendix B.1.
    for core in ["OCTET", "DIGIT"] {
        defined.insert(core.to_owned());
    }
    let undefined: Vec<_> = used.difference(&defined).collect();
    assert!(undefined.is_empty(), "used and not defined: {undefined:?}");
}

fn dispatch(call: u64, attempt: u32) -> DispatchId {
    DispatchId {
        epoch: EPOCH,
        call: CallId(call),
        attempt,
    }
}

#[test]
fn the_packed_examples_are_what_the_code_packs_and_reads() {
    let examples = [
        ("dispatch-id", dispatch(1, 1).to_bytes().to_vec()),
        ("call", packed(|out| example_call().pack(out))),
        (
            "call-own-frame",
            packed(|out| example_call_in_a_frame().pack(out)),
        ),
        ("reply", packed(|out| example_reply().pack(out))),
        (
            "reply-own-frame",
            packed(|out| example_reply_in_a_frame().pack(out)),
        ),
        ("slot-call", packed(|out| EXAMPLE_SLOT_CALL.pack(out))),
        ("recalled", packed(|out| EXAMPLE_RECALLED.pack(out))),
        ("stream-item", packed(|out| example_item().pack(out))),
    ];
    for (name, packed) in &examples {
        assert_eq!(bytes(name), *packed, "{name}");
    }
    let documented: BTreeSet<_> = blocks()
        .into_keys()
        .filter(|(kind, _)| *kind == "hex")
        .map(|(_, name)| name)
        .collect();
    assert_eq!(documented, examples.iter().map(|(name, _)| *name).collect());

    assert_eq!(
        DispatchId::from_bytes(&bytes("dispatch-id")),
        Some(dispatch(1, 1))
    );
    assert_eq!(
        Call::unpack(&bytes("call")).collect::<Vec<_>>(),
        [Ok(example_call())]
    );
    let read = bytes("call-own-frame");
    assert_eq!(
        Call::unpack(&read).collect::<Vec<_>>(),
        [Ok(example_call_in_a_frame())]
    );
    assert_eq!(
        Reply::unpack(&bytes("reply")).collect::<Vec<_>>(),
        [Ok(example_reply())]
    );
    let read = bytes("reply-own-frame");
    assert_eq!(
        Reply::unpack(&read).collect::<Vec<_>>(),
        [Ok(example_reply_in_a_frame())]
    );
    assert_eq!(
        SlotCall::unpack(&bytes("slot-call")).collect::<Vec<_>>(),
        [Ok(EXAMPLE_SLOT_CALL)]
    );
    assert_eq!(
        StreamItem::unpack(&bytes("stream-item")),
        Ok(example_item())
    );
}

fn packed(pack: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    pack(&mut out);
    out
}

fn example_call() -> Call<'static> {
    Call {
        dispatch: dispatch(1, 1),
        seq: 1,
        remaining_ms: 0,
        items: 0,
        flags: 0,
        attachments: 0,
        id: "1",
        method: "multiply",
        body: Bytes::Inline(b"[5,3]"),
    }
}

fn example_call_in_a_frame() -> Call<'static> {
    Call {
        dispatch: dispatch(2, 1),
        seq: 2,
        remaining_ms: 500,
        items: 0,
        flags: flag::OWN_FRAME | flag::FRAMES,
        attachments: 1,
        id: "\"b\"",
        method: "store",
        body: Bytes::OwnFrame {
            start: 45,
            len: 5_000,
        },
    }
}

fn example_reply() -> Reply<'static> {
    Reply {
        dispatch: dispatch(1, 1),
        service_us: 12,
        items: 1,
        flags: 0,
        attachments: 0,
        body: Bytes::Inline(b"15"),
    }
}

fn example_reply_in_a_frame() -> Reply<'static> {
    Reply {
        dispatch: dispatch(2, 1),
        service_us: 4_096,
        items: 1,
        flags: flag::OWN_FRAME | flag::WHOLE,
        attachments: 1,
        body: Bytes::OwnFrame {
            start: 0,
            len: 70_000,
        },
    }
}

const EXAMPLE_SLOT_CALL: SlotCall = SlotCall {
    slot: 3,
    seq: 8,
    dispatch: DispatchId {
        epoch: EPOCH,
        call: CallId(4),
        attempt: 2,
    },
};

const EXAMPLE_RECALLED: Recalled = Recalled {
    call: EXAMPLE_SLOT_CALL,
    given_back: true,
};

fn example_item() -> StreamItem<'static> {
    StreamItem {
        dispatch: dispatch(4, 2),
        seq: 1,
        kind: StreamKind::Progress,
        value: br#"{"done":3,"total":10}"#,
    }
}

/// The example has exactly the members that the type writes: none more, none less.
fn same_members<T: Serialize + DeserializeOwned>(name: &str) {
    let text = block("json", name);
    let documented: Value = serde_json::from_str(&text).unwrap();
    let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(serde_json::to_value(&read).unwrap(), documented, "{name}");
}

#[test]
fn the_json_examples_are_what_the_code_reads_and_writes() {
    same_members::<Connection>("connection-file");
    same_members::<Curve>("connection-curve");
    same_members::<Registration>("registration");
    same_members::<Welcome>("welcome");
    same_members::<Refused>("refused-worker");
    same_members::<Join>("join");
    same_members::<Nest>("nest");
    same_members::<NotOpened>("not-opened");
    same_members::<SlotLost>("slot-lost");
    same_members::<SlotReady>("slot-ready");
    let checked = BTreeSet::from([
        "connection-file",
        "connection-curve",
        "registration",
        "welcome",
        "refused-worker",
        "join",
        "nest",
        "not-opened",
        "slot-lost",
        "slot-ready",
        // Checked by the test of refusals.
        "refused",
        // Compared with a running broker by scripts/checks/own_methods.py.
        "fields",
    ]);
    let documented: BTreeSet<_> = blocks()
        .into_keys()
        .filter(|(kind, _)| *kind == "json")
        .map(|(_, name)| name)
        .collect();
    assert_eq!(documented, checked);
}

/// The code cites sections of the document by their headings.
#[test]
fn every_section_that_the_code_cites_is_there() {
    let headings: BTreeSet<&str> = DOCUMENT
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches(['#', ' ']))
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut cited = 0;
    for folder in ["proto", "broker", "worker", "client"] {
        for file in sources(&root.join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for rest in text.split("docs/protocol.md, \"").skip(1) {
                let heading = rest.split('"').next().unwrap();
                if heading.contains(['\\', '\n']) || heading.is_empty() {
                    continue;
                }
                assert!(
                    headings.contains(heading),
                    "{}: no section {heading}",
                    file.display()
                );
                cited += 1;
            }
        }
    }
    assert!(cited > 5, "only {cited} citations found");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
