//! Text that is not ASCII in headers that are (RFC 2047), as S3 takes and answers user metadata: "character decoded as
//! per RFC 2047 before storing and encoded as per RFC 2047 to make them mail-safe before returning" (Amazon S3 User
//! Guide, "Working with object metadata").

use crate::escapes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The text of a header: its encoded words decoded, and all else as it is.
pub(crate) fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_word = false;
    while let Some(at) = rest.find("=?") {
        let (before, from) = rest.split_at(at);
        if let Some((decoded, len)) = word(from) {
            // White space between two words is not text.
            if !(after_word && before.trim().is_empty()) {
                out.push_str(before);
            }
            out.push_str(&decoded);
            (rest, after_word) = (&from[len..], true);
        } else {
            out.push_str(before);
            out.push_str("=?");
            (rest, after_word) = (&from[2..], false);
        }
    }
    out.push_str(rest);
    out
}

/// The text as a header has it: where it is not printable ASCII one encoded word, in the encoding that Java's
/// `MimeUtility` would choose, whose answers S3's documentation shows.
pub(crate) fn encoded(text: &str) -> String {
    let plain = |c: char| matches!(c, ' '..='~');
    // What looks like a word and is none would be decoded by whoever reads it.
    if text.chars().all(plain) && !text.contains("=?") {
        return text.to_owned();
    }
    let others = text.chars().filter(|c| !plain(*c)).count();
    if others * 2 > text.chars().count() {
        return format!("=?UTF-8?B?{}?=", STANDARD.encode(text));
    }
    let mut word = String::from("=?UTF-8?Q?");
    for byte in text.bytes() {
        match byte {
            b' ' => word.push('_'),
            b'=' | b'?' | b'_' | 0..b' ' | 0x7f.. => escapes::push_escape(&mut word, '=', byte),
            plain => word.push(plain.into()),
        }
    }
    word + "?="
}

/// The word at the beginning of the text, decoded, and its length. UTF-8 and ASCII are known, of others none.
fn word(text: &str) -> Option<(String, usize)> {
    let (charset, rest) = text.strip_prefix("=?")?.split_once('?')?;
    let (encoding, rest) = rest.split_once('?')?;
    let (content, behind) = rest.split_once("?=")?;
    if !["utf-8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known)) || content.contains([' ', '?']) {
        return None;
    }
    let bytes = match encoding {
        "B" | "b" => STANDARD.decode(content).ok()?,
        "Q" | "q" => quoted(content)?,
        _ => return None,
    };
    let decoded = String::from_utf8(bytes).ok()?;
    // A line's end in metadata would be one in an answer.
    decoded.chars().all(|c| !c.is_control()).then(|| (decoded, text.len() - behind.len()))
}

fn quoted(content: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(content.len());
    let mut rest = content.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'_' => b' ',
            b'=' => {
                let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit()? << 4 | digit()?
            }
            other => other,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the User Guide, "Working with object metadata". S3 takes the first one's bytes for ISO 8859-1, so that its
    /// answer is another text than was sent; here it is the same.
    #[test]
    fn the_examples_of_s3s_documentation() {
        let text = "ÄMÄZÕÑ S3";
        assert_eq!(decoded("=?UTF-8?Q?=C3=84M=C3=84Z=C3=95=C3=91_S3?="), text);
        assert_eq!(encoded(text), "=?UTF-8?Q?=C3=84M=C3=84Z=C3=95=C3=91_S3?=");
        // C1 controls are in S3's own answer to the first one: it is not decoded, and comes back as it was.
        let word = "=?UTF-8?B?w4PChE3Dg8KEWsODwpXDg8KRIFMz?=";
        assert_eq!(decoded(word), word);
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for text in ["", "plain text", "a=b?c_d", "=?not a word", "ä", "äöü", "a ü b", "=?UTF-8?Q?a?=", "日本語 x"]
        {
            assert_eq!(decoded(&encoded(text)), text);
            assert!(encoded(text).bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }

    #[test]
    fn what_is_no_word_stays() {
        for text in [
            "=?",
            "=?UTF-8?",
            "=?UTF-8?X?a?=",
            "=?UTF-8?Q?=zz?=",
            "=?UTF-8?B?!?=",
            "=?latin-1?Q?a?=",
            "=?UTF-8?Q?=FF?=",
            "=?UTF-8?Q?=0D=0A?=",
        ] {
            assert_eq!(decoded(text), text);
        }
        assert_eq!(decoded("a =?utf-8?q?b?= =?utf-8?b?Yw==?= d"), "a bc d");
    }
}
