//! Documents that are written.

use super::tree::NAMESPACE;
use std::fmt::{Display, Write as _};

/// The elements of a `PublicAccessBlockConfiguration`, in S3's order.
pub(crate) const PUBLIC_ACCESS: [&str; 4] =
    ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];

/// What every document begins with.
pub const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// A document that grows element by element.
pub(crate) struct Writer {
    text: String,
}

impl Writer {
    /// A document with that root, in S3's namespace; `fill` writes what is in it.
    pub(crate) fn document(root: &str, fill: impl FnOnce(&mut Self)) -> Vec<u8> {
        Self::with_root(&format!("{root} xmlns=\"{NAMESPACE}\""), root, fill)
    }

    /// The same without a namespace, as errors are.
    pub(crate) fn plain_document(root: &str, fill: impl FnOnce(&mut Self)) -> Vec<u8> {
        Self::with_root(root, root, fill)
    }

    fn with_root(tag: &str, root: &str, fill: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self { text: DECLARATION.to_owned() };
        writer.between(tag, root, fill);
        writer.text.into_bytes()
    }

    /// An element with others in it.
    pub(crate) fn within(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.between(name, name, fill);
    }

    /// An element whose tag has attributes.
    pub(crate) fn between(&mut self, tag: &str, name: &str, fill: impl FnOnce(&mut Self)) {
        let _ = write!(self.text, "<{tag}>");
        let empty = self.text.len();
        fill(self);
        if self.text.len() == empty {
            self.text.truncate(empty - 1);
            self.text.push_str("/>");
        } else {
            let _ = write!(self.text, "</{name}>");
        }
    }

    /// An element with text in it.
    pub(crate) fn text(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        self.within(name, |xml| xml.escaped(&value));
    }

    /// The same, if there is a value.
    pub(crate) fn optional(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// The root's own text.
    pub(crate) fn content(&mut self, value: &str) {
        self.escaped(value);
    }

    /// Characters that XML 1.0 cannot have are references, which is what S3 writes: clients that list such keys ask for
    /// `encoding-type=url`.
    fn escaped(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '"' => self.text.push_str("&quot;"),
                // A reader would make a line feed of a carriage return.
                '\t' | '\n' | ' '..='\u{7e}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'.. => self.text.push(c),
                other => {
                    let _ = write!(self.text, "&#x{:x};", u32::from(other));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_empty_elements_are_short() {
        let document = Writer::document("R", |xml| {
            xml.text("A", "a<b>&\"c\" ä\t\r\u{1}\u{85}\u{ffff}");
            xml.text("B", "");
            xml.optional("C", None::<&str>);
            xml.within("D", |xml| xml.text("E", 7));
        });
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<R xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                        <A>a&lt;b&gt;&amp;&quot;c&quot; ä\t&#xd;&#x1;&#x85;&#xffff;</A><B/><D><E>7</E></D></R>";
        assert_eq!(String::from_utf8(document).unwrap(), expected);
        assert_eq!(Writer::plain_document("R", |_| {}), format!("{DECLARATION}<R/>").into_bytes());
    }
}
