//! Tags of objects and buckets.

use crate::error::{Code, Error};
use crate::escapes;
use serde::{Deserialize, Serialize};

/// Tags as a client gave them, in its order, no key twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags(Vec<(String, String)>);

impl Tags {
    /// Of an object (Amazon S3 User Guide, "Categorizing your objects using tags").
    pub const MAX_ON_OBJECT: usize = 10;
    /// Of a bucket (Amazon S3 User Guide, "Using cost allocation S3 bucket tags").
    pub const MAX_ON_BUCKET: usize = 50;
    /// In characters, as S3 counts them: UTF-16 code units.
    pub const MAX_KEY_LEN: usize = 128;
    /// In the same.
    pub const MAX_VALUE_LEN: usize = 256;

    /// Checks pairs by S3's rules; `max` is one of the two above.
    ///
    /// # Errors
    /// `InvalidTag` or `BadRequest`, in S3's words.
    pub fn new(pairs: Vec<(String, String)>, max: usize) -> Result<Self, Error> {
        if pairs.len() > max {
            let what = if max == Self::MAX_ON_OBJECT { "Object" } else { "Bucket" };
            return Err(Error::new(Code::BadRequest).saying(format!("{what} tags cannot be greater than {max}")));
        }
        for (at, (key, value)) in pairs.iter().enumerate() {
            check(key, value)?;
            if pairs[..at].iter().any(|(known, _)| known == key) {
                let message = "Cannot provide multiple Tags with the same key";
                return Err(Error::new(Code::InvalidTag).saying(message).with("TagKey", key.clone()));
            }
        }
        Ok(Self(pairs))
    }

    /// `x-amz-tagging`: `KEY=VALUE&KEY=VALUE`, encoded as in a query.
    ///
    /// # Errors
    /// As [`Self::new`]; `InvalidArgument` for another form.
    pub(crate) fn parse_header(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let message = "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters \
                           without tag name duplicates.";
            Error::argument(message, "x-amz-tagging", text)
        };
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((escapes::form_decoded(key)?, escapes::form_decoded(value)?))
        };
        let pairs: Option<Vec<_>> = text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
        Self::new(pairs.ok_or_else(wrong)?, Self::MAX_ON_OBJECT)
    }

    /// Keys and values.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn check(key: &str, value: &str) -> Result<(), Error> {
    let len = |text: &str| text.encode_utf16().count();
    if key.is_empty() || len(key) > Tags::MAX_KEY_LEN || !key.chars().all(is_allowed) {
        let message = "The TagKey you have provided is invalid";
        return Err(Error::new(Code::InvalidTag).saying(message).with("TagKey", key));
    }
    if len(value) > Tags::MAX_VALUE_LEN || !value.chars().all(is_allowed) {
        let message = "The TagValue you have provided is invalid";
        return Err(Error::new(Code::InvalidTag).saying(message).with("TagKey", key).with("TagValue", value));
    }
    if key.to_ascii_lowercase().starts_with("aws:") {
        let message = "System tags cannot be added/updated by requester";
        return Err(Error::new(Code::InvalidTag).saying(message).with("TagKey", key));
    }
    Ok(())
}

/// Letters, digits and spaces of any script, and these signs (AWS's pattern: `^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`).
fn is_allowed(c: char) -> bool {
    let is_space = c.is_whitespace() && !c.is_control();
    c.is_alphanumeric() || is_space || "_.:/=+-@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Result<Tags, Error> {
        Tags::new(vec![(key.into(), value.into())], Tags::MAX_ON_OBJECT)
    }

    #[test]
    fn tags_keep_their_order() {
        let pairs = vec![("b".to_owned(), "1".to_owned()), ("a".to_owned(), String::new())];
        assert_eq!(Tags::new(pairs.clone(), Tags::MAX_ON_OBJECT).unwrap().pairs(), pairs);
        assert!(one("größe + x", "a/b:c=d@e_f-g.h").is_ok());
    }

    #[test]
    fn the_header_is_a_query() {
        let tags = Tags::parse_header("a=1&b=x+y%2Bz&c&gr%C3%B6%C3%9Fe=").unwrap();
        let pairs: Vec<_> = tags.pairs().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x y+z"), ("c", ""), ("größe", "")]);
        for wrong in ["a=%", "a=%zz", "a=%ff", "=v", "a=1&a=2"] {
            assert!(Tags::parse_header(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn s3s_limits_hold() {
        assert!(one(&"k".repeat(128), &"v".repeat(256)).is_ok());
        for (key, value) in [("", "v"), (&"k".repeat(129)[..], "v"), ("k", &"v".repeat(257)), ("a\tb", ""), ("a", "<")]
        {
            assert_eq!(one(key, value).unwrap_err().code(), &Code::InvalidTag);
        }
        assert!(one("AWS:x", "v").unwrap_err().message().starts_with("System tags"));
        let twice = vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
        assert_eq!(Tags::new(twice, 10).unwrap_err().code(), &Code::InvalidTag);
        let many = |n: usize| (0..n).map(|n| (n.to_string(), String::new())).collect();
        assert!(Tags::new(many(10), Tags::MAX_ON_OBJECT).is_ok());
        assert_eq!(Tags::new(many(11), Tags::MAX_ON_OBJECT).unwrap_err().code(), &Code::BadRequest);
    }
}
