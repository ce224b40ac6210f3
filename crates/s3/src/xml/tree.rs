//! The elements of a document. What S3's documents never have is refused: a document type and entities of its own,
//! other encodings than UTF-8, other namespaces, prefixes, processing instructions, text beside elements.

use crate::error::{Code, Error};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

/// S3's namespace, which clients may leave out.
pub(crate) const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// Of elements in one another: no document of S3 has more than five.
const MAX_DEPTH: usize = 8;
/// Of elements: 10,000 parts with number, tag and two checksums each are 50,001.
const MAX_ELEMENTS: usize = 65_536;
/// Of attributes in one tag: `xmlns` and `xsi:type` with its namespace are what there is.
const MAX_ATTRIBUTES: usize = 8;

/// An element without its attributes, which say nothing in the documents that are read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    /// Empty where it has children.
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// Reads a whole document, whose length has been looked at.
    pub(super) fn parse(document: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(document).map_err(|_| malformed())?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        read(text).ok_or_else(malformed)
    }

    fn new(name: String) -> Self {
        Self { name, text: String::new(), children: Vec::new() }
    }

    /// Text beside elements is white space between them, or is not S3's.
    fn closed(mut self) -> Option<Self> {
        if !self.children.is_empty() {
            if !is_space(&self.text) {
                return None;
            }
            self.text = String::new();
        }
        Some(self)
    }
}

/// S3's message for all that is wrong with a document.
pub(super) fn malformed() -> Error {
    Code::MalformedXML.into()
}

fn read(text: &str) -> Option<Element> {
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.check_comments = true;
    config.trim_markup_names_in_closing_tags = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut elements = 0;
    let mut is_first = true;
    loop {
        let at_start = std::mem::replace(&mut is_first, false);
        match reader.read_event().ok()? {
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().transpose().ok()?;
                let is_utf8 = encoding.is_none_or(|encoding| encoding.eq_ignore_ascii_case("utf-8"));
                if !at_start || !is_utf8 || declaration.version().ok()? != "1.0" {
                    return None;
                }
            }
            Event::Start(start) => {
                elements += 1;
                if root.is_some() || open.len() == MAX_DEPTH || elements > MAX_ELEMENTS {
                    return None;
                }
                check_attributes(&start, open.is_empty())?;
                open.push(Element::new(name_of(&start)?));
            }
            Event::End(_) => {
                let element = open.pop()?.closed()?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => root = Some(element),
                }
            }
            Event::Text(piece) => append(&mut open, &piece.xml10_content())?,
            Event::CData(piece) => {
                open.last()?;
                append(&mut open, &piece.xml10_content())?;
            }
            Event::GeneralRef(reference) => {
                let mut buffer = [0; 4];
                open.last()?;
                open.last_mut()?.text.push_str(meaning(&reference, &mut buffer)?);
            }
            Event::Comment(_) => {}
            Event::Eof => return if open.is_empty() { root } else { None },
            Event::Empty(_) | Event::PI(_) | Event::DocType(_) => return None,
        }
    }
}

/// The name, which has no prefix.
fn name_of(start: &BytesStart<'_>) -> Option<String> {
    let name = start.name().into_inner();
    let valid = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    (!name.is_empty() && name.chars().all(valid)).then(|| name.to_owned())
}

fn check_attributes(start: &BytesStart<'_>, is_root: bool) -> Option<()> {
    for (count, attribute) in start.attributes().enumerate() {
        let attribute = attribute.ok()?;
        let is_namespace = attribute.key.into_inner() == "xmlns";
        if count == MAX_ATTRIBUTES || is_namespace && (!is_root || &*attribute.value != NAMESPACE) {
            return None;
        }
    }
    Some(())
}

/// Text outside of the root is white space.
fn append(open: &mut [Element], piece: &str) -> Option<()> {
    if !piece.chars().all(is_character) {
        return None;
    }
    match open.last_mut() {
        Some(element) => element.text.push_str(piece),
        None if is_space(piece) => {}
        None => return None,
    }
    Some(())
}

