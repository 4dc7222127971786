//! XML-RPC calls, turned into JSON.
//!
//! | XML-RPC | JSON |
//! |---|---|
//! | `int`, `i1` `i2` `i4` `i8`, `biginteger` | number without a point |
//! | `double`, `bigdecimal` | number with one |
//! | `boolean`, `string`, `nil`, `array`, `struct` | the same in JSON |
//! | `base64` | `{"$base64": "…"}` |
//! | `dateTime.iso8601` | `{"$datetime": "YYYY-MM-DDTHH:MM:SS"}` |
//!
//! A struct that only looks like one of the last two is wrapped in `{"$literal": …}`.
//!
//! Source: the XML-RPC specification; for `nil` and the sized integers the `ex:` extensions.

use super::fault::Fault;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use muster_proto::limits::DEPTH_MAX;
use quick_xml::Reader;
use quick_xml::events::Event;
use std::borrow::Cow;
use std::fmt::Write;

/// Members with a meaning of their own, when an object has no other.
const SHAPES: [&str; 4] = ["$frame", "$base64", "$datetime", "$literal"];

/// A call as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MethodCall {
    pub(super) method: String,
    /// A JSON array.
    pub(super) params: String,
}

/// Reads a `methodCall`.
///
/// # Errors
/// The fault to answer: malformed XML, a document type or an entity of one's own, XML that is no
/// call, a value that JSON has not.
pub(super) fn read(body: &[u8]) -> Result<MethodCall, Fault> {
    let text = std::str::from_utf8(body).map_err(|_| Fault::encoding("not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.check_comments = true;
    let mut call = Parser {
        reader,
        params: String::with_capacity(text.len() / 2),
    };
    call.document()
}

/// A piece of the document that matters.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Open(Cow<'a, str>),
    Close(Cow<'a, str>),
    Text(Cow<'a, str>),
    End,
}

struct Parser<'a> {
    reader: Reader<&'a [u8]>,
    /// What was read of the parameters, as JSON.
    params: String,
}

impl<'a> Parser<'a> {
    fn document(&mut self) -> Result<MethodCall, Fault> {
        self.open("methodCall")?;
        self.open("methodName")?;
        let method = self.text_until_close()?.trim().to_owned();
        if method.is_empty() {
            return Err(Fault::no_call("methodName is empty"));
        }
        self.params.push('[');
        match self.tag()? {
            Piece::Open(name) if name == "params" => {
                self.params()?;
                self.close("methodCall")?;
            }
            Piece::Close(_) => {}
            other => return Err(unexpected("params", &other)),
        }
        self.params.push(']');
        match self.tag()? {
            Piece::End => Ok(MethodCall {
                method,
                params: std::mem::take(&mut self.params),
            }),
            other => Err(unexpected("the end", &other)),
        }
    }

    fn params(&mut self) -> Result<(), Fault> {
        let mut count = 0;
        loop {
            match self.tag()? {
                Piece::Open(name) if name == "param" => {
                    if count > 0 {
                        self.params.push(',');
                    }
                    count += 1;
                    self.open("value")?;
                    self.value(1)?;
                    self.close("param")?;
                }
                Piece::Close(_) => return Ok(()),
                other => return Err(unexpected("param", &other)),
            }
        }
    }

    /// The rest of a `value` whose tag was read.
    fn value(&mut self, depth: usize) -> Result<(), Fault> {
        if depth >= DEPTH_MAX {
            let reason = format!("values are nested deeper than {DEPTH_MAX}");
            return Err(Fault::bad_value(&reason));
        }
        let mut text = String::new();
        let kind = loop {
            match self.piece()? {
                Piece::Text(more) => text.push_str(&more),
                Piece::Open(kind) => break kind,
                // A value without a type is a string, white space and all.
                Piece::Close(_) => return self.string(&text),
                Piece::End => return Err(Fault::malformed("it breaks off")),
            }
        };
        if !is_blank(&text) {
            return Err(Fault::no_call("text beside a value's type"));
        }
        let name = kind.strip_prefix("ex:").unwrap_or(&kind);
        match name {
            "array" => self.array(depth)?,
            "struct" => self.object(depth)?,
            scalar => {
                let text = self.text_until_close()?;
                self.scalar(scalar, &text)?;
            }
        }
        self.close("value")
    }

    fn scalar(&mut self, kind: &str, text: &str) -> Result<(), Fault> {
        let bad = || Fault::bad_value(&format!("{text:.40?} is no {kind}"));
        let trimmed = text.trim();
        match kind {
            "string" => self.string(text),
            "int" | "i1" | "i2" | "i4" | "i8" | "biginteger" => {
                let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(bad());
                }
                // JSON has neither a plus nor leading zeros.
                let digits = digits.trim_start_matches('0');
                let digits = if digits.is_empty() { "0" } else { digits };
                if trimmed.starts_with('-') && digits != "0" {
                    self.params.push('-');
                }
                self.params.push_str(digits);
                Ok(())
            }
            "boolean" => {
                self.params.push_str(match trimmed {
                    "1" | "true" => "true",
                    "0" | "false" => "false",
                    _ => return Err(bad()),
                });
                Ok(())
            }
            "double" | "float" | "bigdecimal" => {
                let number: f64 = trimmed.parse().map_err(|_| bad())?;
                if !number.is_finite() {
                    let reason = format!("{trimmed:.40} can't be sent: JSON has finite numbers");
                    return Err(Fault::bad_value(&reason));
                }
                // `Debug` always writes a point or an exponent, so it stays a double.
                write!(self.params, "{number:?}").expect("a String takes all");
                Ok(())
            }
            "nil" if is_blank(text) => {
                self.params.push_str("null");
                Ok(())
            }
            "base64" => {
                let packed: String = text.split_ascii_whitespace().collect();
                BASE64.decode(&packed).map_err(|_| bad())?;
                write!(self.params, r#"{{"$base64":"{packed}"}}"#).expect("a String takes all");
                Ok(())
            }
            "dateTime.iso8601" => {
                let time = iso8601(trimmed).ok_or_else(bad)?;
                write!(self.params, r#"{{"$datetime":"{time}"}}"#).expect("a String takes all");
                Ok(())
            }
            _ => Err(Fault::no_call(&format!("a value of type {kind:.40}"))),
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Fault> {
        self.open("data")?;
        self.params.push('[');
        let mut count = 0;
        loop {
            match self.tag()? {
                Piece::Open(name) if name == "value" => {
                    if count > 0 {
                        self.params.push(',');
                    }
                    count += 1;
                    self.value(depth + 1)?;
                }
                Piece::Close(_) => break,
                other => return Err(unexpected("value", &other)),
            }
        }
        self.params.push(']');
        self.close("array")
    }

    fn object(&mut self, depth: usize) -> Result<(), Fault> {
        let start = self.params.len();
        self.params.push('{');
        let mut count = 0;
        let mut is_shape = false;
        loop {
            match self.tag()? {
                Piece::Open(name) if name == "member" => {
                    if count > 0 {
                        self.params.push(',');
                    }
                    count += 1;
                    self.open("name")?;
                    let name = self.text_until_close()?;
                    is_shape = SHAPES.contains(&&*name);
                    self.string(&name)?;
                    self.params.push(':');
                    self.open("value")?;
                    self.value(depth + 1)?;
                    self.close("member")?;
                }
                Piece::Close(_) => break,
                other => return Err(unexpected("member", &other)),
            }
        }
        self.params.push('}');
        if count == 1 && is_shape {
            self.params.insert_str(start, r#"{"$literal":"#);
            self.params.push('}');
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Fault> {
        let json = serde_json::to_string(text).expect("a string is JSON");
        self.params.push_str(&json);
        Ok(())
    }

    fn open(&mut self, wanted: &str) -> Result<(), Fault> {
        match self.tag()? {
            Piece::Open(name) if name == wanted => Ok(()),
            other => Err(unexpected(wanted, &other)),
        }
    }

    /// The reader has checked that it closes what is open.
    fn close(&mut self, wanted: &str) -> Result<(), Fault> {
        match self.tag()? {
            Piece::Close(_) => Ok(()),
            other => Err(unexpected(&format!("the end of {wanted}"), &other)),
        }
    }

    fn text_until_close(&mut self) -> Result<Cow<'a, str>, Fault> {
        let mut text = Cow::Borrowed("");
        loop {
            match self.piece()? {
                Piece::Text(more) if text.is_empty() => text = more,
                Piece::Text(more) => text.to_mut().push_str(&more),
                Piece::Close(_) => return Ok(text),
                other => return Err(unexpected("text", &other)),
            }
        }
    }

    /// The next tag, with nothing but white space before it.
    fn tag(&mut self) -> Result<Piece<'a>, Fault> {
        loop {
            match self.piece()? {
                Piece::Text(text) if is_blank(&text) => {}
                piece => return Ok(piece),
            }
        }
    }

    fn piece(&mut self) -> Result<Piece<'a>, Fault> {
        loop {
            let event = self
                .reader
                .read_event()
                .map_err(|error| Fault::malformed(&error.to_string()))?;
            return Ok(match event {
                Event::Start(tag) => Piece::Open(Cow::Owned(tag.name().as_ref().to_owned())),
                Event::End(tag) => Piece::Close(Cow::Owned(tag.name().as_ref().to_owned())),
                Event::Text(text) => Piece::Text(checked(text.xml10_content())?),
                Event::CData(text) => Piece::Text(checked(text.xml10_content())?),
                Event::GeneralRef(name) => {
                    let resolved = name
                        .resolve_char_ref()
                        .map_err(|error| Fault::malformed(&error.to_string()))?;
                    let text = match resolved {
                        Some(character) => character.to_string(),
                        None => predefined(&name)?.to_owned(),
                    };
                    Piece::Text(checked(text.into())?)
                }
                // Entities are where XML bombs and foreign files come in; a call needs none.
                Event::DocType(_) => return Err(Fault::malformed("a document type is refused")),
                Event::Decl(declaration) => {
                    if let Some(Ok(name)) = declaration.encoding()
                        && !name.eq_ignore_ascii_case("utf-8")
                        && !name.eq_ignore_ascii_case("us-ascii")
                    {
                        return Err(Fault::encoding(&format!("{name:.40}")));
                    }
                    continue;
                }
                Event::Comment(_) | Event::PI(_) => continue,
                Event::Empty(_) => unreachable!("empty elements are expanded"),
                Event::Eof => Piece::End,
            });
        }
    }
}

fn unexpected(wanted: &str, found: &Piece<'_>) -> Fault {
    match found {
        Piece::End => Fault::malformed("it breaks off"),
        Piece::Open(name) => Fault::no_call(&format!("<{name:.40}> where {wanted} should be")),
        Piece::Close(name) => Fault::no_call(&format!("</{name:.40}> where {wanted} should be")),
        Piece::Text(_) => Fault::no_call(&format!("text where {wanted} should be")),
    }
}

/// XML 1.0, section 4.6.
fn predefined(name: &str) -> Result<&'static str, Fault> {
    Ok(match name {
        "lt" => "<",
        "gt" => ">",
        "amp" => "&",
        "apos" => "'",
        "quot" => "\"",
        _ => return Err(Fault::malformed("an entity that is not predefined")),
    })
}

/// XML 1.0, section 2.2: characters that no document has.
fn checked(text: Cow<'_, str>) -> Result<Cow<'_, str>, Fault> {
    match text.chars().find(|&c| !super::write::is_xml(c)) {
        None => Ok(text),
        Some(c) => Err(Fault::malformed(&format!(
            "the character U+{:04X}",
            c as u32
        ))),
    }
}

fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// `20260131T23:59:60`, or with hyphens, fractions and a zone, as `2026-01-31T23:59:60…`.
fn iso8601(text: &str) -> Option<String> {
    let (date, time) = text.split_once('T')?;
    let digits: String = date.chars().filter(|&c| c != '-').collect();
    let is_date = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let hyphens = date.len() - digits.len();
    // Only the characters of a time: what stands here goes into JSON as it is.
    let is_time = (8..=32).contains(&time.len())
        && time
            .bytes()
            .all(|b| b.is_ascii_digit() || b":.+-Z".contains(&b))
        && time.as_bytes()[2] == b':'
        && time.as_bytes()[5] == b':';
    (is_date && is_time && matches!(hyphens, 0 | 2)).then(|| {
        let (year, rest) = digits.split_at(4);
        let (month, day) = rest.split_at(2);
        format!("{year}-{month}-{day}T{time}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(inner: &str) -> Result<String, Fault> {
        let xml = format!(
            "<?xml version='1.0'?>\n<methodCall>\n<methodName>m</methodName>\n<params>\n{inner}</params>\n</methodCall>\n"
        );
        read(xml.as_bytes()).map(|call| call.params)
    }

    fn one(value: &str) -> Result<String, Fault> {
        params(&format!("<param>\n<value>{value}</value></param>\n"))
    }

    #[test]
    fn every_type_becomes_json() {
        for (value, json) in [
            ("<int>5</int>", "[5]"),
            ("<i4> -007 </i4>", "[-7]"),
            ("<int>+0</int>", "[0]"),
            ("<i8>1099511627776</i8>", "[1099511627776]"),
            ("<ex:i8>-0</ex:i8>", "[0]"),
            ("<boolean>1</boolean>", "[true]"),
            ("<boolean>0</boolean>", "[false]"),
            ("<double>3</double>", "[3.0]"),
            ("<double>-1e300</double>", "[-1e300]"),
            ("<string> a&lt;b&#x41;\"</string>", r#"[" a<bA\""]"#),
            ("<string/>", r#"[""]"#),
            (" plain ", r#"[" plain "]"#),
            ("", r#"[""]"#),
            ("<![CDATA[<x>&amp;]]>", r#"["<x>&amp;"]"#),
            ("<nil/>", "[null]"),
            ("<ex:nil></ex:nil>", "[null]"),
            ("\n <int>1</int>\n", "[1]"),
            (
                "<base64>\nAAEC\n/w==\n</base64>",
                r#"[{"$base64":"AAEC/w=="}]"#,
            ),
            (
                "<dateTime.iso8601>20260131T23:59:58</dateTime.iso8601>",
                r#"[{"$datetime":"2026-01-31T23:59:58"}]"#,
            ),
            (
                "<array><data>\n<value><int>1</int></value><value>b</value></data></array>",
                r#"[[1,"b"]]"#,
            ),
            ("<array><data/></array>", "[[]]"),
            ("<struct></struct>", "[{}]"),
            (
                "<struct><member><name>a</name><value><struct><member><name>b</name>\
                 <value><array><data/></array></value></member></struct></value></member></struct>",
                r#"[{"a":{"b":[]}}]"#,
            ),
            (
                "<struct><member><name>$base64</name><value>x</value></member></struct>",
                r#"[{"$literal":{"$base64":"x"}}]"#,
            ),
        ] {
            assert_eq!(one(value).as_deref(), Ok(json), "{value}");
        }
    }

    #[test]
    fn calls_without_parameters_are_calls() {
        for xml in [
            "<methodCall><methodName>a.b</methodName></methodCall>",
            "<methodCall><methodName> a.b </methodName><params/></methodCall>",
            "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?><!-- c --><methodCall>\
             <methodName>a.b</methodName><params></params></methodCall>",
        ] {
            let call = read(xml.as_bytes()).unwrap();
            assert_eq!((&*call.method, &*call.params), ("a.b", "[]"));
        }
    }

    #[test]
    fn bombs_and_foreign_entities_are_refused() {
        let bomb = "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>\
             <methodCall><methodName>&b;</methodName></methodCall>";
        let fault = read(bomb.as_bytes()).unwrap_err();
        assert_eq!(fault.code, -32700);
        assert!(fault.text.contains("document type"), "{}", fault.text);
        let foreign = one("&xxe;").unwrap_err();
        assert!(foreign.text.contains("entity"), "{}", foreign.text);
        let deep = "<value><array><data>".repeat(100_000);
        let nested = one(&format!("<array><data>{deep}")).unwrap_err();
        assert!(nested.text.contains("nested"), "{}", nested.text);
    }

    #[test]
    fn malformed_xml_and_xml_that_is_no_call_are_told_apart() {
        for xml in [
            "",
            "hello",
            "<",
            "<methodCall>",
            "<methodCall><methodName>m</methodNam></methodCall>",
            "<methodCall><methodName>m</methodName></methodCall",
            "<methodCall><methodName>m&#0;</methodName></methodCall>",
            "<methodCall><methodName>m\u{1}</methodName></methodCall>",
            "<methodCall><methodName>m&#8;</methodName></methodCall>",
        ] {
            let fault = read(xml.as_bytes()).unwrap_err();
            let is_text = fault.text.contains("text where");
            assert!(fault.code == -32700 || is_text, "{xml}: {fault:?}");
        }
        for xml in [
            "<x/>",
            "<methodCall/>",
            "<methodCall><methodName/></methodCall>",
            "<methodCall><methodName>m</methodName><params><x/></params></methodCall>",
            "<methodCall><methodName>m</methodName></methodCall><methodCall/>",
        ] {
            let fault = read(xml.as_bytes()).unwrap_err();
            assert_eq!(fault.code, -32600, "{xml}: {fault:?}");
        }
        assert_eq!(read(b"\xff").unwrap_err().code, -32701);
        let latin = "<?xml version='1.0' encoding='iso-8859-1'?><methodCall/>";
        assert_eq!(read(latin.as_bytes()).unwrap_err().code, -32701);
    }

    #[test]
    fn values_that_json_has_not_are_invalid_parameters() {
        for value in [
            "<double>nan</double>",
            "<double>inf</double>",
            "<int>1.5</int>",
            "<int></int>",
            "<boolean>2</boolean>",
            "<base64>?</base64>",
            "<dateTime.iso8601>yesterday</dateTime.iso8601>",
            "<dateTime.iso8601>20260131T23:59:5\"</dateTime.iso8601>",
            "<nil>x</nil>",
        ] {
            let fault = one(value).unwrap_err();
            assert!(matches!(fault.code, -32602 | -32600), "{value}: {fault:?}");
        }
        assert_eq!(one("<int>1</int>x").unwrap_err().code, -32600);
        assert_eq!(one("x<int>1</int>").unwrap_err().code, -32600);
    }
}
