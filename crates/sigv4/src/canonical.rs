//! The canonical request: one text for all the ways in which a request can be written (AWS IAM User Guide, "Create a
//! signed AWS API request", step 1; Amazon S3 API Reference, "Signature Calculations for the Authorization Header").

use crate::request::{Headers, Query};

/// What stands for another byte where something is decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// `%20`.
    Percent,
    /// `%20`, and `+` for a space.
    AndPlus,
}

/// The bytes that a text with escapes stands for; `None` where a `%` has no two hexadecimal digits behind it.
pub(crate) fn decoded(text: &[u8], escapes: Escapes) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'%' => {
                let (digits, tail) = tail.split_at_checked(2)?;
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).ok()?;
                bytes.push(byte[0]);
                rest = tail;
            }
            b'+' if escapes == Escapes::AndPlus => bytes.push(b' '),
            other => bytes.push(*other),
        }
    }
    Some(bytes)
}

/// Appends the bytes with all but the unreserved characters of RFC 3986, and those in `kept`, as escapes with digits in
/// upper case.
fn encode(bytes: &[u8], kept: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || kept.contains(byte) {
            text.push(char::from(*byte));
        } else {
            let digits = [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
            text.push('%');
            text.extend(digits);
        }
    }
}

/// S3's: each byte of the key encoded once, and nothing else done to it. `//` and dots are part of keys.
pub(crate) fn path_of_s3(decoded: &[u8]) -> String {
    let mut text = String::with_capacity(decoded.len() + 16);
    encode(decoded, b"/", &mut text);
    if text.is_empty() { "/".to_owned() } else { text }
}

/// All others': dot segments resolved, empty segments left out (RFC 3986, 5.2.4, as AWS's SDKs do it), and the path as
/// it was sent, with its escapes, encoded again.
pub(crate) fn path_of_others(path: &[u8]) -> String {
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let ends_in_a_directory = [&b"/"[..], b"/.", b"/.."].iter().any(|end| path.ends_with(end));
    let mut text = String::with_capacity(path.len() + 16);
    for segment in &segments {
        text.push('/');
        encode(segment, b"", &mut text);
    }
    if ends_in_a_directory || segments.is_empty() {
        text.push('/');
    }
    text
}

/// Parameters by their encoded names, those of one name by their encoded values; `left_out` is not among them, however
/// its name is written.
pub(crate) fn query(query: &Query, left_out: Option<&str>) -> String {
    let kept = |name: &[u8]| !left_out.is_some_and(|left_out| name.eq_ignore_ascii_case(left_out.as_bytes()));
    let encoded = |bytes: &[u8]| {
        let mut text = String::with_capacity(bytes.len());
        encode(bytes, b"", &mut text);
        text
    };
    let parameters = query.0.iter().filter(|(name, _)| kept(name));
    let mut parameters: Vec<_> = parameters.map(|(name, value)| (encoded(name), encoded(value))).collect();
    parameters.sort();
    let parameters: Vec<_> = parameters.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    parameters.join("&")
}

/// The signed headers, a line each: values of one name behind each other with commas, each trimmed and with one space
/// for several. A name without a header has no line.
pub(crate) fn headers(headers: Headers<'_>, signed: &[String]) -> Vec<u8> {
    let mut lines = Vec::new();
    for name in signed {
        let values: Vec<_> = headers.all(name).map(squeezed).collect();
        if !values.is_empty() {
            lines.extend_from_slice(name.as_bytes());
            lines.push(b':');
            lines.extend_from_slice(&values.join(&b","[..]));
            lines.push(b'\n');
        }
    }
    lines
}

/// Without white space at both ends, and with single spaces within.
fn squeezed(value: &[u8]) -> Vec<u8> {
    let mut bytes = value.trim_ascii().to_vec();
    bytes.dedup_by(|next, before| *next == b' ' && *before == b' ');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_query(text: &str) -> String {
        query(&Query::parse(text.as_bytes()).unwrap(), Some("X-Amz-Signature"))
    }

    #[test]
    fn parameters_are_sorted_by_encoded_name_and_then_by_value() {
        assert_eq!(of_query(""), "");
        assert_eq!(of_query("lifecycle"), "lifecycle=");
        assert_eq!(of_query("b=2&a=3&b=1&a&B=0"), "B=0&a=&a=3&b=1&b=2");
        assert_eq!(of_query("prefix=somePrefix&marker=someMarker&max-keys=20").len(), 47);
        assert_eq!(of_query("a=b=c&%41=1&&"), "A=1&a=b%3Dc");
        assert_eq!(of_query("p=a+b&q=a%20b&r=a%2Bb"), "p=a%20b&q=a%20b&r=a%2Bb");
        assert_eq!(of_query("p=%e1%88%b4/~"), "p=%E1%88%B4%2F~");
        assert_eq!(of_query("a=1&x-amz-signature=2&b=3"), "a=1&b=3");
        assert_eq!(of_query("a-=1&a=2"), "a=2&a-=1", "names are compared before `=` is behind them");
        for text in ["%", "a=%4", "a=%zz", "%u0041=1"] {
            assert!(Query::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_of_s3_are_encoded_once_and_not_normalized() {
        let of = |path: &str| path_of_s3(&decoded(path.as_bytes(), Escapes::Percent).unwrap());
        assert_eq!(of(""), "/");
        assert_eq!(of("/a//b/./../c"), "/a//b/./../c");
        assert_eq!(of("/a b+c=d%20e%2Bf%3d"), "/a%20b%2Bc%3Dd%20e%2Bf%3D");
        assert_eq!(of("/test%24file.text"), "/test%24file.text");
        assert_eq!(of("/%E1%88%B4~_-."), "/%E1%88%B4~_-.");
    }

    #[test]
    fn paths_of_others_are_normalized_and_encoded_twice() {
        let of = |path: &str| path_of_others(path.as_bytes());
        assert_eq!((of(""), of("/"), of("//")), ("/".into(), "/".into(), "/".into()));
        assert_eq!(of("/example/.."), "/");
        assert_eq!(of("/example1/example2/../.."), "/");
        assert_eq!(of("/./example"), "/example");
        assert_eq!(of("//example//"), "/example/");
        assert_eq!(of("/a%20b/\u{1234}"), "/a%2520b/%E1%88%B4");
    }

    #[test]
    fn values_of_one_name_are_joined_and_spaces_squeezed() {
        let sent: Vec<(&[u8], &[u8])> =
            vec![(b"My-Header", b"  a   b  "), (b"host", b"h"), (b"my-header", b"\tc\t"), (b"X", b"\"d  e\"")];
        let signed = ["host", "my-header", "none", "x"].map(str::to_owned);
        assert_eq!(
            String::from_utf8(headers(Headers::new(&sent).unwrap(), &signed)).unwrap(),
            "host:h\nmy-header:a b,c\nx:\"d e\"\n"
        );
        for (name, value) in [("a", "1\nb:2"), ("a\n", "1"), ("", "1"), ("a", "\0"), ("a b", ""), ("a:b", "")] {
            let headers: [(&[u8], &[u8]); 1] = [(name.as_bytes(), value.as_bytes())];
            assert!(Headers::new(&headers).is_err(), "{name:?}: {value:?}");
        }
    }
}
