//! Percent-encoding, of headers that hold parts of a URL and of keys in lists.

/// Without escapes; `+` is a space, as S3 has it also in `x-amz-copy-source`. None where an escape is no escape or the
/// bytes are not UTF-8.
pub(crate) fn form_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// As S3 encodes keys with `encoding-type=url`: as forms do, but `/` stays.
pub(crate) fn list_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => encoded.push(byte.into()),
            b' ' => encoded.push('+'),
            _ => push_escape(&mut encoded, '%', byte),
        }
    }
    encoded
}

/// As a path has it: all but RFC 3986's unreserved characters and `/`.
pub(crate) fn path_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => encoded.push(byte.into()),
            _ => push_escape(&mut encoded, '%', byte),
        }
    }
    encoded
}

/// The sign and the byte in two digits.
pub(crate) fn push_escape(encoded: &mut String, sign: char, byte: u8) {
    let hex = |digit: u8| char::from(b"0123456789ABCDEF"[usize::from(digit)]);
    encoded.extend([sign, hex(byte >> 4), hex(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let key = "a b+c/d~e*(ä)\u{1}\u{10ffff}%2F&=";
        assert_eq!(form_decoded(&list_encoded(key)).unwrap(), key);
        assert_eq!(form_decoded(&path_encoded(key)).unwrap(), key);
        assert_eq!(list_encoded("a b+c/ä~*"), "a+b%2Bc/%C3%A4%7E*");
        assert_eq!(path_encoded("a b/ä"), "a%20b/%C3%A4");
    }

    #[test]
    fn escapes_are_two_digits() {
        for wrong in ["%", "%4", "%g0", "%+1", "a%f", "%ff", "%c3"] {
            assert_eq!(form_decoded(wrong), None, "{wrong}");
        }
        assert_eq!(form_decoded("%2f%2F+%2B").unwrap(), "// +");
    }
}
