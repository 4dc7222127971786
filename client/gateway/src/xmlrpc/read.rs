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

use super::document::{Document, Piece, is_blank, unexpected};
use super::fault::Fault;
use super::scalar;
use muster_proto::limits::DEPTH_MAX;

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
    let mut parser = Parser {
        document: Document::new(text),
        params: String::with_capacity(text.len() / 2),
    };
    parser.call()
}

struct Parser<'a> {
    document: Document<'a>,
    /// What was read of the parameters, as JSON.
    params: String,
}

impl Parser<'_> {
    fn call(&mut self) -> Result<MethodCall, Fault> {
        self.document.open("methodCall")?;
        self.document.open("methodName")?;
        let method = self.document.text_until_close()?.trim().to_owned();
        if method.is_empty() {
            return Err(Fault::no_call("methodName is empty"));
        }
        self.params.push('[');
        match self.document.tag()? {
            Piece::Open(name) if name == "params" => {
                self.params()?;
                self.document.close("methodCall")?;
            }
            Piece::Close(_) => {}
            other => return Err(unexpected("params", &other)),
        }
        self.params.push(']');
        match self.document.tag()? {
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
            match self.document.tag()? {
                Piece::Open(name) if name == "param" => {
                    if count > 0 {
                        self.params.push(',');
                    }
                    count += 1;
                    self.document.open("value")?;
                    self.value(1)?;
                    self.document.close("param")?;
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
            match self.document.piece()? {
                Piece::Text(more) => text.push_str(&more),
                Piece::Open(kind) => break kind,
                // A value without a type is a string, white space and all.
                Piece::Close(_) => {
                    scalar::string(&text, &mut self.params);
                    return Ok(());
                }
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
                let text = self.document.text_until_close()?;
                scalar::scalar(scalar, &text, &mut self.params)?;
            }
        }
        self.document.close("value")
    }

    fn array(&mut self, depth: usize) -> Result<(), Fault> {
        self.document.open("data")?;
        self.params.push('[');
        let mut count = 0;
        loop {
            match self.document.tag()? {
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
        self.document.close("array")
    }

    fn object(&mut self, depth: usize) -> Result<(), Fault> {
        let start = self.params.len();
        self.params.push('{');
        let mut count = 0;
        let mut is_shape = false;
        loop {
            match self.document.tag()? {
                Piece::Open(name) if name == "member" => {
                    if count > 0 {
                        self.params.push(',');
                    }
                    count += 1;
                    self.document.open("name")?;
                    let name = self.document.text_until_close()?;
                    is_shape = SHAPES.contains(&&*name);
                    scalar::string(&name, &mut self.params);
                    self.params.push(':');
                    self.document.open("value")?;
                    self.value(depth + 1)?;
                    self.document.close("member")?;
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
