//! JSON results, written as XML-RPC. Numbers keep their digits: nothing goes through a float.

use super::fault::Fault;

/// Results are nested no deeper than this; the broker looks at the depth of calls alone.
const DEPTH_MAX: usize = 128;

/// The whole answer with a result, which is valid JSON.
///
/// # Errors
/// When it is nested too deep or holds a character that XML has not.
pub(super) fn response(result: &str) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(result.len() * 2 + 200);
    out.extend_from_slice(b"<?xml version='1.0'?>\n<methodResponse><params><param>");
    let mut writer = Writer {
        json: result.as_bytes(),
        at: 0,
        out,
    };
    writer.value(0)?;
    writer
        .out
        .extend_from_slice(b"</param></params></methodResponse>\n");
    Ok(writer.out)
}

/// XML 1.0, section 2.2.
pub(super) fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The character, or one that says that there was another.
pub(super) fn or_replacement(c: char) -> char {
    if is_xml(c) { c } else { '\u{fffd}' }
}

/// Writes text. A carriage return would become a line feed unless it is a reference.
///
/// # Errors
/// At a character that XML has not.
pub(super) fn escape(text: &str, out: &mut Vec<u8>) -> Result<(), Fault> {
    for c in text.chars() {
        match c {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '\r' => out.extend_from_slice(b"&#13;"),
            c if c.is_ascii() && is_xml(c) => out.push(c as u8),
            c if is_xml(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            c => {
                let reason = format!("XML has no character U+{:04X}; return bytes", c as u32);
                return Err(Fault::bad_result(&reason));
            }
        }
    }
    Ok(())
}

/// An object that stands for something else.
enum Shape {
    Text {
        element: &'static str,
        text: String,
        end: usize,
    },
    /// Where the object within starts, and where the whole ends.
    Literal { start: usize, end: usize },
}

struct Writer<'a> {
    json: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn value(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            let reason = format!("it is nested deeper than {DEPTH_MAX}");
            return Err(Fault::bad_result(&reason));
        }
        self.put("<value>");
        match self.peek() {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => {
                let text = self.string();
                self.put("<string>");
                escape(&text, &mut self.out)?;
                self.put("</string>");
            }
            b't' => self.word(4, "<boolean>1</boolean>"),
            b'f' => self.word(5, "<boolean>0</boolean>"),
            b'n' => self.word(4, "<nil/>"),
            _ => self.number(),
        }
        self.put("</value>");
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), Fault> {
        self.put("<array><data>");
        self.at += 1;
        while self.peek() != b']' {
            self.value(depth + 1)?;
            self.skip_comma();
        }
        self.at += 1;
        self.put("</data></array>");
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), Fault> {
        match self.shape() {
            None => self.members(depth),
            Some(Shape::Text { element, text, end }) => {
                self.at = end;
                self.put(&format!("<{element}>{text}</{element}>"));
                Ok(())
            }
            Some(Shape::Literal { start, end }) => {
                self.at = start;
                self.members(depth)?;
                self.at = end;
                Ok(())
            }
        }
    }

    fn members(&mut self, depth: usize) -> Result<(), Fault> {
        self.put("<struct>");
        self.at += 1;
        while self.peek() != b'}' {
            let name = self.name();
            self.put("<member><name>");
            escape(&name, &mut self.out)?;
            self.put("</name>");
            self.value(depth + 1)?;
            self.put("</member>");
            self.skip_comma();
        }
        self.at += 1;
        self.put("</struct>");
        Ok(())
    }

    /// Looks whether the object here stands for something else. Neither reads on nor writes.
    fn shape(&mut self) -> Option<Shape> {
        let here = self.at;
        let shape = self.look_for_shape();
        self.at = here;
        shape
    }

    fn look_for_shape(&mut self) -> Option<Shape> {
        self.at += 1;
        if self.peek() != b'"' || self.json.get(self.at + 1) != Some(&b'$') {
            return None;
        }
        let name = self.name();
        let first = self.peek();
        let start = self.at;
        let (element, text) = match (&*name, first) {
            ("$literal", b'{') => {
                self.skip_object();
                let end = self.end_of_single()?;
                return Some(Shape::Literal { start, end });
            }
            ("$base64", b'"') => ("base64", self.string()),
            ("$datetime", b'"') => {
                // The form of the specification, which every client reads.
                let text = self.string();
                let (date, time) = text.split_once('T')?;
                (
                    "dateTime.iso8601",
                    format!("{}T{time}", date.replace('-', "")),
                )
            }
            _ => return None,
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=:.-".contains(&byte);
        let end = self.end_of_single()?;
        let is_plain = text.bytes().all(is_plain);
        is_plain.then_some(Shape::Text { element, text, end })
    }

    /// Behind the object whose only member was just read.
    fn end_of_single(&mut self) -> Option<usize> {
        (self.peek() == b'}').then_some(self.at + 1)
    }

    /// Goes behind an object without looking at it.
    fn skip_object(&mut self) {
        let mut depth = 0;
        loop {
            match self.json[self.at] {
                b'"' => {
                    self.skip_string();
                    continue;
                }
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    fn number(&mut self) {
        let start = self.at;
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        self.at += self.json[start..].iter().take_while(|b| is_part(b)).count();
        let text = std::str::from_utf8(&self.json[start..self.at]).expect("digits are ASCII");
        let kind = if text.contains(['.', 'e', 'E']) {
            "double"
        } else if text.parse::<i32>().is_ok() {
            "int"
        } else if text.parse::<i64>().is_ok() {
            "i8"
        } else {
            "biginteger"
        };
        let element = format!("<{kind}>{text}</{kind}>");
        self.put(&element);
    }

    fn word(&mut self, length: usize, element: &str) {
        self.at += length;
        self.put(element);
    }

    /// A member's name with its colon.
    fn name(&mut self) -> String {
        let name = self.string();
        self.peek();
        self.at += 1;
        name
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.skip_string();
        // Lone surrogates, which JSON can write and UTF-8 can't, are the only way to fail.
        serde_json::from_slice(&self.json[start..self.at])
            .unwrap_or_else(|_| String::from_utf8_lossy(&self.json[start + 1..self.at - 1]).into())
    }

    fn skip_string(&mut self) {
        self.at += 1;
        loop {
            match self.json[self.at] {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
    }

    fn skip_comma(&mut self) {
        if self.peek() == b',' {
            self.at += 1;
        }
    }

    /// The next byte that is no white space. The JSON is valid, so there is one.
    fn peek(&mut self) -> u8 {
        while self.json[self.at].is_ascii_whitespace() {
            self.at += 1;
        }
        self.json[self.at]
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Result<String, Fault> {
        let text = String::from_utf8(response(json)?).unwrap();
        let (_, text) = text.split_once("<param>").unwrap();
        let (text, _) = text.split_once("</param>").unwrap();
        let text = text.strip_prefix("<value>").unwrap();
        Ok(text.strip_suffix("</value>").unwrap().to_owned())
    }

    #[test]
    fn every_json_type_becomes_xml() {
        for (json, xml) in [
            ("5", "<int>5</int>"),
            ("-2147483648", "<int>-2147483648</int>"),
            ("2147483648", "<i8>2147483648</i8>"),
            (
                "123456789012345678901234567890",
                "<biginteger>123456789012345678901234567890</biginteger>",
            ),
            ("1.50", "<double>1.50</double>"),
            ("1E5", "<double>1E5</double>"),
            (" true ", "<boolean>1</boolean>"),
            ("false", "<boolean>0</boolean>"),
            ("null", "<nil/>"),
            (
                r#""a<&>\"\u00e9\r\n""#,
                "<string>a&lt;&amp;&gt;\"é&#13;\n</string>",
            ),
            (
                "[ 1 , [] ]",
                "<array><data><value><int>1</int></value><value><array><data></data></array></value></data></array>",
            ),
            ("{}", "<struct></struct>"),
            (
                r#"{"a" : {"b":[]}, "c":1}"#,
                "<struct><member><name>a</name><value><struct><member><name>b</name><value><array><data></data></array></value></member></struct></value></member><member><name>c</name><value><int>1</int></value></member></struct>",
            ),
            (r#"{"$base64":"AAE="}"#, "<base64>AAE=</base64>"),
            (
                r#"{ "$datetime" : "2026-01-31T23:59:58" }"#,
                "<dateTime.iso8601>20260131T23:59:58</dateTime.iso8601>",
            ),
            (
                r#"{"$literal":{"$base64":"x"}}"#,
                "<struct><member><name>$base64</name><value><string>x</string></value></member></struct>",
            ),
            (
                r#"{"$base64":"x","y":1}"#,
                "<struct><member><name>$base64</name><value><string>x</string></value></member><member><name>y</name><value><int>1</int></value></member></struct>",
            ),
            (
                r#"{"$datetime":"soon"}"#,
                "<struct><member><name>$datetime</name><value><string>soon</string></value></member></struct>",
            ),
            (
                r#"{"$base64":"<x/>"}"#,
                "<struct><member><name>$base64</name><value><string>&lt;x/&gt;</string></value></member></struct>",
            ),
        ] {
            assert_eq!(value(json).as_deref(), Ok(xml), "{json}");
        }
    }

    #[test]
    fn what_xml_cannot_hold_is_a_fault() {
        let fault = value(r#""\u0000""#).unwrap_err();
        assert!(fault.text.contains("U+0000"), "{}", fault.text);
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        assert!(value(&deep).unwrap_err().text.contains("nested"));
    }

    #[test]
    fn literals_within_literals_take_no_longer_than_their_length() {
        let open = r#"{"$literal":{"a":"#.repeat(60);
        let close = r#"},"x":1}"#.repeat(60);
        assert!(value(&format!("{open}1{close}")).is_ok());
    }

    #[test]
    fn what_was_read_is_written_as_it_was() {
        let inner = "<struct><member><name>a</name><value><array><data><value><int>-5</int></value>\
            <value><i8>4294967296</i8></value><value><base64>AAE=</base64></value><value><nil/></value>\
            <value><dateTime.iso8601>20260131T23:59:58</dateTime.iso8601></value>\
            <value><struct><member><name>$literal</name><value><struct></struct></value></member></struct></value>\
            <value><double>0.1</double></value></data></array></value></member></struct>";
        let call = format!(
            "<methodCall><methodName>m</methodName><params><param><value>{inner}</value></param></params></methodCall>"
        );
        let params = crate::xmlrpc::read::read(call.as_bytes()).unwrap().params;
        let result = params.strip_prefix('[').unwrap().strip_suffix(']').unwrap();
        assert_eq!(value(result).as_deref(), Ok(inner));
    }
}
