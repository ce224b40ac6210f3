//! Continuation tokens: where a page of a list begins, in a form that nobody takes for a key.
//!
//! A token says no more than `start-after` does, so that whoever makes one up gets what they could ask for anyway.

use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Of the form, so that a later one can tell.
const VERSION: &str = "1";
/// A key or common prefix has up to 1024 bytes; a token of one a third more.
const MAX_LEN: usize = 1500;

pub(crate) fn encode(last: &str) -> String {
    format!("{VERSION}{}", URL_SAFE_NO_PAD.encode(last))
}

pub(crate) fn decode(token: &str) -> Result<String, Error> {
    let inner = token.strip_prefix(VERSION).filter(|_| token.len() <= MAX_LEN);
    let bytes = inner.and_then(|inner| URL_SAFE_NO_PAD.decode(inner).ok());
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::argument("The continuation token provided is incorrect", "continuation-token", token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_place_and_nothing_else_is_a_token() {
        for last in ["", "a", "a/b c", "ä\u{1}", &"k".repeat(1024)] {
            assert_eq!(decode(&encode(last)).unwrap(), last);
        }
        for wrong in ["", "2YQ", "1YQ==", "1Y", "1/w", "1_w", "a/b", &"1".repeat(1501)] {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
    }
}
