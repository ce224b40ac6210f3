//! A request as the router takes it: signature verified, escapes decoded, nothing else looked at.

use crate::error::{Code, Error};
use std::fmt::Display;
use std::str::FromStr;

/// A request's line and headers. Path and parameters are those of [`kmsfs_sigv4::Verified`], which are the ones that
/// the signature is of.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`.
    pub method: &'a str,
    /// Decoded once: `/bucket/a key`.
    pub path: &'a [u8],
    /// Names and values, decoded, in the order of their coming.
    pub query: &'a [(Vec<u8>, Vec<u8>)],
    /// All names and values in the order of their coming, Host among them. Names are of any case.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// Whether nobody has signed it.
    pub anonymous: bool,
}

/// Name and value.
type Header<'a> = (&'a [u8], &'a [u8]);

/// The server that a request has come to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The names by which clients know it, in lower case and without a port: behind `BUCKET.` each of them makes a
    /// request of the virtual-host style. Under all others the bucket is in the path.
    pub names: Vec<String>,
    /// Such as `us-east-1`.
    pub region: String,
    /// 12 digits.
    pub account_id: String,
}

/// Parameters of a signature, all others of whose names begin with `x-amz-` are headers.
const OF_SIGNATURES: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

impl<'a> Request<'a> {
    /// All headers: SDKs that presign put those of AWS into the query, where S3 takes them from.
    ///
    /// # Errors
    /// `InvalidArgument`: a parameter's value could be no header's.
    pub(crate) fn all_headers(&self) -> Result<Vec<Header<'a>>, Error> {
        let mut headers = self.headers.to_vec();
        for (name, value) in self.query {
            let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
            if !lower.starts_with("x-amz-") || OF_SIGNATURES.contains(&lower.as_str()) {
                continue;
            }
            if value.iter().any(u8::is_ascii_control) {
                return Err(Error::argument("The value cannot be a header", lower, String::from_utf8_lossy(value)));
            }
            headers.push((name.as_slice(), value.as_slice()));
        }
        Ok(headers)
    }
}

/// A request's headers.
#[derive(Clone, Copy)]
pub(crate) struct Headers<'a>(pub(crate) &'a [(&'a [u8], &'a [u8])]);

impl<'a> Headers<'a> {
    /// The value of that name, in lower case, without white space around it; empty is as good as none.
    ///
    /// # Errors
    /// `InvalidArgument`: it is there twice, or is not UTF-8.
    pub(crate) fn get(self, name: &str) -> Result<Option<&'a str>, Error> {
        Ok(self.value(name)?.filter(|value| !value.is_empty()))
    }

    /// The same, where an empty value is one too.
    pub(crate) fn value(self, name: &str) -> Result<Option<&'a str>, Error> {
        let mut values = self.0.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        let Some((_, value)) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Error::argument("The header may be there once", name, ""));
        }
        let text = std::str::from_utf8(value.trim_ascii());
        text.map(Some).map_err(|_| Error::argument("The header is not UTF-8", name, String::from_utf8_lossy(value)))
    }

    /// The value, made into something else.
    pub(crate) fn parse<T>(self, name: &str, make: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Error> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        let wrong = || Error::argument(format!("The value of the header {name} is not valid"), name, value);
        make(value).map(Some).ok_or_else(wrong)
    }

    /// `true` or `false`.
    pub(crate) fn is_true(self, name: &str) -> Result<bool, Error> {
        let flag = |value: &str| value.to_ascii_lowercase().parse().ok();
        Ok(self.parse(name, flag)?.unwrap_or(false))
    }

    /// Names in lower case that are there, and those of AWS alone.
    pub(crate) fn of_amazon(self) -> impl Iterator<Item = String> {
        let names = self.0.iter().map(|(name, _)| String::from_utf8_lossy(name).to_ascii_lowercase());
        names.filter(|name| name.starts_with("x-amz-"))
    }
}

/// A request's parameters.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a>(pub(crate) &'a [(Vec<u8>, Vec<u8>)]);

impl<'a> Query<'a> {
    /// # Errors
    /// `InvalidArgument`: it is there twice; `InvalidURI`: it is not UTF-8.
    pub(crate) fn get(self, name: &str) -> Result<Option<&'a str>, Error> {
        let mut values = self.0.iter().filter(|(known, _)| known == name.as_bytes());
        let Some((_, value)) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Error::argument("The parameter may be there once", name, ""));
        }
        std::str::from_utf8(value).map(Some).map_err(|_| Code::InvalidURI.into())
    }

    /// The value, where it is not empty.
    pub(crate) fn text(self, name: &str) -> Result<Option<&'a str>, Error> {
        Ok(self.get(name)?.filter(|value| !value.is_empty()))
    }

    /// Whether it is there, with a value or without.
    pub(crate) fn has(self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name.as_bytes())
    }

    /// A count: `max` at most, of which a larger value is as good as `max`; `max` also where it is not there.
    pub(crate) fn count(self, name: &str, max: u32) -> Result<u32, Error> {
        Ok(self.number::<i32>(name, 0)?.map_or(max, |number| number.unsigned_abs().min(max)))
    }

    /// A whole number from `least` on, written in digits.
    pub(crate) fn number<T: FromStr + PartialOrd + Display>(self, name: &str, least: T) -> Result<Option<T>, Error> {
        self.text(name)?.map(|text| number(name, text, least)).transpose()
    }
}

/// A whole number from `least` on, in digits without a sign.
pub(crate) fn number<T: FromStr + PartialOrd + Display>(name: &str, text: &str, least: T) -> Result<T, Error> {
    let parsed = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    parsed
        .filter(|number| *number >= least)
        .ok_or_else(|| Error::argument(format!("Provided {name} not an integer or within integer range"), name, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_is_there_once() {
        let headers: &[(&[u8], &[u8])] = &[
            (b"Range", b" bytes=0-1 "),
            (b"X-Amz-Acl", b"a"),
            (b"x-amz-acl", b"a"),
            (b"if-match", b"\xff"),
            (b"e", b""),
        ];
        let headers = Headers(headers);
        assert_eq!(headers.get("range").unwrap(), Some("bytes=0-1"));
        assert_eq!(headers.get("e").unwrap(), None);
        assert_eq!(headers.get("x-amz-acl").unwrap_err().code(), &Code::InvalidArgument);
        assert_eq!(headers.get("if-match").unwrap_err().code(), &Code::InvalidArgument);
        assert_eq!(headers.of_amazon().collect::<Vec<_>>(), ["x-amz-acl", "x-amz-acl"]);

        let pair = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
        let query = [pair("a", b"1"), pair("a", b"1"), pair("A", b"2"), pair("b", b"\xff"), pair("c", b"")];
        let query = Query(&query);
        assert!(query.get("a").is_err() && query.get("b").is_err());
        assert_eq!(
            (query.get("A").unwrap(), query.get("c").unwrap(), query.text("c").unwrap()),
            (Some("2"), Some(""), None)
        );
    }

    #[test]
    fn numbers_are_digits() {
        assert_eq!(number::<u32>("n", "7", 1).unwrap(), 7);
        for wrong in ["", "-1", "+1", "1.0", " 1", "0x1", "99999999999", "0"] {
            let error = number::<u32>("max-keys", wrong, 1).unwrap_err();
            assert_eq!(error.elements()[0].1, "max-keys", "{wrong:?}");
        }
        let query = [(b"max-keys".to_vec(), b"5000".to_vec())];
        assert_eq!(Query(&query).count("max-keys", 1000).unwrap(), 1000);
        assert_eq!(Query(&[]).count("max-keys", 1000).unwrap(), 1000);
    }
}
