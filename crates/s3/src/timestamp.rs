use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// Whole seconds since 1970 in UTC, which is as exact as S3 tells times and compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(i64);

const HTTP: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
const ISO: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].000Z");

impl Timestamp {
    /// From seconds since 1970; what is before the year 0 or after 9999 becomes the nearest that can be written.
    pub fn from_unix(seconds: i64) -> Self {
        let (first, last) = (-62_167_219_200, 253_402_300_799);
        Self(seconds.clamp(first, last))
    }

    /// Seconds since 1970.
    pub fn unix(self) -> i64 {
        self.0
    }

    /// As in headers: `Wed, 12 Oct 2009 17:50:00 GMT`.
    pub fn http_date(self) -> String {
        self.format(HTTP)
    }

    /// As in XML: `2009-10-12T17:50:30.000Z`.
    pub fn iso8601(self) -> String {
        self.format(ISO)
    }

    fn format(self, format: &[BorrowedFormatItem<'_>]) -> String {
        let time = OffsetDateTime::from_unix_timestamp(self.0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        time.format(format).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_headers_and_xml_have_them() {
        let time = Timestamp::from_unix(784_111_777);
        assert_eq!(time.http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(time.iso8601(), "1994-11-06T08:49:37.000Z");
    }

    #[test]
    fn what_cannot_be_written_is_the_nearest_that_can() {
        assert_eq!(Timestamp::from_unix(i64::MAX).iso8601(), "9999-12-31T23:59:59.000Z");
        assert_eq!(Timestamp::from_unix(i64::MIN).iso8601(), "0000-01-01T00:00:00.000Z");
    }
}
