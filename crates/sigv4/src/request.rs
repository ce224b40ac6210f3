//! A request as it was received: headers and parameters, looked up by one set of rules.

use crate::canonical::{self, Escapes};
use crate::error::Error;

/// A request's line and headers, as the client sent them and before anything is made of them.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`.
    pub method: &'a str,
    /// Of the target what is before the `?`, with its escapes: `/bucket/a%20key`.
    pub path: &'a [u8],
    /// What is behind the `?`, without it; empty also where there is none.
    pub query: &'a [u8],
    /// All names and values in the order of their coming, Host among them. Names are of any case.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

/// A request's headers, each of which is valid HTTP.
#[derive(Clone, Copy)]
pub(crate) struct Headers<'a>(&'a [(&'a [u8], &'a [u8])]);

impl<'a> Headers<'a> {
    /// A line's end in a value would be another line of the canonical request, so nothing relies on the parser before
    /// it.
    pub(crate) fn new(headers: &'a [(&'a [u8], &'a [u8])]) -> Result<Self, Error> {
        let allowed = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        let valid = headers.iter().all(|(name, value)| {
            !name.is_empty() && name.iter().all(u8::is_ascii_graphic) && value.iter().all(allowed)
        });
        let apart = headers.iter().all(|(name, _)| !name.iter().any(|byte| b":;,".contains(byte)));
        if valid && apart { Ok(Self(headers)) } else { Err(Error::InvalidHeader) }
    }

    /// The values of that name, in lower case, in the order of their coming.
    pub(crate) fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named =
            move |(known, value): &(&'a [u8], &'a [u8])| known.eq_ignore_ascii_case(name.as_bytes()).then_some(*value);
        self.0.iter().filter_map(named)
    }

    /// The value of a header of which there may be one.
    pub(crate) fn one(self, name: &'static str) -> Result<Option<&'a [u8]>, Error> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() { Err(Error::Repeated { name }) } else { Ok(first.map(<[u8]>::trim_ascii)) }
    }

    /// [`Self::one`] as text; what is no UTF-8 is none of the values that such a header may have.
    pub(crate) fn text(self, name: &'static str) -> Result<Option<&'a str>, Error> {
        let text = |value| std::str::from_utf8(value).map_err(|_| Error::InvalidHeader);
        self.one(name)?.map(text).transpose()
    }

    /// All names in lower case, as often as they come.
    pub(crate) fn names(self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, _)| String::from_utf8_lossy(name).to_ascii_lowercase())
    }
}

/// A query's parameters, decoded, in the order of their coming.
pub(crate) struct Query(pub(crate) Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    /// A parameter without `=` has an empty value, and nothing between two `&` is no parameter. `+` is a space, as in
    /// forms: S3 decodes it so, and clients write `%2B` for a plus.
    pub(crate) fn parse(query: &[u8]) -> Result<Self, Error> {
        let parameter = |part: &[u8]| {
            let (name, value) = match part.iter().position(|byte| *byte == b'=') {
                Some(at) => (&part[..at], &part[at + 1..]),
                None => (part, &[][..]),
            };
            let decoded = |text| canonical::decoded(text, Escapes::AndPlus).ok_or(Error::InvalidUri);
            Ok((decoded(name)?, decoded(value)?))
        };
        query
            .split(|byte| *byte == b'&')
            .filter(|part| !part.is_empty())
            .map(parameter)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether there is a parameter of that name, in whatever case.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The value of a parameter of which there may be one, as text.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, Error> {
        let mut values = self.0.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        let Some((_, value)) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Error::Repeated { name });
        }
        std::str::from_utf8(value).map(Some).map_err(|_| Error::InvalidUri)
    }
}
