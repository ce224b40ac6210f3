//! The part of an object that a GET asks for.

use crate::error::{Code, Error};
use serde::{Deserialize, Serialize};

/// One range of bytes (RFC 9110, 14.1.2). Several of them, and what is no range of bytes, S3 takes for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Range {
    /// `bytes=FIRST-LAST`, both included; without a last one to the object's end.
    From {
        /// The first byte's offset.
        first: u64,
        /// The last byte's offset, not before the first.
        last: Option<u64>,
    },
    /// `bytes=-LENGTH`: that many bytes at the object's end.
    Suffix(u64),
}

impl Range {
    /// The one range that a `Range` header asks for. What is not valid, or of other units, or several ranges, counts
    /// for nothing: the answer is the whole object, as S3's is.
    pub fn parse(text: &str) -> Option<Self> {
        let (unit, spec) = text.split_once('=')?;
        let (first, last) = spec.trim().split_once('-')?;
        let number = |text: &str| {
            // A number that is too large is larger than any object.
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        let range = match (first, last) {
            ("", last) => Self::Suffix(number(last)?),
            (first, "") => Self::From { first: number(first)?, last: None },
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                Self::From { first, last: Some((first <= last).then_some(last)?) }
            }
        };
        unit.trim().eq_ignore_ascii_case("bytes").then_some(range)
    }

    /// `x-amz-copy-source-range`: both ends are there, and must be.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(crate) fn parse_source(text: &str) -> Result<(u64, u64), Error> {
        match Self::parse(text) {
            Some(Self::From { first, last: Some(last) }) => Ok((first, last)),
            _ => Err(Error::argument(
                "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
                 zero-based offsets of the first and last bytes to copy",
                "x-amz-copy-source-range",
                text,
            )),
        }
    }

    /// Which bytes that are of an object of `size` bytes, from the first to before the last.
    ///
    /// # Errors
    /// `InvalidRange` with S3's elements and `Content-Range`: the object has no such bytes.
    pub fn resolve(self, size: u64) -> Result<std::ops::Range<u64>, Error> {
        match self {
            Self::From { first, last } if first < size => {
                let end = last.map_or(size, |last| last.saturating_add(1).min(size));
                Ok(first..end)
            }
            Self::Suffix(len) if len > 0 && size > 0 => Ok(size.saturating_sub(len)..size),
            Self::From { .. } | Self::Suffix(_) => Err(Error::new(Code::InvalidRange)
                .with("RangeRequested", self.to_string())
                .with("ActualObjectSize", size.to_string())
                .with_header("Content-Range", format!("bytes */{size}"))),
        }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::From { first, last: Some(last) } => write!(f, "bytes={first}-{last}"),
            Self::From { first, last: None } => write!(f, "bytes={first}-"),
            Self::Suffix(len) => write!(f, "bytes=-{len}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read_and_anything_else_is_none() {
        for text in ["bytes=0-0", "bytes=5-", "bytes=-7", "bytes=3-18446744073709551615"] {
            assert_eq!(Range::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Range::parse("Bytes = 1-2").unwrap().to_string(), "bytes=1-2");
        assert_eq!(Range::parse("bytes=99999999999999999999-"), Some(Range::From { first: u64::MAX, last: None }));
        for none in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=2-1",
            "bytes=0-1,3-4",
            "bytes=a-b",
            "lines=0-1",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=--1",
        ] {
            assert_eq!(Range::parse(none), None, "{none:?}");
        }
        assert_eq!(Range::parse_source("bytes=0-9").unwrap(), (0, 9));
        for wrong in ["bytes=0-", "bytes=-9", "bytes=9-0", "0-9"] {
            assert_eq!(Range::parse_source(wrong).unwrap_err().code(), &Code::InvalidArgument);
        }
    }

    #[test]
    fn ranges_end_where_the_object_ends() {
        let from = |first, last| Range::From { first, last };
        assert_eq!(from(0, Some(0)).resolve(10).unwrap(), 0..1);
        assert_eq!(from(9, Some(u64::MAX)).resolve(10).unwrap(), 9..10);
        assert_eq!(from(3, None).resolve(10).unwrap(), 3..10);
        assert_eq!(Range::Suffix(3).resolve(10).unwrap(), 7..10);
        assert_eq!(Range::Suffix(30).resolve(10).unwrap(), 0..10);
    }

    #[test]
    fn a_range_without_bytes_says_how_many_there_are() {
        for (range, size) in
            [(Range::Suffix(0), 10), (Range::Suffix(1), 0), (Range::From { first: 10, last: None }, 10)]
        {
            let error = range.resolve(size).unwrap_err();
            assert_eq!((error.code(), error.status()), (&Code::InvalidRange, 416));
            assert_eq!(error.elements()[0], ("RangeRequested".into(), range.to_string()));
            assert_eq!(error.elements()[1], ("ActualObjectSize".into(), size.to_string()));
            assert_eq!(error.headers(), [("Content-Range".to_owned(), format!("bytes */{size}"))]);
        }
    }
}
