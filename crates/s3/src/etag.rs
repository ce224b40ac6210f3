use serde::{Deserialize, Serialize};
use std::fmt;

/// An entity tag without its quotes: `d41d8cd98f00b204e9800998ecf8427e`, of a multipart upload `…-3`.
///
/// One that a client sends to compare may be anything and is then equal to none of the server's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ETag(String);

impl ETag {
    /// From text with quotes around it or without.
    pub fn new(text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Self(inner.unwrap_or(text).to_owned())
    }

    /// Without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As headers and XML have it, in quotes.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_do_not_matter_in_a_comparison() {
        assert_eq!(ETag::new("\"ab-2\""), ETag::new("ab-2"));
        assert_eq!(ETag::new("ab-2").quoted(), "\"ab-2\"");
        assert_eq!(ETag::new("\"").as_str(), "\"", "one quote is no pair");
    }
}
