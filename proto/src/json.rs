//! JSON checked by a scanner: where a value ends, without making anything of it.
//!
//! `serde_json` is the judge of what JSON is. The scanner says yes to the plain values that nearly
//! all calls and answers are made of, at about half the cost, and is silent about the rest, which
//! `serde_json` then reads. It never says yes to what `serde_json` refuses; a property test and a
//! fuzz target compare the two.

use crate::limits;
use serde::de::IgnoredAny;

/// Values within values that the scanner follows; the bits of one word remember their kinds.
const SCANNED_DEPTH_MAX: usize = 63;

// A call's object is one level more.
const _: () = assert!(SCANNED_DEPTH_MAX < limits::DEPTH_MAX);

/// Whether `bytes` are one JSON value, as `serde_json` has it when it skips one.
pub fn is_value(bytes: &[u8]) -> bool {
    is_plain_value(bytes) || serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

fn is_plain_value(bytes: &[u8]) -> bool {
    value_end(bytes, space_end(bytes, 0)).is_some_and(|end| space_end(bytes, end) == bytes.len())
}

/// Gives the items of an array, as written, one after the other. `None`: the text is no plain array,
/// so `serde_json` has to look, and what was given does not count.
pub fn plain_items<'a>(text: &'a str, mut take: impl FnMut(&'a str)) -> Option<()> {
    let bytes = text.as_bytes();
    let mut at = space_end(bytes, 0);
    if *bytes.get(at)? != b'[' {
        return None;
    }
    at = space_end(bytes, at + 1);
    if *bytes.get(at)? != b']' {
        loop {
            let item = at;
            at = value_end(bytes, item)?;
            take(&text[item..at]);
            at = space_end(bytes, at);
            match *bytes.get(at)? {
                b',' => at = space_end(bytes, at + 1),
                b']' => break,
                _ => return None,
            }
        }
    }
    (space_end(bytes, at + 1) == bytes.len()).then_some(())
}

/// Where the white space ends that begins at `at`, if any does.
#[inline]
pub(crate) fn space_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Where the value ends that begins at `at`; `None`: it is not plain, or no value.
#[inline]
pub(crate) fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string_end(bytes, at),
        b'-' | b'0'..=b'9' => number_end(bytes, at),
        b'[' | b'{' => container_end(bytes, at),
        b't' => word_end(bytes, at, b"true"),
        b'f' => word_end(bytes, at, b"false"),
        b'n' => word_end(bytes, at, b"null"),
        _ => None,
    }
}

/// Where the array or object ends whose bracket is at `at`.
fn container_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    // One bit for each open container, the innermost lowest: whether it is an object.
    let (mut objects, mut depth) = (0u64, 0);
    loop {
        let opener = *bytes.get(at)?;
        let is_object = opener == b'{';
        if is_object || opener == b'[' {
            if depth == SCANNED_DEPTH_MAX {
                return None;
            }
            at = space_end(bytes, at + 1);
            let closer = if is_object { b'}' } else { b']' };
            if *bytes.get(at)? == closer {
                at += 1;
            } else {
                depth += 1;
                objects = objects << 1 | u64::from(is_object);
                if is_object {
                    at = name_end(bytes, at)?;
                }
                continue;
            }
        } else {
            at = value_end(bytes, at)?;
        }
        // A value has ended: what follows it?
        loop {
            if depth == 0 {
                return Some(at);
            }
            at = space_end(bytes, at);
            match (*bytes.get(at)?, objects & 1 == 1) {
                (b',', is_object) => {
                    at = space_end(bytes, at + 1);
                    if is_object {
                        at = name_end(bytes, at)?;
                    }
                    break;
                }
                (b'}', true) | (b']', false) => {
                    at += 1;
                    depth -= 1;
                    objects >>= 1;
                }
                _ => return None,
            }
        }
    }
}

/// Where the value of the member begins whose name is at `at`.
#[inline]
fn name_end(bytes: &[u8], at: usize) -> Option<usize> {
    let at = space_end(bytes, string_end(bytes, at)?);
    (*bytes.get(at)? == b':').then(|| space_end(bytes, at + 1))
}

