//! An XML document, as far as XML-RPC needs one: tags and text, and nothing that could be expanded.

use super::fault::Fault;
use quick_xml::Reader;
use quick_xml::events::Event;
use std::borrow::Cow;

/// A piece of the document that matters.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    Open(Cow<'a, str>),
    Close(Cow<'a, str>),
    Text(Cow<'a, str>),
    End,
}

/// A document that is read from its beginning to its end.
pub(super) struct Document<'a> {
    reader: Reader<&'a [u8]>,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.check_comments = true;
        Document { reader }
    }

    pub(super) fn open(&mut self, wanted: &str) -> Result<(), Fault> {
        match self.tag()? {
            Piece::Open(name) if name == wanted => Ok(()),
            other => Err(unexpected(wanted, &other)),
        }
    }

    /// The reader has checked that it closes what is open.
    pub(super) fn close(&mut self, wanted: &str) -> Result<(), Fault> {
        match self.tag()? {
            Piece::Close(_) => Ok(()),
            other => Err(unexpected(&format!("the end of {wanted}"), &other)),
        }
    }

    pub(super) fn text_until_close(&mut self) -> Result<Cow<'a, str>, Fault> {
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
    pub(super) fn tag(&mut self) -> Result<Piece<'a>, Fault> {
        loop {
            match self.piece()? {
                Piece::Text(text) if is_blank(&text) => {}
                piece => return Ok(piece),
            }
        }
    }

    pub(super) fn piece(&mut self) -> Result<Piece<'a>, Fault> {
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

pub(super) fn unexpected(wanted: &str, found: &Piece<'_>) -> Fault {
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

pub(super) fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}
