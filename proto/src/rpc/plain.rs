//! The members of a plain call, found by a scanner.

use super::read::Members;
use crate::json::{space_end, string_end, value_end};

/// The members of a call's object; `None`: `serde_json` has to look, because the text is no JSON,
/// or has members or escapes that a plain call has not.
///
/// What is found is what `serde_json` finds. Depth is [`crate::limits::DEPTH_MAX`] at most: the
/// scanner follows no more.
pub(super) fn members(text: &str) -> Option<Members<'_>> {
    let bytes = text.as_bytes();
    let mut members = Members::default();
    let mut at = space_end(bytes, 0);
    if *bytes.get(at)? != b'{' {
        return None;
    }
    loop {
        at = space_end(bytes, at + 1);
        let name = at;
        at = string_end(bytes, name)?;
        let member = match &bytes[name..at] {
            b"\"jsonrpc\"" => &mut members.jsonrpc,
            b"\"method\"" => &mut members.method,
            b"\"id\"" => &mut members.id,
            b"\"params\"" => &mut members.params,
            b"\"meta\"" => &mut members.meta,
            _ => return None,
        };
        at = space_end(bytes, at);
        if *bytes.get(at)? != b':' {
            return None;
        }
        let value = space_end(bytes, at + 1);
        at = value_end(bytes, value)?;
        if member.replace(&text[value..at]).is_some() {
            return None;
        }
        at = space_end(bytes, at);
        match *bytes.get(at)? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    (space_end(bytes, at + 1) == bytes.len()).then_some(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_serde(text: &str) -> Option<Members<'_>> {
        serde_json::from_str(text).ok()
    }

    #[test]
    fn a_plain_call_is_found_whole() {
        for text in [
            r#"{"jsonrpc":"2.0","method":"multiply","params":[5,3],"id":1}"#,
            "\t{ \"jsonrpc\" : \"2.0\" , \"id\" : \"x\" , \"method\" : \"m\" }\r\n",
            r#"{"meta":{"key":"k","timeout_ms":5},"params":{"a":[{}]},"method":"ü"}"#,
        ] {
            let found = members(text);
            assert!(found.is_some(), "{text}");
            assert_eq!(found, by_serde(text));
        }
    }

    #[test]
    fn all_else_is_left_to_serde() {
        for text in [
            r#"{"method":"a","method":"b"}"#,
            r#"{"m\u0065thod":"a"}"#,
            r#"{"extra":1}"#,
            r#"{"id":1,}"#,
            r#"{"id" 1}"#,
            r#"{"id":1}}"#,
            r#"{"id":1"#,
            "{}",
            "{",
            "[1]",
            "",
        ] {
            assert_eq!(members(text), None, "{text}");
        }
        let deep = crate::limits::DEPTH_MAX;
        let params = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        assert_eq!(members(&format!(r#"{{"params":{params}}}"#)), None);
    }

    fn near_call() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "\"jsonrpc\"",
            "\"method\"",
            "\"id\"",
            "\"params\"",
            "\"meta\"",
            "\"i\\u0064\"",
            "\"other\"",
            "id",
        ]);
        let value = prop::sample::select(vec![
            "\"2.0\"",
            "\"m\"",
            "1",
            "-0.5e9",
            "null",
            "[1, {\"a\":\"b\"}]",
            "{}",
            "[",
            "\"\\n\"",
            "\"\\u00fc\"",
            "01",
            "\"ü, and a text of some length\"",
            "true",
            "{\"a\":}",
            "\"\u{2}\"",
        ]);
        let member = (
            name,
            prop::sample::select(vec![":", " : ", "", "::"]),
            value,
        );
        let member = member.prop_map(|(name, colon, value)| format!("{name}{colon}{value}"));
        let members = prop::collection::vec(member, 0..6);
        let rest = prop::sample::select(vec!["}", " } ", "", "}}", ",}", "} 1", "}\u{a0}"]);
        (
            members,
            prop::sample::select(vec![",", " , ", ",,", ""]),
            rest,
        )
            .prop_map(|(members, comma, rest)| format!("{{{}{rest}", members.join(comma)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_the_scanner_finds_serde_finds(text in near_call()) {
            if let Some(found) = members(&text) {
                prop_assert_eq!(Some(found), by_serde(&text));
            }
        }
    }
}