/// Where the string ends whose quote is at `at`. Escaped code points are not plain.
#[inline]
pub(crate) fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let mut at = at + 1;
    loop {
        while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            let ends = ends_in(u64::from_le_bytes(*word));
            if ends != 0 {
                at += ends.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match bytes.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                _ => return None,
            },
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

/// Marks the bytes of a word, first byte lowest, that are a quote, a backslash or a control
/// character. Of several marks only the lowest is certain.
#[inline]
fn ends_in(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & (ONES << 7);
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | equal(b'"') | equal(b'\\')
}

/// RFC 8259, section 6.
#[inline]
fn number_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    at += usize::from(bytes[at] == b'-');
    at = match bytes.get(at)? {
        b'0' => at + 1,
        _ => digits_end(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits_end(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = digits_end(bytes, at)?;
    }
    Some(at)
}

/// At least one digit.
#[inline]
fn digits_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    (at > from).then_some(at)
}

fn word_end(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes[at..].starts_with(word).then_some(at + word.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_values_need_no_second_look() {
        for text in [
            r#""Bilbo""#,
            r#" {"a" : [1, -2.5e+3, true, null], "b\n":{}} "#,
            r#"[[],{},"",0,"\\\"/"]"#,
            r#""exactly eight or more bytes, and an ü""#,
            "1E9",
        ] {
            assert!(is_plain_value(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_at_every_place() {
        for text in [
            "",
            " ",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "nul",
            "[1,]",
            "[1 2]",
            "{1:2}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            "[}",
            "{]",
            "[",
            "\"",
            "\"a\nb\"",
            "1 2",
            r#""\x""#,
            "[1]]",
        ] {
            assert!(!is_value(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_items_of_a_plain_array_are_found_as_written() {
        let items = |text| {
            let mut found = Vec::new();
            plain_items(text, |item| found.push(item)).map(|()| found)
        };
        assert_eq!(items("[]"), Some(vec![]));
        assert_eq!(
            items(" [ 5 ,\"ü\", [1, {\"a\":[]}]\n] "),
            Some(vec!["5", "\"ü\"", "[1, {\"a\":[]}]"])
        );
        for text in [
            "", "5", "{}", "[", "[5", "[5,", "[5,]", "[,]", "[5 5]", "[5]]", "[5] 5",
        ] {
            assert_eq!(items(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_scanner_does_not_follow_is_left_to_serde() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_plain_value(deep(SCANNED_DEPTH_MAX).as_bytes()));
        let deeper = deep(SCANNED_DEPTH_MAX + 1);
        assert!(!is_plain_value(deeper.as_bytes()) && is_value(deeper.as_bytes()));
        let escaped = r#""\u00fc""#;
        assert!(!is_plain_value(escaped.as_bytes()) && is_value(escaped.as_bytes()));
    }

    /// Text near JSON: the characters that matter, often in an order that makes sense.
    fn near_json() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            4 => prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"", "\\", " ", "\n", "\t", "0", "1", "-", ".",
                "e", "E", "+", "true", "false", "null", "\"a\"", "\"a\":", "\\n", "\\u00fc", "ü",
                "\u{1}", "\u{7f}", "12.5e-3", "[1,2]", "{\"b\":[]}", "nine bytes", "\"a longer text\"",
            ]).prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
    }

    /// JSON for certain.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|b| b.to_string()),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|x| serde_json::json!(x).to_string()),
            any::<String>().prop_map(|s| serde_json::json!(s).to_string()),
        ];
        leaf.prop_recursive(6, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6)
                    .prop_map(|items| format!("[ {} ]", items.join(" , "))),
                prop::collection::vec((any::<String>(), inner), 0..6).prop_map(|members| {
                    let members = members
                        .into_iter()
                        .map(|(name, value)| format!("{}: {value}", serde_json::json!(name)));
                    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    fn by_serde(bytes: &[u8]) -> bool {
        serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn the_scanner_takes_nothing_that_serde_refuses(text in near_json()) {
            let bytes = text.as_bytes();
            prop_assert!(!is_plain_value(bytes) || by_serde(bytes));
            prop_assert_eq!(is_value(bytes), by_serde(bytes));
        }

        #[test]
        fn plain_items_are_those_that_serde_finds(text in prop_oneof![near_json(), json()], by in 0..4) {
            let text = match by {
                0 => text,
                1 => format!("[{text}]"),
                2 => format!("[{text},1,{text}] "),
                _ => format!(" [ {text} , {text}"),
            };
            let mut found = Vec::new();
            if plain_items(&text, |item| found.push(item)).is_some() {
                let items = serde_json::from_str::<Vec<&serde_json::value::RawValue>>(&text);
                let items = items.expect("the scanner takes nothing that serde refuses");
                prop_assert!(items.iter().map(|item| item.get()).eq(found), "{}", text);
            }
        }

        #[test]
        fn bytes_that_are_no_text_are_judged_alike(
            text in json(),
            at in any::<prop::sample::Index>(),
            byte: u8,
        ) {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            prop_assert_eq!(is_value(&bytes), by_serde(&bytes));
        }

        #[test]
        fn json_is_taken_and_only_code_points_need_serde(text in json()) {
            prop_assert!(is_value(text.as_bytes()));
            prop_assert!(is_plain_value(text.as_bytes()) || text.contains("\\u"), "{}", text);
        }
    }
}
