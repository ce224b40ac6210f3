//! When a request was signed.

use time::format_description::FormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// A second, in ISO 8601's basic form: `20130524T000000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp(OffsetDateTime);

const BASIC: &[FormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
/// As the Date header has it (RFC 9110, 5.6.7, the form that senders must use).
const OF_HTTP: &[FormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
const OF_ANSWERS: &[FormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

impl Timestamp {
    /// The second that this moment is in.
    pub(crate) fn at(time: OffsetDateTime) -> Self {
        Self(time.to_offset(time::UtcOffset::UTC))
    }

    /// The form of `x-amz-date`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'T' | b'Z'));
        digits.then(|| PrimitiveDateTime::parse(text, BASIC).ok()).flatten().map(|time| Self(time.assume_utc()))
    }

    /// The forms of `Date`: HTTP's, or that of `x-amz-date`.
    pub(crate) fn parse_date_header(text: &str) -> Option<Self> {
        let of_http = || PrimitiveDateTime::parse(text, OF_HTTP).ok().map(|time| Self(time.assume_utc()));
        Self::parse(text).or_else(of_http)
    }

    pub(crate) fn time(self) -> OffsetDateTime {
        self.0
    }

    /// The eight digits that a credential scope begins with.
    pub(crate) fn date(self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.format(BASIC).map_err(|_| std::fmt::Error)?)
    }
}

/// As the elements of S3's errors have times: `2013-05-24T00:00:00Z`.
pub(crate) fn for_answers(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC).format(OF_ANSWERS).expect("a date and a time are there")
}

/// Whether it is a date as credential scopes have it: eight digits of a day that there is.
pub(crate) fn is_scope_date(text: &str) -> bool {
    text.len() == 8 && Timestamp::parse(&format!("{text}T000000Z")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_the_published_examples_are_one_moment() {
        let basic = Timestamp::parse("20130524T000000Z").unwrap();
        assert_eq!(basic.time().unix_timestamp(), 1_369_353_600);
        assert_eq!(Timestamp::parse_date_header("Fri, 24 May 2013 00:00:00 GMT"), Some(basic));
        assert_eq!(Timestamp::parse_date_header("20130524T000000Z"), Some(basic));
        assert_eq!((basic.to_string(), basic.date()), ("20130524T000000Z".to_owned(), "20130524".to_owned()));
        assert_eq!(for_answers(basic.time()), "2013-05-24T00:00:00Z");
    }

    #[test]
    fn other_forms_are_refused() {
        let others = ["", "20130524", "20130524T000000", "20130524t000000z", "20131324T000000Z", "20130230T000000Z"];
        for text in others.into_iter().chain(["+0130524T000000Z", "2013-05-24T00:00:00Z", "20130524T240000Z"]) {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
        for text in ["Fri, 24 May 2013 00:00:00", "Fri, 32 May 2013 00:00:00 GMT", "24 May 2013 00:00:00 GMT"] {
            assert_eq!(Timestamp::parse_date_header(text), None, "{text}");
        }
        assert!(is_scope_date("20130524") && !is_scope_date("20130532") && !is_scope_date("2013052"));
    }
}
