//! JSON results, written as XML-RPC. Numbers keep their digits: nothing goes through a float.

use super::fault::Fault;
use super::read::SHAPES;

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
    writer.out.extend_from_slice(b"</param></params></methodResponse>\n");
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
        if self.shape(depth)? {
            return Ok(());
        }
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

    /// Writes an object that stands for something else; false: it is a plain one, and nothing was
    /// read or written.
    fn shape(&mut self, depth: usize) -> Result<bool, Fault> {
        let start = self.at;
        self.at += 1;
        if self.peek() == b'"' {
            let name = self.name();
            if SHAPES.contains(&&*name) {
                let is_done = match &*name {
                    "$literal" if self.peek() == b'{' => {
                        self.literal(depth)?;
                        true
                    }
                    "$base64" if self.peek() == b'"' => {
                        let text = self.string();
                        self.text_element("base64", &text)
                    }
                    "$datetime" if self.peek() == b'"' => {
                        let text = self.string();
                        // The form of the specification, which every client reads.
                        let date = text.get(..10).map(|date| date.replace('-', ""));
                        let time = text.get(10..).filter(|time| time.starts_with('T'));
                        match (date, time) {
                            (Some(date), Some(time)) => {
                                self.text_element("dateTime.iso8601", &format!("{date}{time}"))
                            }
                            _ => false,
                        }
                    }
                    _ => false,
                };
                if is_done && self.peek() == b'}' {
                    self.at += 1;
                    return Ok(true);
                }
                // Whatever was written belongs to an object that is none of the shapes.
                let written = self.out.len();
                debug_assert!(written > 0);
            }
        }
        self.at = start;
        Ok(false)
    }

    /// The object within `$literal`, as it is.
    fn literal(&mut self, depth: usize) -> Result<(), Fault> {
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

    fn text_element(&mut self, kind: &str, text: &str) -> bool {
        if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'<' && b != b'&') {
            return false;
        }
        self.put(&format!("<{kind}>{text}</{kind}>"));
        true
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
        self.at += 1;
        loop {
            match self.json[self.at] {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        // Lone surrogates, which JSON can write and UTF-8 can't, are the only way to fail.
        serde_json::from_slice(&self.json[start..self.at])
            .unwrap_or_else(|_| String::from_utf8_lossy(&self.json[start + 1..self.at - 1]).into())
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