/// What a reference stands for: one of XML's five names, or a character. S3's keys have also those that XML 1.0 has no
/// reference for, of which only NUL is none.
fn meaning<'b>(reference: &BytesRef<'_>, buffer: &'b mut [u8; 4]) -> Option<&'b str> {
    match reference.resolve_char_ref().ok()? {
        Some('\0') => None,
        Some(c) => Some(c.encode_utf8(buffer)),
        None => resolve_predefined_entity(&reference.xml10_content()),
    }
}

/// XML 1.0, `Char`.
fn is_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// XML 1.0, `S`.
fn is_space(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Element> {
        Element::parse(text.as_bytes()).ok()
    }

    fn leaf(name: &str, text: &str) -> Element {
        Element { name: name.to_owned(), text: text.to_owned(), children: Vec::new() }
    }

    #[test]
    fn documents_become_elements() {
        let text = "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- x --><D xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n \
                    <A>1</A><B/><C ><E> a&lt;b<![CDATA[&<]]>&#x41;&#1;\r\n</E ></C>\n</D>\n";
        let e = leaf("E", " a<b&<A\u{1}\n");
        let c = Element { name: "C".into(), text: String::new(), children: vec![e] };
        let children = vec![leaf("A", "1"), leaf("B", ""), c];
        assert_eq!(parse(text).unwrap(), Element { name: "D".into(), text: String::new(), children });
        assert_eq!(parse("<a> </a>").unwrap(), leaf("a", " "), "white space alone is text");
    }

    #[test]
    fn what_no_document_of_s3_has_is_refused() {
        for wrong in [
            "",
            " ",
            "x",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a/>x",
            "x<a/>",
            "<a/>&lt;",
            "&lt;<a/>",
            "<![CDATA[]]><a/>",
            "<a>x<b/></a>",
            "<a><b/>x</a>",
            "<!DOCTYPE a><a/>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>",
            "<a>&x;</a>",
            "<a>&nbsp;</a>",
            "<a>&#0;</a>",
            "<a>&#xD800;</a>",
            "<a>&#x110000;</a>",
            "<a>&#;</a>",
            "<a>& </a>",
            "<a>&lt</a>",
            "<a>\u{1}</a>",
            "<a>\u{ffff}</a>",
            "<?pi x?><a/>",
            "<a><?pi x?></a>",
            "<s3:a xmlns:s3=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>",
            "<a xmlns=\"http://example.com/\"/>",
            "<a><b xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/></a>",
            "<a x=\"1\" x=\"1\"/>",
            "<a x=1/>",
            "<a 1=\"2\" b/>",
            "<?xml version=\"1.0\" encoding=\"UTF-16\"?><a/>",
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a/>",
            "<?xml version=\"1.1\"?><a/>",
            " <?xml version=\"1.0\"?><a/>",
            "<a/><?xml version=\"1.0\"?>",
            "<a><!-- -- --></a>",
            "<a",
            "<a><![CDATA[</a>",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(Element::parse(b"<a>\xff</a>").unwrap_err().code(), &Code::MalformedXML);
        assert!(Element::parse(b"\xff\xfe<\0a\0/\0>\0").is_err());
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(parse(&nested(MAX_DEPTH)).is_some());
        assert_eq!(parse(&nested(MAX_DEPTH + 1)), None);
        assert_eq!(parse(&nested(100_000)), None);
        let flat = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count));
        assert!(parse(&flat(MAX_ELEMENTS - 1)).is_some());
        assert_eq!(parse(&flat(MAX_ELEMENTS)), None);
        let attributes = |count: usize| (0..count).fold(String::from("<a"), |all, n| format!("{all} a{n}=\"\"")) + "/>";
        assert!(parse(&attributes(MAX_ATTRIBUTES)).is_some());
        assert_eq!(parse(&attributes(MAX_ATTRIBUTES + 1)), None);
        assert_eq!(parse(&attributes(10_000)), None);
    }
}
